import pytest

from okdhp_edge.bench.measure import candidates, measure
from okdhp_edge.data.load import load
from okdhp_edge.errors import BackendError
from tests.helpers.tiny_models import DATA


def test_every_candidate_is_timed_and_judged_on_the_same_samples(quantized):
    tried, left_out = candidates(quantized.parent)
    names = {(c.backend, c.precision) for c in tried}
    assert {("openvino", "int8"), ("onnxruntime", "fp32"), ("pytorch", "fp32")} <= names
    reports = []
    rows, refused = measure(
        tried, load(DATA, "val"), "pck@0.2", runs=20, threads=1, report=lambda *a: reports.append(a)
    )
    assert len(rows) + len(refused) == len(tried)
    assert {r.score.persons for r in rows} == {12}
    assert all(r.latency.n == 20 for r in rows)
    by = {(r.candidate.backend, r.candidate.precision): r for r in rows}
    assert by["onnxruntime", "fp32"].score.value == pytest.approx(
        by["pytorch", "fp32"].score.value, abs=0.7
    )
    assert all(r.size_mb > 0 and r.load_ms > 0 for r in rows)
    assert all(":" in reason for reason in left_out + refused)


def test_without_data_only_speed_is_measured(quantized):
    tried = [c for c in candidates(quantized.parent)[0] if c.backend == "onnxruntime"]
    rows, _ = measure(tried, None, "", runs=10, threads=1, report=lambda *_: None)
    assert all(r.score is None for r in rows)
    assert rows[0].to_dict()["score"] is None


def test_nothing_that_loads_is_an_error(quantized, monkeypatch):
    from okdhp_edge.bench import measure as module

    def refuse(*_: object) -> None:
        raise BackendError("absent", "install it")

    monkeypatch.setattr(module, "open_backend", refuse)
    with pytest.raises(BackendError, match="nothing here can run"):
        measure(candidates(quantized.parent)[0], None, "", runs=10, threads=1,
                report=lambda *_: None)  # fmt: skip
