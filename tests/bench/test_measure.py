import pytest

from okdhp_edge.bench.measure import (
    Candidate,
    Row,
    candidates,
    measure,
    recommend,
    slower_than_float,
)
from okdhp_edge.data.load import load
from okdhp_edge.errors import BackendError
from okdhp_edge.pose.metrics import Score
from okdhp_edge.system.latency import LatencyStats
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
    with pytest.raises(BackendError, match="no backend here can run"):
        measure(candidates(quantized.parent)[0], None, "", runs=10, threads=1,
                report=lambda *_: None)  # fmt: skip


def _row(backend, precision, p50, value=None):
    score = None if value is None else Score(value, value - 1, value + 1, 99, {})
    latency = LatencyStats(10, p50, 0.0, p50, p50, p50, p50, p50)
    candidate = Candidate(backend, precision, None, None)
    return Row(candidate, None, latency, 1.0, 1.0, score)


def test_the_fastest_within_the_gate_is_recommended():
    rows = [
        _row("openvino", "fp32", 3.0, 60.0), _row("openvino", "bf16", 1.5, 59.8),
        _row("openvino", "int8", 1.0, 57.0), _row("onnxruntime", "int8", 1.2, 59.1),
    ]  # fmt: skip
    assert recommend(rows, 1.0) is rows[3]
    assert recommend(rows, 0.5) is rows[1]
    assert recommend(rows, 5.0) is rows[2]
    assert recommend([_row("openvino", "int8", 1.0)], 1.0) is None


def test_int8_that_its_own_runtimes_float_beats_is_found():
    rows = [
        _row("openvino", "fp32", 3.0), _row("openvino", "bf16", 0.9), _row("openvino", "int8", 1.0),
        _row("onnxruntime", "fp32", 3.0), _row("onnxruntime", "int8", 2.0),
    ]  # fmt: skip
    assert slower_than_float(rows) == [(rows[2], rows[1])]
