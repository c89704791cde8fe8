"""Check what this machine can run and how to install what is missing."""

import importlib.metadata
import importlib.util
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from okdhp_edge import __version__
from okdhp_edge.backends.registry import REGISTRY, get_backend_class, is_installed
from okdhp_edge.system.child import read_last_words, run_module
from okdhp_edge.system.hardware import describe_machine, detect_int8_units, read_cpu_flags

_INT8_DESCRIPTIONS = {
    "AVX512": "AVX512 without VNNI: 16-bit sums of product pairs",
    "AVX2": "AVX2 only: 16-bit sums of product pairs",
    "SSE": "no AVX2",
    "NEON": "NEON without dot product",
}  # others have a unit of their own
_CHILD_TIMEOUT_S = 60
_SLOW_INT8_UNITS = ("SSE", "unknown")
_MIN_OPENVINO_GLIBC = (2, 35)
_BF16_UNITS = {"avx512_bf16": "AVX512-BF16", "amx_bf16": "AMX", "bf16": "bf16"}
_SLOW_INT8_REMEDY = "INT8 may be no faster than float here: measure with `okdhp-edge bench`"
_NO_INT8_REMEDY = "no INT8 support on this CPU: use onnxruntime"
_OPENCV = "opencv"
"""Listed with its video readers."""


@dataclass(frozen=True)
class CheckResult:
    """Result of one check; `remedy` is empty if nothing is missing."""

    what: str
    state: str
    remedy: str = ""


def run_checks() -> list[CheckResult]:
    """Check the CPU, runtimes, GPUs, cameras and display. Loads no model."""
    return [
        _check_software(), _check_cpu(), _check_int8(),
        _check_unit("bf16 on the cpu", _BF16_UNITS, ""),
        *(_check_runtime(name) for name in REGISTRY if name != _OPENCV), *_check_devices(),
        *_check_packages(), _check_opencv(),
        _check_cameras(), _check_display(), _check_library_paths(),
    ]  # fmt: skip


def _check_software() -> CheckResult:
    machine = describe_machine()
    state = f"okdhp-edge {__version__}, Python {machine['python']}, {machine['system']}"
    return CheckResult("software", state, _explain_old_libc())


def _explain_old_libc() -> str:
    """What published ARM wheels ask for; a Raspberry Pi with Debian 12 has it."""
    name, version = platform.libc_ver()
    if name != "glibc" or platform.machine() != "aarch64":
        return ""
    have = tuple(int(part) for part in version.split(".")[:2])
    if have >= _MIN_OPENVINO_GLIBC:
        return ""
    asked = ".".join(map(str, _MIN_OPENVINO_GLIBC))
    return f"glibc {version}: OpenVINO wheels need {asked} or later; use onnxruntime here"


def _check_cpu() -> CheckResult:
    machine = describe_machine()
    cores = f"{machine['cores']} {'core' if machine['cores'] == 1 else 'cores'}"
    return CheckResult("cpu", ", ".join(filter(None, (machine["cpu"], cores, *machine["flags"]))))


def _check_int8() -> CheckResult:
    units = detect_int8_units()
    return CheckResult(
        "int8 on the cpu",
        _INT8_DESCRIPTIONS.get(units, units),
        _SLOW_INT8_REMEDY if units in _SLOW_INT8_UNITS else "",
    )


def _check_unit(what: str, units: dict[str, str], remedy: str) -> CheckResult:
    found = [name for flag, name in units.items() if flag in read_cpu_flags()]
    return CheckResult(what, ", ".join(found) or "not supported", "" if found else remedy)


def _check_runtime(name: str) -> CheckResult:
    found = REGISTRY[name]
    no_int8 = detect_int8_units() in found.no_int8_on
    if not is_installed(name):
        remedy = "no INT8 support on this CPU" if no_int8 else _explain_missing_wheels(name)
        return CheckResult(name, "not installed", remedy or found.install)
    version = ", ".join(filter(None, map(_find_version, found.packages))) or "installed"
    return CheckResult(name, version, _NO_INT8_REMEDY if no_int8 else "")


def _explain_missing_wheels(name: str) -> str:
    """NVIDIA publishes TensorRT's wheels for x86 alone; a Jetson has it in its system."""
    machines = REGISTRY[name].machines
    if not machines or platform.machine() in machines:
        return ""
    return f"no wheels for {platform.machine()}; a Jetson's JetPack has TensorRT"


