"""The graph changes for ONNX Runtime compute the same."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from okdhp_edge.backends.registry import get_profile
from okdhp_edge.quantize.graph.graph_rewrites import (
    absorb_normalization,
    convert_batch_norms_to_convolutions,
    upsample_by_concat,
)
from okdhp_edge.quantize.graph.onnx_qdq import write_qdq
from okdhp_edge.quantize.ranges.calibrators import compute_ranges
from okdhp_edge.quantize.ranges.observe import observe
from okdhp_edge.quantize.ranges.statistics import observe_input_range


def _run(path, crop):
    return ort.InferenceSession(str(path)).run(None, {"image": crop})[0]


@pytest.fixture
def crop():
    return np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3)).astype(np.uint8)


def _kinds(path):
    return [n.op_type for n in onnx.load(str(path)).graph.node]


def test_a_norm_as_a_convolution_computes_the_same(exported, tmp_path, crop):
    source = exported / "model.onnx"
    assert "BatchNormalization" in _kinds(source)
    convert_batch_norms_to_convolutions(source, tmp_path / "m.onnx")
    assert "BatchNormalization" not in _kinds(tmp_path / "m.onnx")
    onnx.checker.check_model(str(tmp_path / "m.onnx"), full_check=True)
    np.testing.assert_allclose(_run(tmp_path / "m.onnx", crop), _run(source, crop), atol=1e-4)


def _quantized(exported, crop, path, mean=None):
    source = exported / "model.onnx"
    if mean is not None:
        model = onnx.load(str(source))
        subtract = next(n for n in model.graph.node if n.op_type == "Sub")
        value = next(i for i in model.graph.initializer if i.name == subtract.input[1])
        shape = numpy_helper.to_array(value).shape
        value.CopyFrom(
            numpy_helper.from_array(np.broadcast_to(np.float32(mean), shape).copy(), value.name)
        )
        source = path.with_name("float.onnx")
        onnx.save(model, str(source))
    ranges = compute_ranges(observe(source, [crop]), "minmax") | observe_input_range(source)
    import dataclasses

    plain = dataclasses.replace(get_profile("onnxruntime"), rewrite=False)
    write_qdq(source, path, ranges, plain)


def test_pixels_are_read_as_they_come_where_the_mean_is_whole(exported, tmp_path, crop):
    path = tmp_path / "m.onnx"
    _quantized(exported, crop, path, mean=127.0)
    before, kinds = _run(path, crop), _kinds(path)
    absorb_normalization(path)
    np.testing.assert_array_equal(_run(path, crop), before)
    after = _kinds(path)
    assert "Sub" in kinds and "Sub" not in after
    assert after.count("QuantizeLinear") == kinds.count("QuantizeLinear") - 1


def test_another_normalisation_is_left_alone(exported, tmp_path, crop):
    path = tmp_path / "m.onnx"
    _quantized(exported, crop, path, mean=np.reshape([123.675, 116.28, 103.53], (1, 3, 1, 1)))
    before = path.read_bytes()
    absorb_normalization(path)
    assert path.read_bytes() == before


def test_no_float_norm_is_left_for_onnxruntime(quantized):
    assert "BatchNormalization" not in _kinds(quantized / "onnxruntime" / "model.onnx")
    assert "BatchNormalization" in _kinds(quantized / "tensorrt" / "model.onnx")


def test_doubling_by_copies_computes_the_same(exported, tmp_path, crop):
    path = tmp_path / "m.onnx"
    _quantized(exported, crop, path)
    before, kinds = _run(path, crop), _kinds(path)
    upsample_by_concat(path)
    np.testing.assert_array_equal(_run(path, crop), before)
    assert "Resize" in kinds and "Resize" not in _kinds(path)


def test_other_ways_of_resizing_stay(exported, tmp_path, crop):
    path = tmp_path / "m.onnx"
    _quantized(exported, crop, path)
    model = onnx.load(str(path))
    resizes = [node for node in model.graph.node if node.op_type == "Resize"]
    for node in resizes:
        next(a for a in node.attribute if a.name == "nearest_mode").s = b"ceil"
    onnx.save(model, str(path))
    upsample_by_concat(path)
    assert _kinds(path).count("Resize") == len(resizes) > 0


def test_doubling_an_upright_map_by_copies_is_exact(tmp_path):
    """3 rows and 5 columns of 2 channels, each value another."""
    limits = ["scale", "zero"]
    nodes = [
        helper.make_node("DequantizeLinear", ["x", *limits], ["wide"], name="d"),
        helper.make_node("Resize", ["wide", "", "twice"], ["doubled"], name="r", mode="nearest",
                         coordinate_transformation_mode="asymmetric", nearest_mode="floor"),
        helper.make_node("QuantizeLinear", ["doubled", *limits], ["y"], name="q"),
    ]  # fmt: skip
    values = {"scale": np.float32(0.5), "zero": np.uint8(3), "twice": np.float32([1, 1, 2, 2])}
    graph = helper.make_graph(
        nodes, "doubling",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, [1, 2, 3, 5])],
        [helper.make_tensor_value_info("y", TensorProto.UINT8, [1, 2, 6, 10])],
        [numpy_helper.from_array(np.asarray(v), n) for n, v in values.items()],
    )  # fmt: skip
    path = tmp_path / "m.onnx"
    opset = [helper.make_opsetid("", 20)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=10), path)
    upsample_by_concat(path)
    changed = onnx.load(path)
    assert "Resize" not in [node.op_type for node in changed.graph.node]
    x = np.arange(30, dtype=np.uint8).reshape(1, 2, 3, 5)
    (found,) = ReferenceEvaluator(changed).run(None, {"x": x})
    np.testing.assert_array_equal(found, x.repeat(2, axis=2).repeat(2, axis=3))
