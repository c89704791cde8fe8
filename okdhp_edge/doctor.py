"""What this machine can run, what it lacks, and the command that adds it."""

import importlib.metadata
import importlib.util
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import astuple, dataclass
from functools import cache
from pathlib import Path

from okdhp_edge import __version__
from okdhp_edge.backends.registry import REGISTRY, installed
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
_NO_DOT_PRODUCT = "it runs no INT8 on this CPU: use onnxruntime"
_OPENVINO_ELSE = "okdhp-edge runs on its CPU device alone"


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
        *(_runtime(name) for name in REGISTRY), _openvino_devices(), _cuda(), *_packages(),
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
    entry = REGISTRY[name]
    neon = name == "openvino" and int8_units() == "NEON"
    if not installed(name):
        remedy = "it would run no INT8 on this CPU" if neon else _no_wheels(name) or entry.install
        return CheckResult(name, "not installed", remedy)
    version = ", ".join(filter(None, map(_version, entry.needs))) or "installed"
    return CheckResult(name, version, _NO_DOT_PRODUCT if neon else "")


def _no_wheels(name: str) -> str:
    """NVIDIA publishes TensorRT's wheels for x86 alone; a Jetson has it in its system."""
    other = name in ("tensorrt", "cuda") and platform.machine() not in ("x86_64", "AMD64")
    return f"no wheels for {platform.machine()}; a Jetson's JetPack has TensorRT" if other else ""


def _version(module: str) -> str:
    for package in _distributions().get(module, []):
        return f"{package} {importlib.metadata.version(package)}"
    return ""


@cache
def _distributions() -> Mapping[str, list[str]]:
    """Reading every package's metadata takes a second."""
    return importlib.metadata.packages_distributions()


def _openvino_devices() -> CheckResult:
    return _asked("openvino devices", "openvino")


def _list_openvino() -> CheckResult:
    from okdhp_edge.backends.openvino import shared_core

    core = shared_core()
    named = [f"{device} ({core.get_property(device, 'FULL_DEVICE_NAME').strip()})"
             for device in core.available_devices]  # fmt: skip
    return CheckResult("openvino devices", ", ".join(named), _OPENVINO_ELSE)


def _cuda() -> CheckResult:
    return _asked("cuda", "cuda")


def _list_cuda() -> CheckResult:
    from okdhp_edge.backends.tensorrt import first_device
    from okdhp_edge.errors import BackendError

    try:
        return CheckResult("cuda", first_device().name)
    except BackendError as error:
        return CheckResult("cuda", error.cause, error.remedy)


def _asked(what: str, module: str) -> CheckResult:
    """What the vendor's library says, asked in a child: one that is broken may end its process."""
    if importlib.util.find_spec(module) is None:
        remedy = "pip install okdhp-edge[tensorrt]" if module == "cuda" else ""
        remedy = _no_wheels(module) or remedy
        return CheckResult(what, "not installed", remedy)
    try:
        child = run_module("okdhp_edge.doctor", what, timeout_s=_ASK_S)
        return CheckResult(*json.loads(child.stdout))
    except subprocess.TimeoutExpired:
        return CheckResult(what, f"does not answer within {_ASK_S} s", "install it again")
    except (ValueError, TypeError):
        last = last_words(child)[:80]
        return CheckResult(what, f"breaks when it is asked ({last})", "install it again")


_QUESTIONS: dict[str, Callable[[], CheckResult]] = {
    "openvino devices": _list_openvino,
    "cuda": _list_cuda,
}


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
    packages = ("openvino", "onnxruntime", "tensorrt_rtx", "tensorrt", "cv2")
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
    sys.stdout.write(json.dumps(astuple(_QUESTIONS[sys.argv[1]]())))
