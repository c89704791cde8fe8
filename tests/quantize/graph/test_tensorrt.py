"""The Q/DQ contract, checked by us and by TensorRT-RTX itself."""

import importlib
import importlib.util
import shutil

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from okdhp_edge.artifacts.card import compute_sha256
from okdhp_edge.backends.engine import PORTABLE, EngineKey, build, describe_library, read_engine
from okdhp_edge.backends.registry import get_profile
from okdhp_edge.errors import BackendError, ModelError
from okdhp_edge.export.strip import strip
from okdhp_edge.export.to_onnx import simplify, write_onnx
from okdhp_edge.network.build import build_network
from okdhp_edge.quantize.graph.onnx_qdq import find_convolutions, find_heads, write_qdq
from okdhp_edge.quantize.graph.strongly_typed import to_strongly_typed
from okdhp_edge.quantize.graph.tensorrt import (
    DEFAULT_TARGETS,
    check_qdq_rules,
    find_float_convolutions,
    write_engines,
)
from okdhp_edge.quantize.ranges.calibrators import compute_ranges
from okdhp_edge.quantize.ranges.observe import observe
from tests.helpers.tiny_models import tiny_recipe

needs_rtx = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None,
    reason="TensorRT for RTX is not installed: pip install okdhp-edge[tensorrt]",
)


def test_our_file_keeps_the_contract(quantized):
    check_qdq_rules(quantized / "tensorrt" / "model.onnx")
    model = onnx.load(str(quantized / "tensorrt" / "model.onnx"))
    assert not any(i.data_type == onnx.TensorProto.INT32 for i in model.graph.initializer)


def test_the_cpu_profile_breaks_it_and_the_node_is_named(quantized):
    with pytest.raises(ModelError, match=r"would refuse node '.+': it quantizes to"):
        check_qdq_rules(quantized / "onnxruntime" / "model.onnx")


def test_a_float_file_is_refused(exported):
    with pytest.raises(ModelError, match="has no Q/DQ node"):
        check_qdq_rules(exported / "model.onnx")


def test_a_zero_point_that_is_not_zero_is_named(quantized, tmp_path):
    model = onnx.load(str(quantized / "tensorrt" / "model.onnx"))
    node = next(n for n in model.graph.node if n.op_type == "QuantizeLinear")
    zero = next(i for i in model.graph.initializer if i.name == node.input[2])
    zero.CopyFrom(numpy_helper.from_array(np.array(3, np.int8), zero.name))
    onnx.save(model, str(tmp_path / "m.onnx"))
    with pytest.raises(ModelError, match="nonzero zero-point"):
        check_qdq_rules(tmp_path / "m.onnx")


NETWORKS = {
    "lite": {"kind": "mobilepose", "encoder": "efficientnet_lite0", "encoder_weights": None,
             "branches": [1]},
    "hourglass-2": {"kind": "hourglass", "width": 128, "shared_stacks": 1, "branches": [1]},
    "hourglass-4": {"kind": "hourglass", "width": 128, "shared_stacks": 2, "branches": [2]},
}  # fmt: skip


@pytest.fixture(scope="module", params=list(NETWORKS))
def full_size(request, tmp_path_factory):
    """A network of a size that is deployed, untrained, and its INT8 file for TensorRT."""
    folder = tmp_path_factory.mktemp(request.param)
    recipe = tiny_recipe(network=NETWORKS[request.param], input={"size": [128, 128]})
    net = build_network(recipe.network, 14, load_encoder=False).eval()
    source, target = folder / "float.onnx", folder / "model.onnx"
    write_onnx(strip(net, recipe.network, 0), recipe.input_spec(), source, 1)
    simplify(source, 1)
    crops = [np.random.default_rng(0).integers(0, 256, (1, 128, 128, 3)).astype(np.uint8)]
    ranges = compute_ranges(observe(source, crops), "minmax")
    write_qdq(source, target, ranges, get_profile("tensorrt"))
    to_strongly_typed(target)
    check_qdq_rules(target)
    return source, target, ranges


@needs_rtx
def test_every_convolution_but_the_head_is_int8_in_tensorrts_own_network(full_size):
    source, target, _ = full_size
    assert find_float_convolutions(target) == find_heads(source)


@needs_rtx
def test_layers_kept_float_are_the_ones_found(full_size, tmp_path):
    source, _, ranges = full_size
    kept = find_convolutions(source)[3:5]
    write_qdq(source, tmp_path / "m.onnx", ranges, get_profile("tensorrt"), keep_float=kept)
    to_strongly_typed(tmp_path / "m.onnx")
    assert sorted(find_float_convolutions(tmp_path / "m.onnx")) == sorted(
        [*kept, *find_heads(source)]
    )


@needs_rtx
@pytest.mark.slow
@pytest.mark.parametrize("target", [*DEFAULT_TARGETS, PORTABLE])
def test_an_engine_builds_for_each_gpu_generation_without_a_gpu(full_size, target):
    import tensorrt_rtx

    file = full_size[1]
    assert len(build(tensorrt_rtx, file.read_bytes(), file.name, [target])) > 100_000


@needs_rtx
def test_engines_lie_beside_the_model_with_what_they_were_built_from(quantized, tmp_path):
    folder = tmp_path / "tensorrt"
    shutil.copytree(quantized / "tensorrt", folder)
    told = []
    path = write_engines(folder, ["SM86", "SM89"], lambda *words: told.append(words))
    assert told and all(0 < done <= total for _, done, total, _ in told)
    assert path.name == "SM86.engine" and (path.parent / "SM89.engine").is_file()
    library = describe_library(importlib.import_module("tensorrt_rtx"))
    wanted = EngineKey(compute_sha256(folder / "model.onnx"), library, "SM89", "some GPU")
    assert len(read_engine(path.parent / "SM89.engine", wanted)) > 10_000
    with pytest.raises(BackendError, match="cannot build for SM12"):
        write_engines(folder, ["SM12"])
    with pytest.raises(BackendError, match="give AMPERE_PLUS alone"):
        write_engines(folder, [PORTABLE, "SM89"])


@needs_rtx
def test_what_tensorrt_refuses_is_quoted(quantized):
    import tensorrt_rtx

    content = (quantized / "onnxruntime" / "model.onnx").read_bytes()
    with pytest.raises(BackendError, match=r"cannot parse model\.onnx \(.*bias_DequantizeLinear"):
        build(tensorrt_rtx, content, "model.onnx", ["SM89"])
