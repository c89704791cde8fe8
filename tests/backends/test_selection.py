"""`--precision auto` and `--backend auto`: timed here, of what has passed its gate and is right."""

import json
import shutil
from pathlib import Path

import pytest

from okdhp_edge.artifacts import model_store
from okdhp_edge.artifacts.card import read_card
from okdhp_edge.backends import remembered, selection, start_time, timing, trials
from okdhp_edge.backends.base import BackendConfig
from okdhp_edge.backends.registry import RuntimeChoice
from okdhp_edge.errors import BackendError, ModelError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache of the test's own, where nothing is remembered."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "okdhp-edge" / "selections"


def _open(model, backend, precision, threads, said, **options):
    """A loaded model; all that is told goes to `said`."""
    return selection.load_backend(
        str(model), backend, precision, threads, said.append, detail=said.append, **options
    )


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
    loaded, asked, _ = _open(quantized.parent, "openvino", "auto", 1, said)
    loaded.close()
    assert asked == chosen
    assert any(f"int8 {int8:.2f} ms" in line for line in said)


def test_bf16_is_spoken_of_but_not_taken_unmeasured(quantized, monkeypatch):
    _timed(monkeypatch, int8=2.0, fp32=3.0, bf16=1.0)
    bf16 = RuntimeChoice("openvino", "bf16")
    folder = model_store.find_artifact(quantized.parent, *bf16)
    if not trials.time_runtimes({bf16: BackendConfig(folder, read_card(folder), "bf16")})[0]:
        pytest.skip("this CPU has no bf16")
    said = []
    loaded, asked, _ = _open(quantized.parent, "openvino", "auto", 1, said)
    loaded.close()
    assert asked == "int8" and any("bf16 would be faster" in line for line in said)


def test_an_int8_file_that_does_not_load_is_an_error_not_a_change_to_float(quantized, monkeypatch):
    real = trials.open_backend

    def refuse(name, request):
        if request.precision == "int8":
            raise BackendError("broken", "export it again")
        return real(name, request)

    monkeypatch.setattr(trials, "open_backend", refuse)
    with pytest.raises(BackendError, match="broken"):
        selection.load_backend(str(quantized.parent), "onnxruntime", "auto", 1, print)


def test_a_runtime_that_cannot_load_its_int8_file_leaves_it_to_the_other(quantized, monkeypatch):
    real = trials.open_backend

    def refuse(name, request):
        if name == "openvino" and request.precision == "int8":
            raise BackendError("no kernel", "take another")
        return real(name, request)

    monkeypatch.setattr(trials, "open_backend", refuse)
    _timed(monkeypatch, int8=1.0, fp32=3.0)
    said = []
    loaded, asked, _ = _open(quantized.parent, "auto", "auto", 1, said)
    loaded.close()
    assert (loaded.name, asked) == ("onnxruntime", "int8")
    assert any("openvino int8 is left out: no kernel" in line for line in said)


@pytest.mark.parametrize(
    ("ms", "taken"), [({1: 2.0, 2: 1.0, 4: 0.99}, 2), ({1: 1.0, 2: 1.1, 4: 2.0}, 1)]
)
def test_threads_are_timed_and_more_must_be_worth_it(quantized, monkeypatch, ms, taken):
    monkeypatch.setattr(trials, "count_usable_cores", lambda: 4)
    monkeypatch.setattr(
        timing,
        "time_interleaved",
        lambda loaded, *_: [[int(ms[b.describe().threads] * 1e6)] for b in loaded],
    )
    said = []
    loaded, *_ = selection.load_backend(
        str(quantized.parent),
        "onnxruntime",
        "int8",
        None,
        said.append,
        tune_threads=True,
        detail=said.append,
    )
    with loaded:
        assert loaded.describe().threads == taken
    assert any(f"using {taken}" in line for line in said)


