"""What this machine can run, what it lacks, and the command that adds it."""

import importlib.metadata
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from okdhp_edge.backends.registry import REGISTRY, installed
from okdhp_edge.hardware import cpu_flags, describe_machine


@dataclass(frozen=True)
class Finding:
    """One line of the check-up; `remedy` is empty where nothing is lacking."""

    what: str
    state: str
    remedy: str = ""


def examine() -> list[Finding]:
    """Look at the CPU, the runtimes, GPUs, cameras and the display. Loads no model."""
    return [_cpu(), *(_runtime(name) for name in REGISTRY), _openvino_devices(), _cuda(),
            *_packages(), _cameras(), _display()]  # fmt: skip


def _cpu() -> Finding:
    machine = describe_machine()
    int8 = cpu_flags() & {"avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"}
    state = f"{machine['cpu']}, {machine['cores']} cores, {' '.join(machine['flags'])}"
    remedy = "" if int8 else "no INT8 dot product: INT8 may be no faster here, measure with bench"
    return Finding("cpu", state, remedy)


def _runtime(name: str) -> Finding:
    entry = REGISTRY[name]
    if not installed(name):
        return Finding(name, "not installed", entry.install)
    return Finding(name, ", ".join(filter(None, map(_version, entry.needs))) or "installed")


def _version(module: str) -> str:
    for package in importlib.metadata.packages_distributions().get(module, []):
        return f"{package} {importlib.metadata.version(package)}"
    return ""


def _openvino_devices() -> Finding:
    return _asked("openvino devices", "openvino", _list_openvino)


def _list_openvino() -> Finding:
    from okdhp_edge.backends.openvino import shared_core

    return Finding("openvino devices", ", ".join(shared_core().available_devices))


def _cuda() -> Finding:
    return _asked("cuda", "cuda", _list_cuda)


def _list_cuda() -> Finding:
    from okdhp_edge.backends.tensorrt import first_device
    from okdhp_edge.errors import BackendError

    try:
        return Finding("cuda", first_device().name)
    except BackendError as error:
        return Finding("cuda", error.cause, error.remedy)


def _asked(what: str, module: str, ask: Callable[[], Finding]) -> Finding:
    import importlib.util

    if importlib.util.find_spec(module) is None:
        remedy = "pip install okdhp-edge[tensorrt]" if module == "cuda" else ""
        return Finding(what, "not installed", remedy)
    return ask()


def _packages() -> list[Finding]:
    """Tools of the stages that a device does not need."""
    stages = {"train": "lightning_fabric", "export": "onnxsim", "quantize": "nncf"}
    return [
        Finding(stage, _version(module)) if _version(module)
        else Finding(stage, "not installed", f"pip install okdhp-edge[{stage}]")
        for stage, module in stages.items()
    ]  # fmt: skip


def _cameras() -> Finding:
    cameras = sorted(str(p) for p in Path("/dev").glob("video*"))
    if cameras:
        return Finding("cameras", ", ".join(cameras))
    return Finding("cameras", "none", "plug one in; --source also takes videos and `synthetic`")


def _display() -> Finding:
    from okdhp_edge.run.sinks.video import window_possible

    if window_possible():
        return Finding("window", "possible")
    lacking = "no display" if not os.environ.get("DISPLAY") else "OpenCV was built without windows"
    return Finding("window", lacking, "use --save, or pip install opencv-python on a desktop")
