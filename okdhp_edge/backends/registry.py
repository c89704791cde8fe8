"""The registry of runtimes: a runtime is a backend class and one record here.

Imports no runtime and no heavy package: the command's help comes from here too.
"""

import importlib
import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from okdhp_edge.backends import int8_profile
from okdhp_edge.backends.int8_profile import Int8Profile
from okdhp_edge.errors import BackendError, ModelError

if TYPE_CHECKING:
    from okdhp_edge.backends.base import Backend, BackendConfig


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """Everything known about a runtime without importing it.

    Attributes:
        module: of its class.
        cls: a subclass of `Backend`.
        packages: any one of these must be importable.
        install: the command that adds it.
        precisions: what can be asked for; the first is the default without INT8.
        int8: what it wants of INT8 files; None: it runs float files alone.
        rank: order in which `auto` considers runtimes, the lowest first; None: only by name.
        last_resort: whether `auto` takes it only where nothing else runs the model.
        per_model_threads: whether each loaded model has its own number of threads, so that two can
            be compared in one process.
        needs_gpu: whether it runs on a GPU alone.
        runs_engines: whether it takes an engine that was built elsewhere (`--engine`).
        saturates: whether its INT8 kernels add pairs of products in 16 bits on x86 without VNNI.
        no_int8_on: INT8 units on which it runs no INT8, see `hardware.detect_int8_units`.
        machines: processor architectures that its wheels are published for; empty: all.
        devices: the package that lists its devices in `doctor`, see `Backend.describe_devices`.
    """

    module: str
    cls: str
    packages: tuple[str, ...]
    install: str
    precisions: tuple[str, ...]
    int8: Int8Profile | None = None
    rank: int | None = None
    last_resort: bool = False
    per_model_threads: bool = False
    needs_gpu: bool = False
    runs_engines: bool = False
    saturates: bool = False
    no_int8_on: tuple[str, ...] = ()
    machines: tuple[str, ...] = ()
    devices: str | None = None


class RuntimeChoice(NamedTuple):
    """A runtime and the requested precision."""

    backend: str
    precision: str

    def __str__(self) -> str:
        return f"{self.backend} {self.precision}"


REGISTRY: dict[str, Runtime] = {
    "openvino": Runtime(
        module="okdhp_edge.backends.openvino", cls="OpenVinoBackend", packages=("openvino",),
        install="pip install okdhp-edge[openvino]", precisions=("fp32", "bf16", "int8"),
        int8=int8_profile.OPENVINO, rank=1, per_model_threads=True, saturates=True,
        no_int8_on=("NEON",), devices="openvino",
    ),
    "onnxruntime": Runtime(
        module="okdhp_edge.backends.onnxruntime", cls="OnnxRuntimeBackend",
        packages=("onnxruntime",), install="pip install okdhp-edge[onnxruntime]",
        precisions=("fp32", "int8"), int8=int8_profile.ONNXRUNTIME, rank=2, per_model_threads=True,
    ),
    "tensorrt": Runtime(
        module="okdhp_edge.backends.tensorrt", cls="TensorRtBackend",
        packages=("tensorrt", "tensorrt_rtx"), install="pip install okdhp-edge[tensorrt]",
        precisions=("fp32", "int8"), int8=int8_profile.TENSORRT, needs_gpu=True, runs_engines=True,
        machines=("x86_64", "AMD64"), devices="cuda",
    ),
    "pytorch": Runtime(
        module="okdhp_edge.backends.pytorch", cls="PyTorchBackend", packages=("torch",),
        install="pip install okdhp-edge[train]", precisions=("fp32",), rank=3, last_resort=True,
    ),
    "opencv": Runtime(
        module="okdhp_edge.backends.opencv", cls="OpenCvBackend", packages=("cv2",),
        install="pip install okdhp-edge", precisions=("fp32",), rank=4, last_resort=True,
    ),
}  # fmt: skip


def get_runtime(name: str) -> Runtime:
    """Look up a runtime by name.

    Raises:
        BackendError: no such runtime.
    """
    if name not in REGISTRY:
        raise BackendError(f"unknown backend '{name}'", f"use one of {', '.join(REGISTRY)}")
    return REGISTRY[name]


def list_ranked() -> list[str]:
    """The runtimes that `auto` considers, in order."""
    ranks = {name: found.rank for name, found in REGISTRY.items() if found.rank is not None}
    return sorted(ranks, key=lambda name: ranks[name])


def is_installed(name: str) -> bool:
    """Whether the runtime's package can be imported. A folder of its name in the working folder is
    no package: it has no file that is run."""
    return any(has_package(package) for package in get_runtime(name).packages)


def has_package(name: str) -> bool:
    """Whether a package can be imported, see `is_installed`."""
    spec = importlib.util.find_spec(name)
    return spec is not None and spec.origin is not None


def list_runtime_profiles() -> tuple[str, ...]:
    """The INT8 profiles that are made unless others are asked for: one for each runtime."""
    return tuple(found.int8.name for found in REGISTRY.values() if found.int8 is not None)


def list_profiles() -> tuple[str, ...]:
    """Every INT8 profile."""
    return (*list_runtime_profiles(), int8_profile.GENERIC.name)


def get_profile(name: str) -> Int8Profile:
    """An INT8 profile by its name.

    Raises:
        ModelError: no such profile.
    """
    known = {p.name: p for p in (int8_profile.GENERIC, *(r.int8 for r in REGISTRY.values())) if p}
    if name not in known:
        raise ModelError(f"unknown profile '{name}'", f"use one of {', '.join(list_profiles())}")
    return known[name]


def get_backend_class(name: str) -> "type[Backend]":
    """The class of a runtime.

    Raises:
        BackendError: unknown, or not installed.
    """
    found = get_runtime(name)
    if not is_installed(name):
        raise BackendError(f"backend {name} is not installed", found.install)
    try:
        cls: type[Backend] = getattr(importlib.import_module(found.module), found.cls)
    except ImportError as error:  # its package is there, a library of it is not
        raise BackendError(f"backend {name} cannot be imported ({error})", found.install) from error
    return cls


def open_backend(name: str, config: "BackendConfig") -> "Backend":
    """Load a model in a runtime.

    Raises:
        BackendError: unknown, not installed, no such device or precision. Nothing falls back.
    """
    found = get_runtime(name)
    if config.precision not in found.precisions:
        raise BackendError(
            f"backend {name} does not support {config.precision}",
            f"use one of {', '.join(found.precisions)}",
        )
    return get_backend_class(name)(config)
