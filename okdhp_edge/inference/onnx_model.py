"""A model of others with one input, in ONNX or OpenVINO IR, run by any installed CPU runtime."""

import importlib
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from okdhp_edge.backends.registry import REGISTRY, is_installed
from okdhp_edge.errors import BackendError, ModelError, OkdhpError

_RUNTIMES = ("openvino", "onnxruntime")
_OPENVINO_IR_SUFFIX = ".xml"


class OnnxModel(Protocol):
    """An external network without a model card. Use from one thread at a time.

    Attributes:
        input_shape: -1 where the file leaves a size free.
        output_shape: of the output that is read.
    """

    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]

    def __call__(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """The output that was asked for; `values` are turned into the input's own type."""
        ...


def open_onnx_model(
    path: Path, threads: int | None = None, output: str | None = None, precision: str = "fp32"
) -> OnnxModel:
    """Load a network.

    Args:
        output: name of the output that is read; None reads the first.
        precision: fp32, or bf16 where OpenVINO and the CPU have it.

    Raises:
        ModelError: there is no such file, or no runtime reads it.
        BackendError: no runtime is installed.
    """
    if not path.is_file():
        raise ModelError(f"model {path} does not exist", "check the path")
    runtimes = _RUNTIMES[:1] if path.suffix == _OPENVINO_IR_SUFFIX else _RUNTIMES
    name = next(filter(is_installed, runtimes), None)
    if name is None:
        remedy = " or ".join(REGISTRY[runtime].install for runtime in runtimes)
        raise BackendError(f"no installed runtime can read {path.name}", remedy)
    module: Any = importlib.import_module(REGISTRY[name].module)
    try:
        model: OnnxModel = module.open_onnx(path, threads, output, precision)
    except OkdhpError:
        raise
    except Exception as error:  # each runtime has its own kinds
        raise ModelError(
            f"{path} cannot be read ({' '.join(str(error).split())[:160]})",
            "use an ONNX file, or OpenVINO's .xml and .bin, with one input",
        ) from error
    return model


def list_weight_files(path: Path) -> list[Path]:
    """Files that belong to a model's: the weights of an OpenVINO IR."""
    return [path.with_suffix(".bin")] if path.suffix == _OPENVINO_IR_SUFFIX else []
