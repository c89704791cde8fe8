"""`--precision auto` and `--backend auto`: timed here, of what has passed its gate and is right."""

import shutil
from pathlib import Path

import pytest

from okdhp_edge.backends import choose, timing
from okdhp_edge.errors import BackendError, ModelError


def _timed(monkeypatch, **ms):
    """Milliseconds by precision, or by runtime and precision as in `openvino_int8`."""

    def time_interleaved(loaded, crops, runs):
        names = [(b.name, b.describe().precision.split()[0]) for b in loaded]
        return [[int(ms.get(f"{n}_{p}", ms.get(p, 99)) * 1e6)] for n, p in names]

    monkeypatch.setattr(timing, "time_interleaved", time_interleaved)


@pytest.mark.parametrize(("int8", "fp32", "chosen"), [(1.0, 3.0, "int8"), (4.0, 3.0, "fp32")])
def test_the_fastest_is_taken_and_the_times_are_said(quantized, monkeypatch, int8, fp32, chosen):
    _timed(monkeypatch, int8=int8, fp32=fp32, bf16=9.0)
    said = []
    loaded, asked = choose.load_backend(str(quantized.parent), "openvino", "auto", 1, said.append)
    loaded.close()
    assert asked == chosen
    assert any(f"int8 {int8:.2f} ms" in line for line in said)


def test_bf16_is_spoken_of_but_not_taken_unmeasured(quantized, monkeypatch):
    _timed(monkeypatch, int8=2.0, fp32=3.0, bf16=1.0)
    found = [choose.Candidate("openvino", p) for p in ("int8", "fp32", "bf16")]
    if found[2] not in choose._times(quantized.parent, found, 1)[0]:
        pytest.skip("this CPU has no bf16")
    said = []
    loaded, asked = choose.load_backend(str(quantized.parent), "openvino", "auto", 1, said.append)
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
        choose.load_backend(str(quantized.parent), "onnxruntime", "auto", 1, print)


def test_a_runtime_that_cannot_load_its_int8_file_leaves_it_to_the_other(quantized, monkeypatch):
    real = choose.open_backend

    def refuse(name, request):
        if name == "openvino" and request.precision == "int8":
            raise BackendError("no kernel", "take another")
        return real(name, request)

    monkeypatch.setattr(choose, "open_backend", refuse)
    _timed(monkeypatch, int8=1.0, fp32=3.0)
    said = []
    loaded, asked = choose.load_backend(str(quantized.parent), "auto", "auto", 1, said.append)
    loaded.close()
    assert (loaded.name, asked) == ("onnxruntime", "int8")
    assert any("openvino int8 is left out: no kernel" in line for line in said)


@pytest.mark.parametrize(
    ("ms", "taken"), [({1: 2.0, 2: 1.0, 4: 0.99}, 2), ({1: 1.0, 2: 1.1, 4: 2.0}, 1)]
)
def test_threads_are_timed_and_more_must_be_worth_it(quantized, monkeypatch, ms, taken):
    monkeypatch.setattr(choose, "usable_cores", lambda: 4)
    monkeypatch.setattr(
        timing,
        "time_interleaved",
        lambda loaded, *_: [[int(ms[b.describe().threads] * 1e6)] for b in loaded],
    )
    said = []
    loaded, _ = choose.load_backend(
        str(quantized.parent), "onnxruntime", "int8", None, said.append, tune_threads=True
    )
    with loaded:
        assert loaded.describe().threads == taken
    assert any(f"takes {taken}" in line for line in said)


def test_an_engine_is_for_tensorrt_alone(quantized, tmp_path):
    with pytest.raises(BackendError, match="runs no engine; add --backend tensorrt"):
        choose.load_backend(
            str(quantized.parent), "auto", "auto", 1, print, engine=tmp_path / "x.engine"
        )


@pytest.mark.parametrize(
    ("ms", "taken"),
    [
        ({"openvino_int8": 1.0, "onnxruntime_int8": 2.0}, ("openvino", "int8")),
        ({"openvino_int8": 3.0, "onnxruntime_int8": 2.0}, ("onnxruntime", "int8")),
        ({"openvino_int8": 3.0, "onnxruntime_int8": 2.0, "onnxruntime_fp32": 1.0},
         ("onnxruntime", "fp32")),
    ],
)  # fmt: skip
def test_the_fastest_runtime_is_taken_too(quantized, monkeypatch, ms, taken):
    _timed(monkeypatch, **ms)
    said = []
    loaded, asked = choose.load_backend(str(quantized.parent), "auto", "auto", 1, said.append)
    with loaded:
        assert (loaded.name, asked) == taken
    assert not any("pytorch" in line for line in said)


def _without_vnni(monkeypatch):
    monkeypatch.setattr(choose, "saturates_in_int8", lambda: True)
    monkeypatch.setattr(choose, "int8_units", lambda: "AVX2")


def _unsafe(quantized, tmp_path):
    """The model as an older version made it: nobody has shown that its sums fit."""
    folder = Path(shutil.copytree(quantized.parent, tmp_path / "old"))
    for card in (folder / "int8").glob("*/card.json"):
        card.write_text(
            card.read_text().replace('"saturation_free": true', '"saturation_free": null')
        )
    return folder


def test_what_may_saturate_here_is_left_out(quantized, monkeypatch, tmp_path):
    _timed(monkeypatch, openvino_int8=1.0, onnxruntime_int8=2.0)
    _without_vnni(monkeypatch)
    said = []
    folder = _unsafe(quantized, tmp_path)
    loaded, asked = choose.load_backend(str(folder), "auto", "auto", 1, said.append)
    with loaded:
        assert (loaded.name, asked) == ("onnxruntime", "int8")
    assert any("openvino int8 is left out" in line and "AVX2" in line for line in said)


def test_what_cannot_saturate_is_taken_anywhere(quantized, monkeypatch):
    _timed(monkeypatch, openvino_int8=1.0, onnxruntime_int8=2.0)
    _without_vnni(monkeypatch)
    said = []
    loaded, asked = choose.load_backend(str(quantized.parent), "auto", "auto", 1, said.append)
    with loaded:
        assert (loaded.name, asked) == ("openvino", "int8")
    assert not any("saturate" in line for line in said)


def test_who_asks_for_it_all_the_same_is_warned_in_one_line(quantized, monkeypatch, tmp_path):
    _without_vnni(monkeypatch)
    said = []
    folder = _unsafe(quantized, tmp_path)
    loaded, _ = choose.load_backend(str(folder), "openvino", "int8", 1, said.append)
    loaded.close()
    warned = [line for line in said if "may saturate" in line]
    assert len(warned) == 1 and "AVX2" in warned[0]


@pytest.mark.parametrize("precision", ["auto", "int8"])
def test_a_folder_with_somebody_elses_model_is_called_that(tmp_path, precision):
    (tmp_path / "model.onnx").write_bytes(b"theirs")
    with pytest.raises(ModelError, match=r"model.onnx and no card.json"):
        choose.load_backend(str(tmp_path), "auto", precision, 1, lambda _: None)
