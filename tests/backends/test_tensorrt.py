"""The real code on a fake TensorRT and a fake CUDA; nothing here ran on a GPU."""

import sys
import types

import numpy as np
import pytest

from okdhp_edge.backends.base import Request
from okdhp_edge.backends.tensorrt import TensorRtBackend
from okdhp_edge.card import read_card
from okdhp_edge.errors import BackendError


class _Memory:
    """Device memory as a dictionary of byte arrays."""

    def __init__(self) -> None:
        self.blocks, self.freed, self.streams = {}, [], 0


def _fake_cuda(memory: _Memory, devices: int = 1) -> types.ModuleType:
    import ctypes

    cuda = types.ModuleType("cuda.bindings.runtime")

    def malloc(size):
        address = 1000 + len(memory.blocks)
        memory.blocks[address] = bytearray(size)
        return 0, address

    def copy(target, source, size, kind, stream):
        if kind == "to device":
            memory.blocks[target][:] = ctypes.string_at(source, size)
        else:
            ctypes.memmove(target, bytes(memory.blocks[source]), size)
        return (0,)

    cuda.cudaMalloc, cuda.cudaMemcpyAsync = malloc, copy
    cuda.cudaFree = lambda address: (memory.freed.append(address), (0,))[1]
    cuda.cudaStreamCreate = lambda: (0, 7)
    cuda.cudaStreamDestroy = cuda.cudaStreamSynchronize = lambda _: (0,)
    cuda.cudaGetDeviceCount = lambda: (0, devices) if devices else (100, 0)
    cuda.cudaGetDeviceProperties = lambda _: (0, types.SimpleNamespace(name=b"Fake GPU"))
    kinds = {"cudaMemcpyHostToDevice": "to device", "cudaMemcpyDeviceToHost": "to host"}
    cuda.cudaMemcpyKind = types.SimpleNamespace(**kinds)
    return cuda


def _fake_tensorrt(memory: _Memory, *, parses: bool = True, builds: bool = True):
    """A TensorRT whose engine answers with the mean of the picture in every heatmap pixel."""
    trt = types.ModuleType("tensorrt")
    trt.__version__ = "11.0-fake"
    trt.TensorIOMode = types.SimpleNamespace(INPUT="in", OUTPUT="out")
    trt.nptype = lambda dtype: dtype
    shapes = {"image": (1, 64, 64, 3), "heatmaps": (1, 14, 16, 16)}
    dtypes = {"image": np.uint8, "heatmaps": np.float32}

    class ILogger:
        ERROR, INTERNAL_ERROR = "error", "internal"

        def __init__(self) -> None:
            pass

    class Context:
        def __init__(self) -> None:
            self.addresses = {}

        def set_tensor_address(self, name, address):
            self.addresses[name] = address

        def execute_async_v3(self, stream):
            picture = np.frombuffer(memory.blocks[self.addresses["image"]], np.uint8)
            answer = np.full(shapes["heatmaps"], picture.mean(), np.float32)
            memory.blocks[self.addresses["heatmaps"]][:] = answer.tobytes()
            return True

    class Engine:
        num_io_tensors = 2
        get_tensor_name = staticmethod(lambda i: ["image", "heatmaps"][i])
        get_tensor_shape = staticmethod(lambda name: shapes[name])
        get_tensor_dtype = staticmethod(lambda name: dtypes[name])
        get_tensor_mode = staticmethod(lambda name: "in" if name == "image" else "out")
        create_execution_context = staticmethod(Context)

    class Builder:
        def __init__(self, logger) -> None:
            self.logger = logger

        def create_network(self, flags):
            return flags

        def create_builder_config(self):
            return object()

        def build_serialized_network(self, network, config):
            if not builds:
                self.logger.log("error", "no kernel for node conv7")
            return b"plan" if builds else None

    class Parser:
        def __init__(self, network, logger) -> None:
            self.logger = logger

        def parse(self, content):
            if not parses:
                self.logger.log("error", "node conv3 is not supported")
            return parses

    trt.ILogger, trt.Builder, trt.OnnxParser = ILogger, Builder, Parser
    trt.Runtime = lambda _: types.SimpleNamespace(deserialize_cuda_engine=lambda plan: Engine())
    return trt


@pytest.fixture
def memory(monkeypatch):
    memory = _Memory()
    _install(monkeypatch, _fake_tensorrt(memory), _fake_cuda(memory))
    return memory


def _install(monkeypatch, trt, cuda):
    import importlib.machinery

    trt.__spec__ = importlib.machinery.ModuleSpec("tensorrt", None)
    for name, module in {"tensorrt": trt, "cuda": types.ModuleType("cuda"),
                         "cuda.bindings": types.ModuleType("cuda.bindings"),
                         "cuda.bindings.runtime": cuda}.items():  # fmt: skip
        monkeypatch.setitem(sys.modules, name, module)


def _request(quantized):
    folder = quantized / "tensorrt"
    return Request(folder, read_card(folder), "int8")


def test_pictures_go_in_and_heatmaps_come_out(memory, quantized):
    with TensorRtBackend(_request(quantized)) as backend:
        for level in (10, 200):
            heatmaps = backend.infer(np.full((1, 64, 64, 3), level, np.uint8))
            assert heatmaps.shape == (1, 14, 16, 16)
            assert (heatmaps == level).all()
        assert backend.describe().device == "Fake GPU"
        assert backend.describe().version == "tensorrt 11.0-fake"
        backend.close()
    assert sorted(memory.freed) == sorted(memory.blocks)  # once each


@pytest.mark.parametrize(
    ("broken", "message"),
    [({"parses": False}, "cannot parse.*conv3"), ({"builds": False}, "cannot build.*conv7")],
)
def test_what_tensorrt_says_is_quoted(monkeypatch, quantized, broken, message):
    memory = _Memory()
    _install(monkeypatch, _fake_tensorrt(memory, **broken), _fake_cuda(memory))
    with pytest.raises(BackendError, match=message):
        TensorRtBackend(_request(quantized))


def test_a_machine_without_gpu_gets_the_remedy(monkeypatch, quantized):
    memory = _Memory()
    _install(monkeypatch, _fake_tensorrt(memory), _fake_cuda(memory, devices=0))
    with pytest.raises(BackendError, match="no CUDA device here.*choose another --backend"):
        TensorRtBackend(_request(quantized))
