"""The real code on a fake TensorRT and a fake CUDA; nothing here ran on a GPU."""

import dataclasses
import hashlib
import shutil
import sys
import types

import numpy as np
import pytest

from okdhp_edge.artifacts.card import compute_sha256, read_card
from okdhp_edge.artifacts.model_store import get_cache_folder
from okdhp_edge.backends.base import BackendConfig
from okdhp_edge.backends.engine import (
    ENGINE_CACHE_FOLDER,
    PORTABLE,
    Sidecar,
    build,
    runs_on,
    write_engine,
)
from okdhp_edge.backends.tensorrt import TensorRtBackend
from okdhp_edge.errors import BackendError


class _Memory:
    """Device memory as a dictionary of byte arrays."""

    def __init__(self) -> None:
        self.blocks, self.freed, self.streams = {}, [], 0
        self.pinned, self.launched, self.recording = {}, 0, None
        self.built = self.loaded = 0


def _fake_cuda(memory: _Memory, devices: int = 1) -> types.ModuleType:
    import ctypes

    cuda = types.ModuleType("cuda.bindings.runtime")

    def malloc(size):
        address = 1000 + len(memory.blocks)
        memory.blocks[address] = bytearray(size)
        return 0, address

    def malloc_host(size):
        buffer = ctypes.create_string_buffer(size)
        memory.pinned[ctypes.addressof(buffer)] = buffer
        return 0, ctypes.addressof(buffer)

    def launch(graph, stream):
        memory.launched += 1
        for work in graph:
            work()
        return (0,)

    def begin(stream, mode):
        memory.recording = []
        return (0,)

    def end(stream):
        graph, memory.recording = memory.recording, None
        return 0, graph

    def copy(target, source, size, kind, stream):
        if memory.recording is not None:
            memory.recording.append(lambda: copy(target, source, size, kind, stream))
            return (0,)
        if kind == "to device":
            memory.blocks[target][:] = ctypes.string_at(source, size)
        else:
            ctypes.memmove(target, bytes(memory.blocks[source]), size)
        return (0,)

    cuda.cudaMalloc, cuda.cudaMemcpyAsync = malloc, copy
    cuda.cudaMallocHost, cuda.cudaGraphLaunch = malloc_host, launch
    cuda.cudaFreeHost = lambda address: (memory.pinned.pop(address), (0,))[1]
    cuda.cudaStreamBeginCapture, cuda.cudaStreamEndCapture = begin, end
    cuda.cudaStreamCaptureMode = types.SimpleNamespace(cudaStreamCaptureModeThreadLocal=1)
    cuda.cudaGraphInstantiate = lambda graph, flags: (0, graph)
    cuda.cudaGraphExecDestroy = lambda graph: (0,)
    cuda.cudaFree = lambda address: (memory.freed.append(address), (0,))[1]
    cuda.cudaStreamCreate = lambda: (0, 7)
    cuda.cudaStreamDestroy = cuda.cudaStreamSynchronize = lambda _: (0,)
    cuda.cudaGetDeviceCount = lambda: (0, devices) if devices else (100, 0)
    cuda.cudaGetDeviceProperties = lambda _: (
        0,
        types.SimpleNamespace(name=b"Fake GPU", major=8, minor=9),
    )
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
            if memory.recording is not None:
                memory.recording.append(lambda: self.execute_async_v3(stream))
                return True
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
            memory.built += 1
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

    def deserialize(plan):
        memory.loaded += 1
        return Engine() if bytes(plan).startswith(b"plan") else None

    trt.Runtime = lambda _: types.SimpleNamespace(deserialize_cuda_engine=deserialize)
    return trt


@pytest.fixture(autouse=True)
def _no_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def memory(monkeypatch):
    memory = _Memory()
    _install(monkeypatch, _fake_tensorrt(memory), _fake_cuda(memory))
    return memory


