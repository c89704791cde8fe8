import sys

from okdhp_edge import doctor
from okdhp_edge.backends.registry import REGISTRY
from okdhp_edge.system import hardware
from tests.conftest import REPOSITORY


def test_every_runtime_is_examined():
    assert set(REGISTRY) <= {f.what for f in doctor.run_checks()}


def test_what_is_missing_comes_with_the_command_that_adds_it(monkeypatch):
    monkeypatch.setattr(doctor, "is_installed", lambda _: False)
    by = {f.what: f for f in doctor.run_checks()}
    for name, runtime in REGISTRY.items():
        if name != "opencv":  # without it nothing here runs
            assert by[name].remedy == runtime.install


def _flags(monkeypatch, flags):
    for module in (doctor, hardware):
        monkeypatch.setattr(module, "read_cpu_flags", lambda: frozenset(flags))


def test_the_units_that_make_int8_fast_are_named(monkeypatch):
    _flags(monkeypatch, {"avx512_vnni", "amx_bf16"})
    by = {f.what: f for f in doctor.run_checks()}
    assert by["int8 on the cpu"].state == "AVX512-VNNI"
    assert by["bf16 on the cpu"].state == "AMX"
    _flags(monkeypatch, {"avx2"})
    by = {f.what: f for f in doctor.run_checks()}
    assert by["int8 on the cpu"].state.startswith("AVX2 only")
    _flags(monkeypatch, {"sse2"})
    by = {f.what: f for f in doctor.run_checks()}
    assert by["int8 on the cpu"].state == "no AVX2"
    assert "measure with `okdhp-edge bench`" in by["int8 on the cpu"].remedy


def test_it_tells_versions_video_readers_extras_and_library_paths(monkeypatch):
    monkeypatch.setenv("LD_LIBRARY_PATH", "/opt/trt/lib")
    by = {f.what: f for f in doctor.run_checks()}
    assert "okdhp-edge" in by["software"].state
    assert "FFmpeg" in by["opencv"].state
    assert "LD_LIBRARY_PATH /opt/trt/lib" in by["libraries"].state
    assert {"web", "screen", "cameras", "window"} <= by.keys()


def test_a_library_that_breaks_its_process_is_told(monkeypatch, tmp_path):
    """In the child a module of this name is found first, and dies."""
    broken = tmp_path / "openvino" / "__init__.py"
    broken.parent.mkdir()
    broken.write_text("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{REPOSITORY}")
    found = doctor._ask_devices("openvino")
    assert "crashes when queried (exit code -11)" in found.state and found.remedy


def test_an_opencv_that_does_not_load_is_a_line_and_not_the_end(monkeypatch):
    """The one with windows, on a server without libGL."""
    monkeypatch.setitem(sys.modules, "cv2", None)
    monkeypatch.delitem(sys.modules, "okdhp_edge.run.sinks.window", raising=False)
    assert "opencv-python-headless" in doctor._check_opencv().remedy
    assert doctor._check_display().state == "OpenCV cannot be imported"


def test_a_wayland_display_is_one(monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.setenv("WAYLAND_DISPLAY", "wayland-0")
    assert doctor._check_display().state in ("possible", "OpenCV was built without windows")
