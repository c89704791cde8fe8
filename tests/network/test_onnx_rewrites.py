"""A rewritten graph computes what it computed, with other operators."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from okdhp_edge.network.graph_view import CHANNEL_SHUFFLE
from okdhp_edge.network.onnx_module import OnnxModule
from okdhp_edge.network.onnx_rewrites import rewrite_imported_graph

WIDTH, SIDE = 8, 16


class _ShuffleUnit(nn.Module):
    """Of ShuffleNet V2; with stride 2 as Lite-HRNet's stem has it."""

    def __init__(self, stride: int = 1) -> None:
        super().__init__()
        half = WIDTH // 2

        def depthwise(channels):
            return nn.Conv2d(channels, channels, 3, stride, 1, groups=channels)

        self.right = nn.Sequential(
            nn.Conv2d(half, WIDTH, 1), nn.ReLU(), depthwise(WIDTH),
            nn.Conv2d(WIDTH, half, 1), nn.ReLU(),
        )  # fmt: skip
        self.left = nn.Identity()
        if stride == 2:
            self.left = nn.Sequential(depthwise(half), nn.Conv2d(half, half, 1), nn.ReLU())

    def forward(self, x):
        left, right = x.chunk(2, dim=1)
        joined = torch.cat([self.left(left), self.right(right)], dim=1)
        n, c, h, w = (int(d) for d in joined.shape)
        return joined.reshape(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


def _export(tmp_path, net):
    path = tmp_path / "net.onnx"
    torch.onnx.export(
        net.eval(), (torch.zeros(1, 3, SIDE, SIDE),), path, dynamo=True, input_names=["x"],
        output_names=["y"], opset_version=18, external_data=False,
    )  # fmt: skip
    return path


def _stem():
    return nn.Conv2d(3, WIDTH, 3, padding=1)


def _check_same(path):
    """Rewrite a file's graph, compare what it computes, and return its operators."""
    model = onnx.load(path)
    rewrite_imported_graph(model)
    x = np.random.default_rng(0).normal(size=(1, 3, SIDE, SIDE)).astype(np.float32)
    expected = ort.InferenceSession(path).run(None, {"x": x})[0]
    module = OnnxModule(model, "y")
    with torch.no_grad():
        np.testing.assert_allclose(module(torch.from_numpy(x)), expected, atol=1e-5)
        twice = module(torch.from_numpy(np.concatenate([x, x])))
    np.testing.assert_allclose(twice[1:], expected, atol=1e-5)
    return [node.op_type for node in model.graph.node]


@pytest.mark.parametrize("strides", [[1], [2], [2, 1, 1]])
def test_shuffle_units_become_convolutions(tmp_path, strides):
    units = [_ShuffleUnit(stride) for stride in strides]
    kinds = _check_same(_export(tmp_path, nn.Sequential(_stem(), nn.ReLU(), *units)))
    assert set(kinds) == {"Conv", "Relu"}
    assert kinds.count("Conv") == 1 + 3 * len(strides)


def test_a_unit_whose_input_may_be_negative_stays(tmp_path):
    kinds = _check_same(_export(tmp_path, nn.Sequential(_stem(), _ShuffleUnit())))
    assert CHANNEL_SHUFFLE in kinds and "Split" in kinds


class _ReadByOthers(_ShuffleUnit):
    """The half that is handed on is read once more."""

    def forward(self, x):
        half = x.chunk(2, dim=1)[0]
        return super().forward(x) + torch.cat([half, half], dim=1)


def test_a_unit_that_others_read_stays(tmp_path):
    net = nn.Sequential(_stem(), nn.ReLU(), _ReadByOthers())
    path = _export(tmp_path, net)
    model = onnx.load(path)
    # Exporters split once for each reader.
    splits = [node for node in model.graph.node if node.op_type == "Split"]
    for node in model.graph.node:
        for at, name in enumerate(node.input):
            if len(splits) > 1 and name == splits[1].output[0]:
                node.input[at] = splits[0].output[0]
    onnx.save(model, path)
    assert CHANNEL_SHUFFLE in _check_same(path)


class _ReadTwice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.inner = _stem(), nn.Conv2d(WIDTH // 2, WIDTH // 2, 1)

    def forward(self, x):
        left, right = F.relu(self.stem(x)).chunk(2, dim=1)
        changed = F.relu(self.inner(right))
        n, c, h, w = (int(d) for d in (*x.shape[:1], WIDTH, *x.shape[2:]))
        joined = torch.cat([left, changed], dim=1)
        mixed = joined.reshape(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        return mixed + torch.cat([changed, changed], dim=1)


def test_other_uses_of_a_shuffle_stay(tmp_path):
    assert CHANNEL_SHUFFLE in _check_same(_export(tmp_path, _ReadTwice()))


def _hard_sigmoid_file(tmp_path, slope):
    """x * HardSigmoid(x) after a convolution; torch's exporter writes no HardSigmoid."""
    helper = onnx.helper
    weight = np.random.default_rng(1).normal(size=(4, 3, 1, 1)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], kernel_shape=[1, 1]),
        helper.make_node("HardSigmoid", ["c"], ["g"], alpha=slope, beta=0.5),
        helper.make_node("Mul", ["g", "c"], ["y"]),
    ]
    values = [
        helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [1, c, SIDE, SIDE])
        for n, c in (("x", 3), ("y", 4))
    ]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:],
                              [onnx.numpy_helper.from_array(weight, "w")])  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


def test_a_hard_swish_in_two_pieces_becomes_one(tmp_path):
    assert _check_same(_hard_sigmoid_file(tmp_path, 1 / 6)) == ["Conv", "HardSwish"]


def test_another_slope_is_no_hard_swish(tmp_path):
    assert "HardSigmoid" in _check_same(_hard_sigmoid_file(tmp_path, 0.2))


class _Table(nn.Module):
    """Rows out of maps, with the batch as a number in the reshapes."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)

    def forward(self, x):
        maps = self.stem(x).permute(0, 2, 3, 1)
        rows = maps.reshape(SIDE * SIDE * 2, 4).softmax(1)
        return rows.reshape(1, SIDE * SIDE * 2, 4)


def test_reshapes_take_any_batch(tmp_path):
    assert "Softmax" in _check_same(_export(tmp_path, _Table()))