def _find_version(module: str) -> str:
    for package in _read_distributions().get(module, []):
        return f"{package} {importlib.metadata.version(package)}"
    return ""


@cache
def _read_distributions() -> Mapping[str, list[str]]:
    """Reading every package's metadata takes a second."""
    return importlib.metadata.packages_distributions()


def _check_devices() -> list[CheckResult]:
    """What each vendor's library says, asked in a child: one that is broken may end its process."""
    return [_ask_devices(name) for name, found in REGISTRY.items() if found.devices]


def _ask_devices(name: str) -> CheckResult:
    found = REGISTRY[name]
    assert found.devices is not None
    what = found.devices if found.devices != name else f"{name} devices"
    if importlib.util.find_spec(found.devices) is None or not is_installed(name):
        return CheckResult(what, "not installed", _explain_missing_wheels(name) or found.install)
    try:
        child = run_module("okdhp_edge.doctor", name, timeout_s=_CHILD_TIMEOUT_S)
        state, remedy = json.loads(child.stdout)
        return CheckResult(what, str(state), str(remedy))
    except subprocess.TimeoutExpired:
        return CheckResult(what, f"no answer within {_CHILD_TIMEOUT_S} s", "reinstall it")
    except (ValueError, TypeError):
        last = read_last_words(child)[:80]
        return CheckResult(what, f"crashes when queried ({last})", "reinstall it")


def _check_packages() -> list[CheckResult]:
    """Tools of the stages that a device does not need, and extras of the loop."""
    stages = {"train": "lightning_fabric", "export": "onnxsim", "quantize": "nncf",
              "batch": "pyarrow", "web": "uvicorn", "screen": "mss"}  # fmt: skip
    return [
        CheckResult(stage, _find_version(module)) if _find_version(module)
        else CheckResult(stage, "not installed", f"pip install okdhp-edge[{stage}]")
        for stage, module in stages.items()
    ]  # fmt: skip


def _check_opencv() -> CheckResult:
    try:
        import cv2
    except ImportError as error:  # a library of windows, on a machine without them
        return CheckResult("opencv", f"cannot be imported ({error})",
                           "pip install opencv-python-headless instead of it")  # fmt: skip
    build = cv2.getBuildInformation()
    readers = {"FFmpeg": "FFMPEG", "GStreamer": "GStreamer", "V4L2": "v4l/v4l2"}
    found = [name for name, key in readers.items() if f"{key}:".ljust(29) + "YES" in build]
    lacking = "" if "GStreamer" in found else "no gst: sources; use a pipe (--source stdin)"
    state = f"{cv2.__version__}, reads with {', '.join(found)}"
    return CheckResult("opencv", state, lacking)


def _check_library_paths() -> CheckResult:
    """Where the runtimes' libraries come from: the usual place to look when one does not load."""
    packages = [p for name, r in REGISTRY.items() if name != "pytorch" for p in r.packages]
    specs = {name: importlib.util.find_spec(name) for name in packages}
    places = {str(Path(s.origin).parent.parent) for s in specs.values() if s and s.origin}
    told = [f"packages in {place}" for place in sorted(places)]
    told.append(f"LD_LIBRARY_PATH {os.environ.get('LD_LIBRARY_PATH') or 'not set'}")
    return CheckResult("libraries", "; ".join(told))


def _check_cameras() -> CheckResult:
    cameras = sorted(str(p) for p in Path("/dev").glob("video*"))
    if cameras:
        return CheckResult("cameras", ", ".join(cameras))
    return CheckResult("cameras", "none", "connect one; --source also takes videos and `synthetic`")


def _check_display() -> CheckResult:
    try:
        from okdhp_edge.run.sinks.window import has_display, is_window_possible
    except ImportError:
        return CheckResult("window", "OpenCV cannot be imported", "see opencv above")
    if is_window_possible():
        return CheckResult("window", "possible")
    lacking = "OpenCV was built without windows" if has_display() else "no display"
    return CheckResult("window", lacking, "use --save, or pip install opencv-python on a desktop")


if __name__ == "__main__":
    sys.stdout.write(json.dumps(get_backend_class(sys.argv[1]).describe_devices()))
