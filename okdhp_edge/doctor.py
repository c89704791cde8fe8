"""What this machine can run, what it lacks, and the command that adds it."""

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
from okdhp_edge.backends.registry import REGISTRY, backend_class, installed
from okdhp_edge.system.child import last_words, run_module
from okdhp_edge.system.hardware import cpu_flags, describe_machine, int8_units

_INT8 = {
    "AVX512": "AVX512 without VNNI: sums of pairs in 16 bits",
    "AVX2": "AVX2 only: sums of pairs in 16 bits",
    "SSE": "no AVX2",
    "NEON": "NEON without dot product",
}  # others have a unit of their own
_ASK_S = 60
_SLOW_INT8 = ("SSE", "unknown")
_LIBC_OPENVINO = (2, 35)
_BF16_UNITS = {"avx512_bf16": "AVX512-BF16", "amx_bf16": "AMX", "bf16": "bf16"}
_NO_INT8 = "INT8 may be no faster than float here: measure with `okdhp-edge bench`"
_NO_INT8_HERE = "it runs no INT8 on this CPU: use onnxruntime"
_OPENCV = "opencv"
"""Told with what it reads."""


@dataclass(frozen=True)
class CheckResult:
    """One line of the check-up; `remedy` is empty where nothing is lacking."""

    what: str
    state: str
    remedy: str = ""


def run_checks() -> list[CheckResult]:
    """Look at the CPU, the runtimes, GPUs, cameras and the display. Loads no model."""
    return [
        _software(), _cpu(), _int8(),
        _unit("bf16 on the cpu", _BF16_UNITS, ""),
        *(_runtime(name) for name in REGISTRY if name != _OPENCV), *_devices(), *_packages(),
        _video(), _cameras(), _display(), _library_paths(),
    ]  # fmt: skip


def _software() -> CheckResult:
    machine = describe_machine()
    state = f"okdhp-edge {__version__}, Python {machine['python']}, {machine['system']}"
    return CheckResult("software", state, _too_old_a_libc())


def _too_old_a_libc() -> str:
    """What published ARM wheels ask for; a Raspberry Pi with Debian 12 has it."""
    name, version = platform.libc_ver()
    if name != "glibc" or platform.machine() != "aarch64":
        return ""
    have = tuple(int(part) for part in version.split(".")[:2])
    if have >= _LIBC_OPENVINO:
        return ""
    asked = ".".join(map(str, _LIBC_OPENVINO))
    return f"glibc {version}: pip finds OpenVINO for {asked} and later; use onnxruntime here"


def _cpu() -> CheckResult:
    machine = describe_machine()
    cores = f"{machine['cores']} {'core' if machine['cores'] == 1 else 'cores'}"
    return CheckResult("cpu", ", ".join(filter(None, (machine["cpu"], cores, *machine["flags"]))))


def _int8() -> CheckResult:
    units = int8_units()
    return CheckResult(
        "int8 on the cpu", _INT8.get(units, units), _NO_INT8 if units in _SLOW_INT8 else ""
    )


def _unit(what: str, units: dict[str, str], remedy: str) -> CheckResult:
    found = [name for flag, name in units.items() if flag in cpu_flags()]
    return CheckResult(what, ", ".join(found) or "no unit for it", "" if found else remedy)


def _runtime(name: str) -> CheckResult:
    found = REGISTRY[name]
    no_int8 = int8_units() in found.no_int8_on
    if not installed(name):
        remedy = "it would run no INT8 on this CPU" if no_int8 else _no_wheels(name)
        return CheckResult(name, "not installed", remedy or found.install)
    version = ", ".join(filter(None, map(_version, found.packages))) or "installed"
    return CheckResult(name, version, _NO_INT8_HERE if no_int8 else "")


