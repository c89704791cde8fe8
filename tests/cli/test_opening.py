"""`--precision auto`: timed here, of what has passed its gate."""

import pytest

from okdhp_edge.backends import timing
from okdhp_edge.cli import opening
from okdhp_edge.errors import BackendError


def _timed(monkeypatch, **ms):
    def interleaved(loaded, crops, runs):
        names = [b.describe().precision.split()[0] for b in loaded]
        return [[int(ms[name] * 1e6)] for name in names]

    monkeypatch.setattr(timing, "interleaved", interleaved)


@pytest.mark.parametrize(("int8", "fp32", "chosen"), [(1.0, 3.0, "int8"), (4.0, 3.0, "fp32")])
def test_the_fastest_is_taken_and_the_times_are_said(
    quantized, monkeypatch, capsys, int8, fp32, chosen
):
    _timed(monkeypatch, int8=int8, fp32=fp32, bf16=9.0)
    loaded, asked = opening.open_chosen(str(quantized.parent), "openvino", "auto", 1)
    loaded.close()
    assert asked == chosen
    assert f"int8 {int8:.2f} ms" in capsys.readouterr().err


def test_bf16_is_spoken_of_but_not_taken_unmeasured(quantized, monkeypatch, capsys):
    _timed(monkeypatch, int8=2.0, fp32=3.0, bf16=1.0)
    times = opening._times(quantized.parent, "openvino", ["int8", "fp32", "bf16"], 1)
    if "bf16" not in times:
        pytest.skip("this CPU has no bf16")
    loaded, asked = opening.open_chosen(str(quantized.parent), "openvino", "auto", 1)
    loaded.close()
    assert asked == "int8" and "bf16 would be faster" in capsys.readouterr().err


def test_an_int8_file_that_does_not_load_is_an_error_not_a_change_to_float(quantized, monkeypatch):
    real = opening.open_backend

    def refuse(name, request):
        if request.precision == "int8":
            raise BackendError("broken", "export it again")
        return real(name, request)

    monkeypatch.setattr(opening, "open_backend", refuse)
    with pytest.raises(BackendError, match="broken"):
        opening.open_chosen(str(quantized.parent), "onnxruntime", "auto", 1)
