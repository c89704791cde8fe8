"""Final changes to a Q/DQ file for TensorRT's strongly typed networks.

Without them an INT8 file loses to a plain FP16 engine: what is not quantized would run in FP32, and
a rounded sum cannot be fused into the convolution before it.
"""

from collections import Counter
from pathlib import Path

import onnx
from onnxruntime.transformers.float16 import convert_float_to_float16

from okdhp_edge.network.graph_view import drop_unused_initializers

_QDQ_OPS = ("QuantizeLinear", "DequantizeLinear")


def to_strongly_typed(path: Path) -> None:
    """Free residual sums and turn the float remainder into FP16; inputs and outputs stay."""
    model = onnx.load(str(path))
    free_residuals(model.graph)
    # Resize keeps its scales in float; everything else may be FP16, Q/DQ scales since opset 19.
    half = convert_float_to_float16(model, keep_io_types=True, op_block_list=[])
    _sort(half.graph)
    onnx.checker.check_model(half, full_check=True)
    onnx.save(half, str(path))


def free_residuals(graph: onnx.GraphProto) -> None:
    """Take the Q/DQ pair away between a convolution and the addition that alone reads it.

    The other input, the skip, keeps its own: then the addition is fused into the convolution
    (NVIDIA, "Explicit Quantization", placement of Q/DQ around skip connections).
    """
    made_by = {o: n for n in graph.node for o in n.output}
    readers = Counter(i for n in graph.node for i in n.input)
    for node in [n for n in graph.node if n.op_type == "Add"]:  # others are removed on the way
        for place in (0, 1):
            dequantize = made_by.get(node.input[place])
            quantize = made_by.get(dequantize.input[0]) if dequantize is not None else None
            if dequantize is None or quantize is None:
                continue
            if (quantize.op_type, dequantize.op_type) != _QDQ_OPS:
                continue
            source = made_by.get(quantize.input[0])
            alone = readers[dequantize.output[0]] == readers[quantize.output[0]] == 1
            if source is not None and source.op_type == "Conv" and alone:
                node.input[place] = quantize.input[0]
                graph.node.remove(dequantize)
                graph.node.remove(quantize)
                break
    drop_unused_initializers(graph)


def _sort(graph: onnx.GraphProto) -> None:
    """In the order of execution, which the conversion does not keep."""
    known = {i.name for i in graph.input} | {i.name for i in graph.initializer} | {""}
    waiting, ordered = list(graph.node), []
    while waiting:
        ready = [n for n in waiting if all(i in known for i in n.input)]
        ordered += ready
        known |= {o for n in ready for o in n.output}
        waiting = [n for n in waiting if not any(n is r for r in ready)]
    del graph.node[:]
    graph.node.extend(ordered)
