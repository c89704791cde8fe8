"""A detector that finds what the test says, in the layouts that real ones have."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIDE = 64
CLASSES = 3


def _cells():
    for stride in (8, 16, 32):
        rows, columns = np.mgrid[: SIDE // stride, : SIDE // stride]
        for row, column in zip(rows.ravel(), columns.ravel(), strict=True):
            yield column, row, stride


def yolox_rows(found):
    """(N, 5 + classes) with `found` = [(cx, cy, w, h, score, class)] in input pixels."""
    cells = list(_cells())
    rows = np.zeros((len(cells), 5 + CLASSES), np.float32)
    for number, (cx, cy, w, h, score, kind) in enumerate(found):
        column, row, stride = cells[number]
        centre = (cx / stride - column, cy / stride - row)
        rows[number, :5] = [*centre, np.log(w / stride), np.log(h / stride), 1.0]
        rows[number, 5 + kind] = score
    return rows


def yolov8_columns(found):
    """(4 + classes, N)."""
    columns = np.zeros((4 + CLASSES, len(list(_cells()))), np.float32)
    for number, (cx, cy, w, h, score, kind) in enumerate(found):
        columns[:4, number] = [cx, cy, w, h]
        columns[4 + kind, number] = score
    return columns


def constant_detector(path: Path, output: np.ndarray, side: int = SIDE) -> Path:
    """An ONNX file that looks at its picture and answers with `output`, whatever it saw."""
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
        helper.make_node("Add", ["answer", "nothing"], ["output"]),
    ]
    values = [
        numpy_helper.from_array(np.zeros((), np.float32), "zero"),
        numpy_helper.from_array(output[None].astype(np.float32), "answer"),
    ]
    graph = helper.make_graph(
        nodes, "detector",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, side, side])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, *output.shape])],
        values,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    onnx.save(model, path)
    return path
