"""The table of runtimes: module, class, the command that installs them, what they read."""

import importlib
import importlib.util
from dataclasses import dataclass

from okdhp_edge.backends.base import Backend, BackendConfig
from okdhp_edge.errors import BackendError


@dataclass(frozen=True)
class BackendEntry:
    """How a runtime is loaded.

    Attributes:
        needs: any one of these packages must be importable.
        precisions: what can be asked for, the first is the default without INT8.
    """

    module: str
    cls: str
    needs: tuple[str, ...]
    install: str
    precisions: tuple[str, ...]


REGISTRY: dict[str, BackendEntry] = {
    "openvino": BackendEntry(
        "okdhp_edge.backends.openvino", "OpenVinoBackend", ("openvino",),
        "pip install okdhp-edge[openvino]", ("fp32", "bf16", "int8"),
    ),
    "onnxruntime": BackendEntry(
        "okdhp_edge.backends.onnxruntime", "OnnxRuntimeBackend", ("onnxruntime",),
        "pip install okdhp-edge[onnxruntime]", ("fp32", "int8"),
    ),
    "tensorrt": BackendEntry(
        "okdhp_edge.backends.tensorrt", "TensorRtBackend", ("tensorrt", "tensorrt_rtx"),
        "pip install okdhp-edge[tensorrt]", ("fp32", "int8"),
    ),
    "pytorch": BackendEntry(
        "okdhp_edge.backends.pytorch", "PyTorchBackend", ("torch",),
        "pip install okdhp-edge[train]", ("fp32",),
    ),
}  # fmt: skip


def entry(name: str) -> BackendEntry:
    """Look up a runtime by name.

    Raises:
        BackendError: no such runtime.
    """
    if name not in REGISTRY:
        raise BackendError(f"unknown backend '{name}'", f"use one of {', '.join(REGISTRY)}")
    return REGISTRY[name]


def installed(name: str) -> bool:
    """Whether the runtime's package can be imported."""
    return any(importlib.util.find_spec(package) for package in entry(name).needs)


def open_backend(name: str, request: BackendConfig) -> Backend:
    """Load a model in a runtime.

    Raises:
        BackendError: unknown, not installed, no such device or precision. Nothing falls back.
    """
    found = entry(name)
    if request.precision not in found.precisions:
        raise BackendError(
            f"backend {name} does not run {request.precision}",
            f"use one of {', '.join(found.precisions)}",
        )
    if not installed(name):
        raise BackendError(f"backend {name} is not installed", found.install)
    module = importlib.import_module(found.module)
    backend: Backend = getattr(module, found.cls)(request)
    return backend