def _no_wheels(name: str) -> str:
    """NVIDIA publishes TensorRT's wheels for x86 alone; a Jetson has it in its system."""
    machines = REGISTRY[name].machines
    if not machines or platform.machine() in machines:
        return ""
    return f"no wheels for {platform.machine()}; a Jetson's JetPack has TensorRT"


def _version(module: str) -> str:
    for package in _distributions().get(module, []):
        return f"{package} {importlib.metadata.version(package)}"
    return ""


@cache
def _distributions() -> Mapping[str, list[str]]:
    """Reading every package's metadata takes a second."""
    return importlib.metadata.packages_distributions()


def _devices() -> list[CheckResult]:
    """What each vendor's library says, asked in a child: one that is broken may end its process."""
    return [_ask_devices(name) for name, found in REGISTRY.items() if found.devices]


def _ask_devices(name: str) -> CheckResult:
    found = REGISTRY[name]
    assert found.devices is not None
    what = found.devices if found.devices != name else f"{name} devices"
    if importlib.util.find_spec(found.devices) is None:
        return CheckResult(what, "not installed", _no_wheels(name) or found.install)
    try:
        child = run_module("okdhp_edge.doctor", name, timeout_s=_ASK_S)
        state, remedy = json.loads(child.stdout)
        return CheckResult(what, str(state), str(remedy))
    except subprocess.TimeoutExpired:
        return CheckResult(what, f"does not answer within {_ASK_S} s", "install it again")
    except (ValueError, TypeError):
        last = last_words(child)[:80]
        return CheckResult(what, f"breaks when it is asked ({last})", "install it again")


def _packages() -> list[CheckResult]:
    """Tools of the stages that a device does not need, and extras of the loop."""
    stages = {"train": "lightning_fabric", "export": "onnxsim", "quantize": "nncf",
              "web": "uvicorn", "screen": "mss"}  # fmt: skip
    return [
        CheckResult(stage, _version(module)) if _version(module)
        else CheckResult(stage, "not installed", f"pip install okdhp-edge[{stage}]")
        for stage, module in stages.items()
    ]  # fmt: skip


def _video() -> CheckResult:
    import cv2

    build = cv2.getBuildInformation()
    readers = {"FFmpeg": "FFMPEG", "GStreamer": "GStreamer", "V4L2": "v4l/v4l2"}
    found = [name for name, key in readers.items() if f"{key}:".ljust(29) + "YES" in build]
    lacking = "" if "GStreamer" in found else "gst: sources: pipe them in, see --source stdin"
    state = f"{cv2.__version__}, reads by {', '.join(found)}"
    return CheckResult("opencv", state, lacking)


def _library_paths() -> CheckResult:
    """Where the runtimes' libraries come from: the usual place to look when one does not load."""
    packages = [p for name, r in REGISTRY.items() if name != "pytorch" for p in r.packages]
    specs = {name: importlib.util.find_spec(name) for name in packages}
    places = {str(Path(s.origin).parent.parent) for s in specs.values() if s and s.origin}
    told = [f"packages in {place}" for place in sorted(places)]
    told.append(f"LD_LIBRARY_PATH {os.environ.get('LD_LIBRARY_PATH') or 'not set'}")
    return CheckResult("libraries", "; ".join(told))


def _cameras() -> CheckResult:
    cameras = sorted(str(p) for p in Path("/dev").glob("video*"))
    if cameras:
        return CheckResult("cameras", ", ".join(cameras))
    return CheckResult("cameras", "none", "plug one in; --source also takes videos and `synthetic`")


def _display() -> CheckResult:
    from okdhp_edge.run.sinks.window import window_possible

    if window_possible():
        return CheckResult("window", "possible")
    lacking = "no display" if not os.environ.get("DISPLAY") else "OpenCV was built without windows"
    return CheckResult("window", lacking, "use --save, or pip install opencv-python on a desktop")


if __name__ == "__main__":
    sys.stdout.write(json.dumps(backend_class(sys.argv[1]).describe_devices()))