def test_an_engine_is_for_tensorrt_alone(quantized, tmp_path):
    with pytest.raises(BackendError, match="cannot load engines; add --backend tensorrt"):
        selection.load_backend(
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
    loaded, asked, _ = _open(quantized.parent, "auto", "auto", 1, said)
    with loaded:
        assert (loaded.name, asked) == taken
    assert not any("pytorch" in line for line in said)


def _without_vnni(monkeypatch):
    monkeypatch.setattr(selection, "saturates_in_int8", lambda: True)
    monkeypatch.setattr(selection, "detect_int8_units", lambda: "AVX2")


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
    loaded, asked, _ = _open(folder, "auto", "auto", 1, said)
    with loaded:
        assert (loaded.name, asked) == ("onnxruntime", "int8")
    assert any("openvino int8 is left out" in line and "AVX2" in line for line in said)


def test_what_cannot_saturate_is_taken_anywhere(quantized, monkeypatch):
    _timed(monkeypatch, openvino_int8=1.0, onnxruntime_int8=2.0)
    _without_vnni(monkeypatch)
    said = []
    loaded, asked, _ = _open(quantized.parent, "auto", "auto", 1, said)
    with loaded:
        assert (loaded.name, asked) == ("openvino", "int8")
    assert not any("saturate" in line for line in said)


def test_who_asks_for_it_all_the_same_is_warned_in_one_line(quantized, monkeypatch, tmp_path):
    _without_vnni(monkeypatch)
    said = []
    folder = _unsafe(quantized, tmp_path)
    loaded, *_ = _open(folder, "openvino", "int8", 1, said)
    loaded.close()
    warned = [line for line in said if "may saturate" in line]
    assert len(warned) == 1 and "AVX2" in warned[0]


@pytest.mark.parametrize("precision", ["auto", "int8"])
def test_a_folder_with_somebody_elses_model_is_called_that(tmp_path, precision):
    (tmp_path / "model.onnx").write_bytes(b"theirs")
    with pytest.raises(ModelError, match=r"model.onnx and no card.json"):
        selection.load_backend(str(tmp_path), "auto", precision, 1, lambda _: None)


def _load(quantized, said, **options):
    loaded = _open(quantized.parent, "auto", "auto", None, said, tune_threads=True, **options)
    loaded.backend.close()
    return loaded.selection


def test_a_second_start_times_nothing_and_takes_the_same(quantized, monkeypatch, cache):
    _timed(monkeypatch, openvino_int8=2.0, onnxruntime_int8=1.0)
    first = _load(quantized, [])
    assert not first.is_remembered and len(list(cache.glob("*.json"))) == 1

    def refuse(*_):
        raise AssertionError("timed again")

    monkeypatch.setattr(timing, "time_interleaved", refuse)
    said = []
    second = _load(quantized, said)
    assert second.is_remembered and (second.choice, second.threads) == (first.choice, first.threads)
    assert any("s ago" in line for line in said)
    assert second.to_dict()["how"] == "remembered"
    with pytest.raises(AssertionError, match="timed again"):
        _load(quantized, [], retime=True)


@pytest.mark.parametrize("what", ["files", "version", "cpu", "cores"])
def test_another_file_version_or_machine_is_timed_anew(quantized, monkeypatch, what, cache):
    _timed(monkeypatch, openvino_int8=2.0)
    _load(quantized, [])
    if what == "files":
        real = selection.read_card
        monkeypatch.setattr(selection, "read_card", lambda folder: real(folder).model_copy(
            update={"files": {"model.onnx": "0" * 64}}))  # fmt: skip
    elif what == "version":
        monkeypatch.setattr(remembered, "_find_version", lambda _: "99")
    else:
        real_machine = remembered.describe_machine()
        monkeypatch.setattr(remembered, "describe_machine", lambda: real_machine | {what: "other"})
    assert not _load(quantized, []).is_remembered
    assert len(list(cache.glob("*.json"))) == 2


def _started(monkeypatch, **ms):
    """Milliseconds to start by runtime; None: cannot be timed."""
    monkeypatch.setattr(start_time, "time_start", lambda _, choice: ms[choice.backend])


@pytest.mark.parametrize(
    ("images", "chosen"),
    [(None, "openvino"), (1, "onnxruntime"), (99, "onnxruntime"), (101, "openvino")],
)
def test_of_few_images_the_runtime_that_starts_sooner_is_taken(
    quantized, monkeypatch, images, chosen
):
    _timed(monkeypatch, openvino_int8=1.0, onnxruntime_int8=2.0)
    _started(monkeypatch, openvino=900, onnxruntime=500)
    first, second = _load(quantized, [], images=images), _load(quantized, [], images=images)
    assert second.is_remembered and not first.is_remembered
    for found in (first, second):
        assert found.choice == RuntimeChoice(chosen, "int8")
        assert found.measured.latency_ms == (1.0 if chosen == "openvino" else 2.0)


def test_one_trial_serves_any_number_of_images(quantized, monkeypatch):
    _timed(monkeypatch, openvino_int8=1.0, onnxruntime_int8=2.0)
    _started(monkeypatch, openvino=900, onnxruntime=500)
    assert _load(quantized, [], images=1).choice.backend == "onnxruntime"
    found = _load(quantized, [], images=1000)
    assert found.is_remembered and found.choice.backend == "openvino"


def test_requested_threads_hold_for_the_runtime_that_starts_sooner(quantized, monkeypatch):
    _timed(monkeypatch, openvino_int8=1.0, onnxruntime_int8=2.0)
    _started(monkeypatch, openvino=900, onnxruntime=500)
    loaded = _open(quantized.parent, "auto", "auto", 1, [], images=1)
    loaded.backend.close()
    assert (loaded.selection.choice.backend, loaded.selection.threads) == ("onnxruntime", 1)


def test_without_times_to_start_the_fastest_is_taken(quantized, monkeypatch):
    _timed(monkeypatch, openvino_int8=1.0, onnxruntime_int8=2.0)
    _started(monkeypatch, openvino=None, onnxruntime=None)
    assert _load(quantized, [], images=1).choice.backend == "openvino"


def test_a_start_is_timed_in_a_process_that_loads_the_model(quantized, tmp_path):
    choice = RuntimeChoice("onnxruntime", "int8")
    folder = model_store.find_artifact(quantized.parent, *choice)
    assert start_time.time_start(folder, choice) > 10
    assert start_time.time_start(tmp_path, choice) is None


def _record(**changes):
    fields = {
        "backend": "openvino", "precision": "int8", "threads": 1, "latency_ms": 1, "times_ms": {},
        "measured_at": "2026-11-29T00:00:00Z",
    }  # fmt: skip
    return json.dumps(fields | changes)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        '{"backend": "openvino"}',
        "\0" * 99,
        "x" * (1 << 21),
        _record(backend="paint"),
        _record(measured_at="2001-01-01T00:00:00Z"),
        _record(measured_at="yesterday"),
        _record(latency_ms=-1),
        _record(threads=0),
    ],
    ids=range(11),
)
def test_a_broken_foreign_or_old_record_is_timed_anew(quantized, monkeypatch, content, cache):
    _timed(monkeypatch, openvino_int8=2.0)
    _load(quantized, [])
    (file,) = cache.glob("*.json")
    file.write_text(content)
    assert not _load(quantized, []).is_remembered


