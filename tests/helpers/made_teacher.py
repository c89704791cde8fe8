"""A teacher that sees coloured dots: one joint a colour, so that a test paints the truth."""

import cv2
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIDE = 64
COLOURS = {"nose": (0, 0, 255), "tail": (0, 255, 0), "crest": (255, 0, 0)}
"""BGR of each joint's dot."""
TOML = 'joints = ["nose", "tail", "crest"]\ncolour = "BGR"\nstd = [255, 255, 255]\nsigma = 1.0\n'


def dot_teacher(path, toml=TOML, outputs=("heatmaps",)):
    """Heatmaps at a quarter of 64x64: how much of a joint's colour there is, less of the others.
    The `.toml` is written beside it."""
    weight = -np.ones((3, 3, 1, 1), np.float32)
    for row, colour in enumerate(COLOURS.values()):
        weight[row, np.argmax(colour)] = 1
    nodes = [
        helper.make_node("Conv", ["image", "weight"], ["mix"]),
        helper.make_node("Relu", ["mix"], ["seen"]),
        helper.make_node("AveragePool", ["seen"], ["pooled"], kernel_shape=[4, 4], strides=[4, 4]),
        helper.make_node("Identity", ["pooled"], ["heatmaps"]),
        helper.make_node("Neg", ["pooled"], ["nothing"]),
    ]
    shape = [1, 3, SIDE // 4, SIDE // 4]
    graph = helper.make_graph(
        nodes, "dots",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, SIDE, SIDE])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in outputs],
        [numpy_helper.from_array(weight, "weight")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, path)
    path.with_suffix(".toml").write_text(toml)
    return path


def dotted(dots, size=(64, 64), seed=0):
    """A dark picture (height, width, 3) with a square of 7 pixels at each joint."""
    rng = np.random.default_rng(seed)
    picture = rng.integers(0, 30, (size[1], size[0], 3), dtype=np.uint8)
    picture = cv2.GaussianBlur(picture, (0, 0), 5)
    for joint, (x, y) in dots.items():
        picture[max(y - 3, 0) : y + 4, max(x - 3, 0) : x + 4] = COLOURS[joint]
    return picture
