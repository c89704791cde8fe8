"""The Q/DQ contract, checked by us and by TensorRT-RTX itself."""

import importlib.util

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from okdhp_edge.errors import BackendError, ModelError
from okdhp_edge.quantize.tensorrt import TARGETS, build_engine, check_contract

needs_rtx = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None,
    reason="tensorrt-rtx is not installed",
)


def test_our_file_keeps_the_contract(quantized):
    check_contract(quantized / "tensorrt" / "model.onnx")
    model = onnx.load(str(quantized / "tensorrt" / "model.onnx"))
    assert not any(i.data_type == onnx.TensorProto.INT32 for i in model.graph.initializer)


def test_the_cpu_profile_breaks_it_and_the_node_is_named(quantized):
    with pytest.raises(ModelError, match=r"would refuse node '.+': it quantizes to"):
        check_contract(quantized / "onnxruntime" / "model.onnx")


def test_a_float_file_is_refused(exported):
    with pytest.raises(ModelError, match="has no Q/DQ node"):
        check_contract(exported / "model.onnx")


def test_a_zero_point_that_is_not_zero_is_named(quantized, tmp_path):
    model = onnx.load(str(quantized / "tensorrt" / "model.onnx"))
    node = next(n for n in model.graph.node if n.op_type == "QuantizeLinear")
    zero = next(i for i in model.graph.initializer if i.name == node.input[2])
    zero.CopyFrom(numpy_helper.from_array(np.array(3, np.int8), zero.name))
    onnx.save(model, str(tmp_path / "m.onnx"))
    with pytest.raises(ModelError, match="zero-point other than 0"):
        check_contract(tmp_path / "m.onnx")


@needs_rtx
@pytest.mark.parametrize("target", TARGETS)
def test_an_engine_builds_for_each_gpu_generation_without_a_gpu(quantized, target):
    plan = build_engine(quantized / "tensorrt" / "model.onnx", [target])
    assert len(plan) > 10_000


@needs_rtx
def test_what_tensorrt_refuses_is_quoted(quantized):
    with pytest.raises(BackendError, match=r"cannot parse model\.onnx \(.*bias_DequantizeLinear"):
        build_engine(quantized / "onnxruntime" / "model.onnx")
