"""Small ONNX networks with known weights."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def conv_net(
    path: Path, channels=(3, 8, 4), kernel=3, side=8, *, bias=True, seed=0, batch=1
) -> Path:
    """uint8 (batch, side, side, 3) through convolutions with ReLUs between, the last without."""
    rng = np.random.default_rng(seed)
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], name="cast", to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["x0"], name="transpose", perm=[0, 3, 1, 2]),
    ]
    weights = []
    last = len(channels) - 2
    for i, (c_in, c_out) in enumerate(pairwise(channels)):
        shape = (c_out, c_in, kernel, kernel)
        scale = 1 / np.sqrt(c_in * kernel * kernel)
        weights.append(
            numpy_helper.from_array(
                (rng.normal(size=shape) * scale).astype(np.float32), f"weight{i}"
            )
        )
        inputs = [f"x{i}", f"weight{i}"]
        if bias:
            values = rng.normal(size=c_out).astype(np.float32)
            weights.append(numpy_helper.from_array(values, f"bias{i}"))
            inputs.append(f"bias{i}")
        out = "heatmaps" if i == last else f"conv{i}"
        pads = [kernel // 2] * 4
        nodes.append(helper.make_node("Conv", inputs, [out], name=f"node_conv{i}", pads=pads))
        if i != last:
            nodes.append(helper.make_node("Relu", [out], [f"x{i + 1}"], name=f"relu{i}"))
    shape = [batch, channels[-1], side, side]
    graph = helper.make_graph(
        nodes, "made",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [batch, side, side, 3])],
        [helper.make_tensor_value_info("heatmaps", TensorProto.FLOAT, shape)],
        weights,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(path))
    return path
