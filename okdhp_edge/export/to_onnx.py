"""Export a torch module to a verified, simplified ONNX file."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from torch import nn

from okdhp_edge.artifacts.card import InputSpec
from okdhp_edge.errors import ModelError
from okdhp_edge.network.graph_view import drop_unused_initializers

OPSET = 20
"""TensorRT 11 parses up to 25; fp16 Q/DQ scales need 19; 20 is read by all three runtimes."""
INPUT_NAME, OUTPUT_NAME = "image", "heatmaps"
_MAX_RELATIVE_ERROR = 1e-3


def write_onnx(net: nn.Module, spec: InputSpec, path: Path, batch: int | None) -> None:
    """Export with torch's dynamo exporter; the weights stay inside the one file.

    Args:
        batch: fixed batch size, or None for a free one.
    """
    # Exporting a free batch at size one would let the exporter fix it to one.
    example = torch.zeros((batch or 2, spec.height, spec.width, 3), dtype=torch.uint8)
    dynamic = None if batch else ({0: torch.export.Dim("batch", min=1, max=1024)},)
    with _silence_exporter():
        torch.onnx.export(
            net, (example,), str(path), input_names=[INPUT_NAME], output_names=[OUTPUT_NAME],
            opset_version=OPSET, dynamo=True, external_data=False, dynamic_shapes=dynamic,
        )  # fmt: skip
    onnx.checker.check_model(str(path), full_check=True)


@contextlib.contextmanager
def _silence_exporter() -> Iterator[None]:
    """The exporter prints its progress and logs that torchvision is absent."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def simplify(path: Path, batch: int | None) -> bool:
    """Run onnxsim over the file; keep its result only if it computes the same.

    Checked on random images at the fixed batch, or at 1 and 3 where the batch is free.

    Returns:
        Whether the file is now the simplified one.
    """
    import onnxsim

    before = onnx.load(str(path))
    try:
        after, _ = onnxsim.simplify(before, check_n=0)
        same = all(_has_same_output(before, after, n) for n in ([batch] if batch else [1, 3]))
    except Exception:
        return False
    if same:
        onnx.checker.check_model(after, full_check=True)
        onnx.save(after, str(path))
    return same


def _has_same_output(before: onnx.ModelProto, after: onnx.ModelProto, batch: int) -> bool:
    shape = [d.dim_value for d in before.graph.input[0].type.tensor_type.shape.dim][1:]
    images = np.random.default_rng(0).integers(0, 256, (batch, *shape)).astype(np.uint8)
    a, b = (_run(m, images) for m in (before, after))
    scale = max(float(np.abs(a).max()), 1e-6)
    return a.shape == b.shape and float(np.abs(a - b).max()) <= _MAX_RELATIVE_ERROR * scale


def _run(model: onnx.ModelProto, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {INPUT_NAME: images})[0], dtype=np.float32)


def ensure_folded(path: Path) -> None:
    """Every batch norm that follows a convolution must be part of it.

    Raises:
        ModelError: one was left behind, which would cost INT8 its speed.
    """
    graph = onnx.load(str(path)).graph
    convolved = {o for n in graph.node if n.op_type == "Conv" for o in n.output}
    left = [n.name for n in graph.node
            if n.op_type == "BatchNormalization" and n.input[0] in convolved]  # fmt: skip
    if left:
        raise ModelError(f"batch norm '{left[0]}' was not folded", "report this as a bug")


def copy_batch_in_reshapes(path: Path) -> None:
    """Let reshapes copy the batch size from their input, as 0 asks for, in place of the one that
    was exported: calibration feeds several images at once. Where the first size is not the batch,
    as between rows of all images, -1 lets it grow with them."""
    model = onnx.load(str(path))
    values = onnx.shape_inference.infer_shapes(model).graph.value_info
    sizes = {v.name: v.type.tensor_type.shape.dim[0].dim_value
             for v in values if v.type.tensor_type.shape.dim}  # fmt: skip
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type != "Reshape" or node.input[1] not in constants:
            continue
        exported = constants[node.input[1]]
        first = 0 if sizes.get(node.input[0]) in (None, exported[0]) else -1
        shape = np.concatenate([[first], exported[1:]]).astype(np.int64)
        # Of its own: other operators may share the constant.
        node.input[1] = f"{node.output[0]}_shape"
        model.graph.initializer.append(onnx.numpy_helper.from_array(shape, node.input[1]))
        del node.attribute[:]  # `allowzero` would take 0 for a size
    drop_unused_initializers(model.graph)
    onnx.save(model, str(path))


def set_metadata(path: Path, facts: dict[str, str]) -> None:
    """Replace the file's `metadata_props`."""
    model = onnx.load(str(path))
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, facts)
    onnx.save(model, str(path))