def _install(monkeypatch, trt, cuda):
    import importlib.machinery

    trt.__spec__ = importlib.machinery.ModuleSpec("tensorrt", None, origin="fake")
    for name, module in {"tensorrt": trt, "cuda": types.ModuleType("cuda"),
                         "cuda.bindings": types.ModuleType("cuda.bindings"),
                         "cuda.bindings.runtime": cuda}.items():  # fmt: skip
        monkeypatch.setitem(sys.modules, name, module)


def _request(quantized):
    folder = quantized / "tensorrt"
    return BackendConfig(folder, read_card(folder), "int8")


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
    assert not memory.pinned


def test_from_the_second_picture_on_one_cuda_graph_does_it_all(memory, quantized):
    with TensorRtBackend(_request(quantized)) as backend:
        for launched, level in enumerate((10, 20, 30)):
            assert memory.launched == max(0, launched - 1)
            heatmaps = backend.infer(np.full((1, 64, 64, 3), level, np.uint8))
            assert (heatmaps == level).all()
        first = backend.infer(np.full((1, 64, 64, 3), 40, np.uint8))
        backend.infer(np.full((1, 64, 64, 3), 50, np.uint8))
        assert (first == 40).all()  # the caller's own, not the pinned buffer


def test_an_engine_is_built_once_and_kept(memory, quantized):
    for _ in range(2):
        TensorRtBackend(_request(quantized)).close()
    assert (memory.built, memory.loaded) == (1, 2)


@pytest.mark.parametrize("changed", ["version", "gpu", "model"])
def test_anything_that_would_make_it_wrong_builds_another(
    memory, monkeypatch, quantized, tmp_path, changed
):
    TensorRtBackend(_request(quantized)).close()
    request = _request(quantized)
    if changed == "version":
        sys.modules["tensorrt"].__version__ = "11.1-fake"
    elif changed == "gpu":
        properties = types.SimpleNamespace(name=b"Other GPU", major=8, minor=9)
        sys.modules["cuda.bindings.runtime"].cudaGetDeviceProperties = lambda _: (0, properties)
    else:
        shutil.copytree(quantized / "tensorrt", tmp_path / "other")
        with (tmp_path / "other" / "model.onnx").open("ab") as file:
            file.write(b" ")
        request = BackendConfig(tmp_path / "other", request.card, "int8")
    TensorRtBackend(request).close()
    assert memory.built == 2


def _with_engine(quantized, tmp_path, **facts):
    folder = tmp_path / "model"
    shutil.copytree(quantized / "tensorrt", folder)
    content = b"plan, built elsewhere"
    sidecar = Sidecar(**{
        "engine_sha256": hashlib.sha256(content).hexdigest(),
        "onnx_sha256": compute_sha256(folder / "model.onnx"), "library": "tensorrt 11.0-fake",
        "targets": ("SM86", "SM89"), **facts,
    })  # fmt: skip
    write_engine(content, folder / ENGINE_CACHE_FOLDER / "SM89.engine", sidecar)
    return BackendConfig(folder, read_card(folder), "int8")


def test_an_engine_beside_the_model_is_loaded_if_its_sidecar_fits(memory, quantized, tmp_path):
    TensorRtBackend(_with_engine(quantized, tmp_path)).close()
    assert (memory.built, memory.loaded) == (0, 1)


