"""`--precision auto`: timed here, of what has passed its gate."""

import pytest

from okdhp_edge.backends import choose, timing
from okdhp_edge.errors import BackendError


def _timed(monkeypatch, **ms):
    def interleaved(loaded, crops, runs):
        names = [b.describe().precision.split()[0] for b in loaded]
        return [[int(ms[name] * 1e6)] for name in names]

    monkeypatch.setattr(timing, "interleaved", interleaved)


@pytest.mark.parametrize(("int8", "fp32", "chosen"), [(1.0, 3.0, "int8"), (4.0, 3.0, "fp32")])
def test_the_fastest_is_taken_and_the_times_are_said(quantized, monkeypatch, int8, fp32, chosen):
    _timed(monkeypatch, int8=int8, fp32=fp32, bf16=9.0)
    said = []
    loaded, asked = choose.open_chosen(str(quantized.parent), "openvino", "auto", 1, said.append)
    loaded.close()
    assert asked == chosen
    assert any(f"int8 {int8:.2f} ms" in line for line in said)


def test_bf16_is_spoken_of_but_not_taken_unmeasured(quantized, monkeypatch):
    _timed(monkeypatch, int8=2.0, fp32=3.0, bf16=1.0)
    times = choose._times(quantized.parent, "openvino", ["int8", "fp32", "bf16"], 1)
    if "bf16" not in times:
        pytest.skip("this CPU has no bf16")
    said = []
    loaded, asked = choose.open_chosen(str(quantized.parent), "openvino", "auto", 1, said.append)
    loaded.close()
    assert asked == "int8" and any("bf16 would be faster" in line for line in said)


def test_an_int8_file_that_does_not_load_is_an_error_not_a_change_to_float(quantized, monkeypatch):
    real = choose.open_backend

    def refuse(name, request):
        if request.precision == "int8":
            raise BackendError("broken", "export it again")
        return real(name, request)

    monkeypatch.setattr(choose, "open_backend", refuse)
    with pytest.raises(BackendError, match="broken"):
        choose.open_chosen(str(quantized.parent), "onnxruntime", "auto", 1, print)


@pytest.mark.parametrize(
    ("ms", "taken"), [({1: 2.0, 2: 1.0, 4: 0.99}, 2), ({1: 1.0, 2: 1.1, 4: 2.0}, 1)]
)
def test_threads_are_timed_and_more_must_be_worth_it(quantized, monkeypatch, ms, taken):
    monkeypatch.setattr(choose, "usable_cores", lambda: 4)
    monkeypatch.setattr(
        timing,
        "interleaved",
        lambda loaded, *_: [[int(ms[b.describe().threads] * 1e6)] for b in loaded],
    )
    said = []
    loaded, _ = choose.open_chosen(
        str(quantized.parent), "onnxruntime", "int8", None, said.append, tune_threads=True
    )
    with loaded:
        assert loaded.describe().threads == taken
    assert any(f"takes {taken}" in line for line in said)


def test_an_engine_is_for_tensorrt_alone(quantized, tmp_path):
    with pytest.raises(BackendError, match="runs no engine; add --backend tensorrt"):
        choose.open_chosen(
            str(quantized.parent), "auto", "auto", 1, print, engine=tmp_path / "x.engine"
        )
