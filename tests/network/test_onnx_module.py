"""A foreign teacher on the student's device says what ONNX Runtime says."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from torch.nn import functional as F

from okdhp_edge.network.onnx_module import OnnxModule, UnknownOperatorError


class _Mixed(nn.Module):
    """Most operators of published pose networks in one small graph."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.depthwise = nn.Conv2d(8, 8, 5, padding=2, groups=8)
        self.last = nn.Conv2d(16, 4, 1)

    def forward(self, image):
        x = F.relu6(self.norm(self.first(image / 255 - 0.5)))
        low = F.leaky_relu(self.depthwise(F.max_pool2d(x, 2)), 0.1)
        up = F.interpolate(low, scale_factor=2, mode="bilinear", align_corners=False)
        near = F.interpolate(low, scale_factor=2, mode="nearest")
        both = torch.cat([up * torch.sigmoid(near), F.relu(x)], dim=1)
        first, second = self.last(both).split(2, dim=1)
        return torch.cat([first + second, first - second], dim=1)


def test_it_gives_what_onnxruntime_gives(tmp_path):
    torch.manual_seed(0)
    path = tmp_path / "mixed.onnx"
    torch.onnx.export(
        _Mixed().eval(), (torch.zeros(1, 3, 32, 48),), path, dynamo=False, output_names=["maps"],
        dynamic_axes=None, do_constant_folding=False,
    )  # fmt: skip
    crops = torch.rand(1, 3, 32, 48) * 255
    session = ort.InferenceSession(path)
    expected = session.run(["maps"], {session.get_inputs()[0].name: crops.numpy()})[0]
    found = OnnxModule(onnx.load(path), "maps")(crops)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-4)


def _one_node(operator, **attributes):
    node = helper.make_node(operator, ["x"], ["y"], **attributes)
    shapes = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 2, 8, 8]) for n in ("x", "y")]
    graph = helper.make_graph([node], "g", shapes[:1], shapes[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


def test_old_bounds_are_read_and_what_it_cannot_do_is_refused():
    x = torch.linspace(-3, 9, 128).reshape(1, 2, 8, 8)
    clipped = OnnxModule(_one_node("Clip", min=0.0, max=6.0), "y")(x)
    assert torch.equal(clipped, x.clamp(0, 6))
    for attributes in ({"ceil_mode": 1}, {"auto_pad": "SAME_UPPER"}, {"dilations": [2, 2]}):
        with pytest.raises(UnknownOperatorError, match="MaxPool with"):
            OnnxModule(_one_node("MaxPool", kernel_shape=[2, 2], **attributes), "y")(x)


def test_an_operator_it_does_not_know_is_left_to_onnxruntime():
    with pytest.raises(UnknownOperatorError, match="Tan"):
        OnnxModule(_one_node("Tan"), "y")


def test_padding_that_differs_by_side_is_as_in_onnx():
    weight = numpy_helper.from_array(np.ones((2, 2, 3, 3), np.float32), "w")
    node = helper.make_node("Conv", ["x", "w"], ["y"], strides=[2, 2], pads=[0, 0, 1, 1])
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s)
              for n, s in (("x", [1, 2, 8, 8]), ("y", [1, 2, 4, 4]))]  # fmt: skip
    graph = helper.make_graph([node], "g", values[:1], values[1:], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 10
    crops = np.random.default_rng(0).normal(size=(1, 2, 8, 8)).astype(np.float32)
    expected = ort.InferenceSession(model.SerializeToString()).run(None, {"x": crops})[0]
    found = OnnxModule(model, "y")(torch.from_numpy(crops))
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)


def _compare(model, crops):
    """An OnnxModule against ONNX Runtime."""
    model.ir_version = 10
    expected = ort.InferenceSession(model.SerializeToString()).run(None, {"x": crops})[0]
    found = OnnxModule(model, "y")(torch.from_numpy(crops))
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)


def _resize_model(scale, **attributes):
    scales = numpy_helper.from_array(np.array([1, 1, scale, scale], np.float32), "scales")
    node = helper.make_node("Resize", ["x", "", "scales"], ["y"], mode="nearest", **attributes)
    values = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2, 8, 8]),
              helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]  # fmt: skip
    graph = helper.make_graph([node], "g", values[:1], values[1:], [scales])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("rounding", ["floor", "ceil", "round_prefer_floor", "round_prefer_ceil"])
@pytest.mark.parametrize(
    "how", ["asymmetric", "half_pixel", "tf_half_pixel_for_nn", "align_corners"]
)
def test_enlarging_by_the_nearest_is_as_in_onnx_or_left_to_onnxruntime(scale, rounding, how):
    crops = np.random.default_rng(0).normal(size=(1, 2, 8, 8)).astype(np.float32)
    model = _resize_model(scale, nearest_mode=rounding, coordinate_transformation_mode=how)
    try:
        _compare(model, crops)
    except UnknownOperatorError:
        assert (rounding, how) not in (
            ("floor", "asymmetric"),
            ("round_prefer_floor", "half_pixel"),
        )


@pytest.mark.parametrize(("opset", "attributes"), [(11, {}), (11, {"axis": 2}), (17, {"axis": 1})])
def test_softmax_before_and_after_its_change(opset, attributes):
    model = _one_node("Softmax", **attributes)
    model.opset_import[0].version = opset
    _compare(model, np.random.default_rng(0).normal(size=(1, 2, 8, 8)).astype(np.float32))


def _reshape_model(shape):
    target = numpy_helper.from_array(np.array(shape), "shape")
    node = helper.make_node("Reshape", ["x", "shape"], ["y"])
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in ("x", "y")]
    graph = helper.make_graph([node], "g", values[:1], values[1:], [target])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


def test_a_reshape_keeps_sizes_and_one_to_a_fixed_batch_is_left_to_onnxruntime():
    crops = np.random.default_rng(0).normal(size=(3, 2, 4, 4)).astype(np.float32)
    for shape in ([0, 2, -1], [-1, 2, 16], [3, 2, 16]):
        _compare(_reshape_model(shape), crops)
    for shape in ([1, 2, 16], [1, 2, -1]):
        with pytest.raises(UnknownOperatorError, match="fixed batch size"):
            OnnxModule(_reshape_model(shape), "y")(torch.from_numpy(crops))