def test_a_cache_that_cannot_be_written_is_no_error(quantized, monkeypatch, tmp_path):
    _timed(monkeypatch, openvino_int8=2.0)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert not _load(quantized, []).is_remembered
    assert not _load(quantized, []).is_remembered


def test_a_remembered_runtime_that_no_longer_loads_is_timed_anew(quantized, monkeypatch, cache):
    _timed(monkeypatch, openvino_int8=1.0, onnxruntime_int8=2.0)
    assert _load(quantized, []).choice.backend == "openvino"
    real = trials.open_backend

    def refuse(name, request):
        if name == "openvino":
            raise BackendError("gone", "install it")
        return real(name, request)

    monkeypatch.setattr(trials, "open_backend", refuse)
    monkeypatch.setattr(selection, "open_backend", refuse)
    assert _load(quantized, []).choice.backend == "onnxruntime"


def test_a_slower_run_forgets_what_is_remembered(quantized, monkeypatch, cache):
    _timed(monkeypatch, openvino_int8=2.0)
    _load(quantized, [])
    known, said = _load(quantized, []), []
    known.check_against(2.9, said.append)
    assert not said and list(cache.glob("*.json"))
    known.check_against(3.1, said.append)
    assert "the next run measures again" in said[0] and not list(cache.glob("*.json"))
    _load(quantized, []).check_against(99, said.append)
    assert len(said) == 1 and list(cache.glob("*.json"))  # just measured: it stays
    _load(quantized, []).check_against(1.3, said.append)
    assert len(said) == 2 and not list(cache.glob("*.json"))  # the machine was busy
