"""TensorRT or TensorRT-RTX on an NVIDIA GPU: the engine is built from the ONNX file on this GPU.

Buffers go through cuda-python, so that no torch is needed. An engine file is never loaded: only
ONNX, whose hash the card vouches for, becomes an engine (a serialized engine is executable code).
"""

import importlib
import importlib.util
from typing import Any

import numpy as np
from numpy.typing import NDArray

from okdhp_edge.backends.base import Backend, Description, Request
from okdhp_edge.errors import BackendError
from okdhp_edge.pose.heatmap import Heatmaps

_NO_GPU = "run on a machine with an NVIDIA GPU and its driver, or choose another --backend"


class TensorRtBackend(Backend):
    """Builds and runs an engine; float ONNX runs in fp32, the tensorrt profile in int8."""

    name = "tensorrt"

    def __init__(self, request: Request) -> None:
        super().__init__(request)
        if request.card.batch is None:
            raise BackendError("tensorrt needs a fixed batch size", "export with --batch 1")
        self._device = first_device()
        self._cuda = _cuda()
        self._trt = _tensorrt()
        self._precision = request.precision
        self._log: list[str] = []
        self._engine = self._build(request)
        self._context = self._engine.create_execution_context()
        self._stream = _checked(self._cuda.cudaStreamCreate())
        self._allocate()

    def _build(self, request: Request) -> Any:
        trt = self._trt
        logger = collecting_logger(trt, self._log)
        builder = trt.Builder(logger)
        network = builder.create_network(_strongly_typed(trt))
        parser = trt.OnnxParser(network, logger)
        if not parser.parse(request.model_file.read_bytes()):
            raise BackendError(
                f"TensorRT cannot parse {request.model_file.name} ({' '.join(self._log[-2:])})",
                "use the int8/tensorrt or the fp32 artefact",
            )
        plan = builder.build_serialized_network(network, builder.create_builder_config())
        # Kept, because the engine refers to it for as long as it lives.
        self._runtime = trt.Runtime(logger)
        engine = None if plan is None else self._runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise BackendError(
                f"TensorRT cannot build an engine ({' '.join(self._log[-2:])})",
                "see `okdhp-edge doctor` for versions",
            )
        return engine

    def _allocate(self) -> None:
        """One device buffer and one host array per tensor, addresses fixed for good."""
        self._host: dict[str, NDArray[Any]] = {}
        self._device_memory: dict[str, int] = {}
        for number in range(self._engine.num_io_tensors):
            tensor = self._engine.get_tensor_name(number)
            shape = tuple(self._engine.get_tensor_shape(tensor))
            dtype = np.dtype(self._trt.nptype(self._engine.get_tensor_dtype(tensor)))
            self._host[tensor] = np.zeros(shape, dtype=dtype)
            address = _checked(self._cuda.cudaMalloc(self._host[tensor].nbytes))
            self._device_memory[tensor] = int(address)
            self._context.set_tensor_address(tensor, int(address))
        self._input, self._output = (
            next(t for t in self._host if self._is_input(t) == wanted) for wanted in (True, False)
        )
        if self._host[self._input].dtype != np.uint8:
            raise BackendError("the engine's input is not uint8", "export the model again")

    def _is_input(self, tensor: str) -> bool:
        return bool(self._engine.get_tensor_mode(tensor) == self._trt.TensorIOMode.INPUT)

    def _infer(self, images_BHWC: NDArray[np.uint8]) -> Heatmaps:
        cuda, kinds = self._cuda, self._cuda.cudaMemcpyKind
        output = np.empty_like(self._host[self._output])
        _checked(cuda.cudaMemcpyAsync(
            self._device_memory[self._input], images_BHWC.ctypes.data, images_BHWC.nbytes,
            kinds.cudaMemcpyHostToDevice, self._stream))  # fmt: skip
        if not self._context.execute_async_v3(int(self._stream)):
            raise BackendError(f"TensorRT failed to run ({' '.join(self._log[-2:])})", "report it")
        _checked(cuda.cudaMemcpyAsync(
            output.ctypes.data, self._device_memory[self._output], output.nbytes,
            kinds.cudaMemcpyDeviceToHost, self._stream))  # fmt: skip
        _checked(cuda.cudaStreamSynchronize(self._stream))
        return output.astype(np.float32)

    def describe(self) -> Description:
        version = f"{self._trt.__name__} {self._trt.__version__}"
        rest = ", rest fp32" if self._precision == "int8" else ""
        return Description(self.name, version, self._device, f"{self._precision}{rest}", None)

    def close(self) -> None:
        if not self._open:
            return
        super().close()
        for address in self._device_memory.values():
            self._cuda.cudaFree(address)
        self._cuda.cudaStreamDestroy(self._stream)
        self._context = self._engine = self._runtime = None


def _tensorrt() -> Any:
    return imported("tensorrt" if importlib.util.find_spec("tensorrt") else "tensorrt_rtx")


def imported(module: str) -> Any:
    """A vendor's module.

    Raises:
        BackendError: it cannot be imported.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise BackendError(
            f"{module} cannot be imported ({error})", "pip install okdhp-edge[tensorrt]"
        ) from error


def _cuda() -> Any:
    return imported("cuda.bindings.runtime")


def first_device() -> str:
    """Name of the first GPU.

    Raises:
        BackendError: no cuda-python, no driver, no GPU.
    """
    cuda = _cuda()
    try:
        error, count = cuda.cudaGetDeviceCount()
    except RuntimeError as failure:  # the CUDA library itself is absent
        raise BackendError(f"no CUDA driver ({failure})", _NO_GPU) from failure
    if int(error) != 0 or count == 0:
        raise BackendError(f"no CUDA device here ({error})", _NO_GPU)
    properties = _checked(cuda.cudaGetDeviceProperties(0))
    name = properties.name
    return name.decode() if isinstance(name, bytes) else str(name)


def _checked(answer: tuple[Any, ...]) -> Any:
    """The value of a CUDA call, or its error raised."""
    error, *values = answer
    if int(error) != 0:
        raise BackendError(f"CUDA failed ({error})", "see `okdhp-edge doctor`")
    return values[0] if values else None


def _strongly_typed(trt: Any) -> int:
    """Network flags: TensorRT 10 must be told to keep the file's types, 11 knows nothing else."""
    flags = getattr(trt, "NetworkDefinitionCreationFlag", None)
    wanted = getattr(flags, "STRONGLY_TYPED", None)
    return 0 if wanted is None else 1 << int(wanted)


def collecting_logger(trt: Any, log: list[str]) -> Any:
    """A TensorRT logger that appends errors to `log`, to be quoted when something fails."""

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                log.append(message)

    return Logger()