def test_an_engine_for_ampere_and_later_is_loaded_on_any_of_them(memory, quantized, tmp_path):
    request = _with_engine(quantized, tmp_path, targets=(PORTABLE,))
    (request.folder / ENGINE_CACHE_FOLDER / "SM89.engine").rename(
        request.folder / ENGINE_CACHE_FOLDER / f"{PORTABLE}.engine"
    )
    (request.folder / ENGINE_CACHE_FOLDER / "SM89.json").rename(
        request.folder / ENGINE_CACHE_FOLDER / f"{PORTABLE}.json"
    )
    TensorRtBackend(request).close()
    assert (memory.built, memory.loaded) == (0, 1)
    assert runs_on((PORTABLE,), "SM80") and runs_on((PORTABLE,), "SM120")
    assert not runs_on((PORTABLE,), "SM75") and not runs_on(("SM86",), "SM89")
    assert not runs_on((PORTABLE,), "SM87")  # a Jetson


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"onnx_sha256": "0"}, "was built from another model"),
        ({"library": "tensorrt 10.0"}, "was built by tensorrt 10.0, not tensorrt 11.0-fake"),
        ({"targets": ("SM75",)}, "was built for SM75, not SM89"),
        ({"engine_sha256": "0"}, "has changed since it was built"),
    ],
)
def test_an_engine_that_does_not_fit_is_refused(memory, quantized, tmp_path, facts, message):
    with pytest.raises(BackendError, match=message):
        TensorRtBackend(_with_engine(quantized, tmp_path, **facts))
    assert memory.loaded == 0


def test_an_engine_nobody_vouches_for_needs_a_word(memory, quantized, tmp_path):
    (tmp_path / "x.engine").write_bytes(b"plan from a stranger")
    request = dataclasses.replace(_request(quantized), engine=tmp_path / "x.engine")
    with pytest.raises(BackendError, match="no sidecar.*--trust-engine"):
        TensorRtBackend(request)
    assert memory.loaded == 0
    TensorRtBackend(dataclasses.replace(request, trust_engine=True)).close()
    assert memory.loaded == 1


def test_a_damaged_sidecar_or_engine_is_one_clear_error(memory, quantized, tmp_path):
    request = _with_engine(quantized, tmp_path)
    path = request.folder / ENGINE_CACHE_FOLDER / "SM89.json"
    path.write_text("{}")
    with pytest.raises(BackendError, match="not a valid sidecar"):
        TensorRtBackend(request)
    (tmp_path / "bad.engine").write_bytes(b"rubbish")
    trusted = dataclasses.replace(
        _request(quantized), engine=tmp_path / "bad.engine", trust_engine=True
    )
    with pytest.raises(BackendError, match="cannot load the engine"):
        TensorRtBackend(trusted)


def test_kept_engines_are_for_their_owner_alone(memory, quantized):
    TensorRtBackend(_request(quantized)).close()
    (engine,) = get_cache_folder(ENGINE_CACHE_FOLDER).glob("*.engine")
    assert engine.parent.stat().st_mode & 0o077 == 0


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
    with pytest.raises(BackendError, match="no CUDA device found.*choose another --backend"):
        TensorRtBackend(_request(quantized))


def test_an_engine_that_is_not_there_is_said(memory, quantized, tmp_path):
    for trusted in (False, True):
        request = dataclasses.replace(
            _request(quantized), engine=tmp_path / "none.engine", trust_engine=trusted
        )
        with pytest.raises(BackendError, match="does not exist"):
            TensorRtBackend(request)


def test_an_engine_that_cannot_be_kept_runs_all_the_same(memory, quantized, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    TensorRtBackend(_request(quantized)).close()
    assert (memory.built, memory.loaded) == (1, 1)


def test_an_engine_is_built_without_tf32_and_with_the_files_own_types():
    """TF32 has 10 bits of mantissa; without the flag TensorRT 10 would choose types itself."""
    memory, cleared, flags = _Memory(), [], []
    trt = _fake_tensorrt(memory)
    trt.BuilderFlag = types.SimpleNamespace(TF32="TF32")
    trt.NetworkDefinitionCreationFlag = types.SimpleNamespace(STRONGLY_TYPED=3)
    config = types.SimpleNamespace(clear_flag=cleared.append)
    trt.Builder.create_builder_config = lambda _: config
    trt.Builder.create_network = lambda _, wanted: flags.append(wanted)
    assert build(trt, b"onnx", "model.onnx") == b"plan"
    assert (cleared, flags) == (["TF32"], [1 << 3])
