"""TensorRT or TensorRT-RTX on an NVIDIA GPU: the engine is built from the ONNX file on this GPU.

Buffers go through cuda-python, so that no torch is needed. Engines are built from ONNX, whose hash
the card vouches for, and kept; see `engine.py` for which engine files are loaded.
"""

import ctypes
import hashlib
import importlib
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from okdhp_edge.artifacts.card import compute_sha256
from okdhp_edge.artifacts.model_store import get_cache_folder
from okdhp_edge.backends.base import Backend, BackendConfig, BackendInfo
from okdhp_edge.backends.engine import (
    ENGINE_CACHE_FOLDER,
    PORTABLE,
    EngineKey,
    Sidecar,
    build,
    describe_library,
    make_collecting_logger,
    read_engine,
    runs_on,
    write_engine,
)
from okdhp_edge.backends.registry import has_package
from okdhp_edge.errors import BackendError, OutputError
from okdhp_edge.pose.heatmap import Heatmaps

_NO_GPU_REMEDY = "run on a machine with an NVIDIA GPU and its driver, or choose another --backend"


class TensorRtBackend(Backend):
    """Builds and runs an engine; float ONNX runs in fp32, the tensorrt profile in int8."""

    name = "tensorrt"

    def __init__(self, request: BackendConfig) -> None:
        super().__init__(request)
        if request.card.batch is None:
            raise BackendError("tensorrt needs a fixed batch size", "export with --batch 1")
        self._device = get_first_device()
        self._cuda = _import_cuda()
        self._trt = _import_tensorrt()
        self._precision = request.precision
        self._log: list[str] = []
        self._engine = self._load(request)
        self._context = self._engine.create_execution_context()
        self._stream = _check_call(self._cuda.cudaStreamCreate())
        self._allocate()

    @classmethod
    def describe_devices(cls) -> tuple[str, str]:
        """See `Backend.describe_devices`."""
        try:
            return get_first_device().name, ""
        except BackendError as error:
            return error.cause, error.remedy

    def _load(self, request: BackendConfig) -> Any:
        """The engine: one named by hand, one beside the model, one kept from before, or new."""
        # Kept, because the engine refers to it for as long as it lives.
        self._runtime = self._trt.Runtime(make_collecting_logger(self._trt, self._log))
        engine = self._runtime.deserialize_cuda_engine(self._load_plan(request))
        if engine is None:
            raise BackendError(
                f"TensorRT cannot load the engine ({' '.join(self._log[-2:])})",
                f"delete it, or else {get_cache_folder(ENGINE_CACHE_FOLDER)}, to have it rebuilt",
            )
        return engine

    def _load_plan(self, request: BackendConfig) -> bytes:
        target = self._device.target
        wanted = EngineKey(
            compute_sha256(request.model_file),
            describe_library(self._trt),
            target,
            self._device.name,
        )
        if request.engine is not None:
            if not request.engine.is_file():
                raise BackendError(f"engine {request.engine} does not exist", "check --engine")
            if request.trust_engine:
                return request.engine.read_bytes()
            return read_engine(request.engine, wanted)
        kept = get_cache_folder(ENGINE_CACHE_FOLDER) / f"{wanted.key()}.engine"
        beside = [
            request.folder / ENGINE_CACHE_FOLDER / f"{name}.engine" for name in (target, PORTABLE)
        ]
        fitting = beside if runs_on((PORTABLE,), target) else beside[:1]
        for path in fitting:
            if path.is_file():
                return read_engine(path, wanted)
        with suppress(BackendError, OSError):  # what no longer matches is built again
            if kept.is_file():
                return read_engine(kept, wanted)
        plan = build(self._trt, request.model_file.read_bytes(), request.model_file.name)
        facts = Sidecar(
            engine_sha256=hashlib.sha256(plan).hexdigest(), onnx_sha256=wanted.onnx_sha256,
            library=wanted.library, targets=(target,), gpu=wanted.gpu,
        )  # fmt: skip
        with suppress(OutputError):  # what cannot be kept is built again next time
            write_engine(plan, kept, facts)
        return plan

    def _allocate(self) -> None:
        """A device buffer and a pinned host array per tensor, addresses fixed for good."""
        self._host: dict[str, NDArray[Any]] = {}
        self._device_memory: dict[str, int] = {}
        self._pinned: list[int] = []
        self._graph: Any = None
        for number in range(self._engine.num_io_tensors):
            tensor = self._engine.get_tensor_name(number)
            shape = tuple(self._engine.get_tensor_shape(tensor))
            dtype = np.dtype(self._trt.nptype(self._engine.get_tensor_dtype(tensor)))
            self._host[tensor] = self._allocate_pinned(shape, dtype)
            address = int(_check_call(self._cuda.cudaMalloc(self._host[tensor].nbytes)))
            self._device_memory[tensor] = address
            self._context.set_tensor_address(tensor, address)
        self._input, self._output = (
            next(t for t in self._host if self._is_input(t) == wanted) for wanted in (True, False)
        )
        if self._host[self._input].dtype != np.uint8:
            raise BackendError("the engine's input is not uint8", "export the model again")
        if self._host[self._output].dtype != np.float32:
            raise BackendError("the engine's output is not float32", "export the model again")

    def _allocate_pinned(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """Page-locked, so that copies run beside everything else."""
        size = int(np.prod(shape)) * dtype.itemsize
        address = int(_check_call(self._cuda.cudaMallocHost(size)))
        self._pinned.append(address)
        memory = (ctypes.c_uint8 * size).from_address(address)
        return np.ctypeslib.as_array(memory).view(dtype).reshape(shape)

    def _is_input(self, tensor: str) -> bool:
        return bool(self._engine.get_tensor_mode(tensor) == self._trt.TensorIOMode.INPUT)

    def _infer(self, images_BHWC: NDArray[np.uint8]) -> Heatmaps:
        np.copyto(self._host[self._input], images_BHWC)
        if self._graph is None:
            # The first run sets up what may not happen while a graph is recorded.
            self._enqueue()
            _check_call(self._cuda.cudaStreamSynchronize(self._stream))
            self._graph = self._record_graph()
        else:
            _check_call(self._cuda.cudaGraphLaunch(self._graph, self._stream))
            _check_call(self._cuda.cudaStreamSynchronize(self._stream))
        return np.array(self._host[self._output], dtype=np.float32)

    def _record_graph(self) -> Any:
        """Copies and network as one CUDA graph: addresses and shapes never change."""
        cuda = self._cuda
        mode = cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        _check_call(cuda.cudaStreamBeginCapture(self._stream, mode))
        self._enqueue()
        graph = _check_call(cuda.cudaStreamEndCapture(self._stream))
        return _check_call(cuda.cudaGraphInstantiate(graph, 0))

    def _enqueue(self) -> None:
        cuda, kinds = self._cuda, self._cuda.cudaMemcpyKind
        source, target = self._host[self._input], self._host[self._output]
        _check_call(cuda.cudaMemcpyAsync(
            self._device_memory[self._input], source.ctypes.data, source.nbytes,
            kinds.cudaMemcpyHostToDevice, self._stream))  # fmt: skip
        if not self._context.execute_async_v3(int(self._stream)):
            raise BackendError(f"TensorRT failed to run ({' '.join(self._log[-2:])})", "report it")
        _check_call(cuda.cudaMemcpyAsync(
            target.ctypes.data, self._device_memory[self._output], target.nbytes,
            kinds.cudaMemcpyDeviceToHost, self._stream))  # fmt: skip

    def describe(self) -> BackendInfo:
        """The runtime, version, device, precision and threads that really run."""
        version = describe_library(self._trt)
        rest = ", rest fp16" if self._precision == "int8" else ""
        return BackendInfo(self.name, version, self._device.name, f"{self._precision}{rest}", None)

    def close(self) -> None:
        """Free the engine, its buffers and the stream."""
        if not self._open:
            return
        super().close()
        if self._graph is not None:
            self._cuda.cudaGraphExecDestroy(self._graph)
        for address in self._device_memory.values():
            self._cuda.cudaFree(address)
        self._host = {}
        for address in self._pinned:
            self._cuda.cudaFreeHost(address)
        self._cuda.cudaStreamDestroy(self._stream)
        self._context = self._engine = self._runtime = None


def _import_tensorrt() -> Any:
    return import_vendor_module("tensorrt" if has_package("tensorrt") else "tensorrt_rtx")


def import_vendor_module(module: str) -> Any:
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


def _import_cuda() -> Any:
    return import_vendor_module("cuda.bindings.runtime")


class Device(NamedTuple):
    """A GPU: its name and generation, such as SM89."""

    name: str
    target: str


def get_first_device() -> Device:
    """The first GPU.

    Raises:
        BackendError: no cuda-python, no driver, no GPU.
    """
    cuda = _import_cuda()
    try:
        error, count = cuda.cudaGetDeviceCount()
    except RuntimeError as failure:  # the CUDA library itself is absent
        raise BackendError(f"no CUDA driver ({failure})", _NO_GPU_REMEDY) from failure
    if int(error) != 0 or count == 0:
        raise BackendError(f"no CUDA device found ({error})", _NO_GPU_REMEDY)
    properties = _check_call(cuda.cudaGetDeviceProperties(0))
    name = properties.name
    name = name.decode() if isinstance(name, bytes) else str(name)
    return Device(name, f"SM{properties.major}{properties.minor}")


def _check_call(answer: tuple[Any, ...]) -> Any:
    """The value of a CUDA call, or its error raised."""
    error, *values = answer
    if int(error) != 0:
        raise BackendError(f"CUDA failed ({error})", "see `okdhp-edge doctor`")
    return values[0] if values else None
