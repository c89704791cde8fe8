"""The float remainder in FP16 and sums that can be fused."""

from collections import Counter

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from okdhp_edge.backends.registry import get_profile
from okdhp_edge.quantize.graph.onnx_qdq import write_qdq
from okdhp_edge.quantize.graph.strongly_typed import free_residuals, to_strongly_typed
from okdhp_edge.quantize.ranges.calibrators import compute_ranges
from okdhp_edge.quantize.ranges.observe import observe


def _qdq(exported, path):
    crops = [np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3)).astype(np.uint8)]
    source = exported / "model.onnx"
    write_qdq(
        source, path, compute_ranges(observe(source, crops), "minmax"), get_profile("tensorrt")
    )
    return path, crops[0]


def test_a_sum_reads_its_convolution_directly_and_its_skip_rounded(exported, tmp_path):
    path, _ = _qdq(exported, tmp_path / "m.onnx")
    model = onnx.load(str(path))

    def readers():
        made_by = {o: n.op_type for n in model.graph.node for o in n.output}
        adds = [n for n in model.graph.node if n.op_type == "Add"]
        return [tuple(sorted(made_by[i] for i in n.input)) for n in adds]

    before = Counter(readers())
    free_residuals(model.graph)
    after = Counter(readers())
    assert before[("DequantizeLinear", "DequantizeLinear")] > 5
    assert after[("Conv", "DequantizeLinear")] > 5
    assert ("Conv", "Conv") not in after
    onnx.checker.check_model(model, full_check=True)


def test_what_is_not_int8_is_fp16_but_for_what_goes_in_and_out(exported, tmp_path):
    path, crop = _qdq(exported, tmp_path / "m.onnx")
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    before = ort.InferenceSession(str(path), options).run(None, {"image": crop})[0]
    to_strongly_typed(path)
    graph = onnx.load(str(path)).graph
    kinds = Counter(i.data_type for i in graph.initializer if np.prod(i.dims) > 1)
    assert set(kinds) <= {onnx.TensorProto.INT8, onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT}
    floats = [i.name for i in graph.initializer if i.data_type == onnx.TensorProto.FLOAT]
    scales = {i for n in graph.node if n.op_type == "Resize" for i in n.input}
    assert set(floats) <= scales
    assert graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert graph.output[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    after = ort.InferenceSession(str(path), options).run(None, {"image": crop})[0]
    noise = np.square(after - before).sum() / np.square(before).sum()
    assert noise < 2e-3  # 27 dB; the model is trained on this CPU, each gives another


def test_every_sum_is_freed_however_the_nodes_are_ordered():
    """Parallel branches: the pairs of one sum stand right behind another sum."""
    nodes, inputs = [], ["x"]
    nodes.append(helper.make_node("Relu", ["x"], ["skip"]))
    for i in range(4):
        nodes.append(helper.make_node("Conv", ["x", "w"], [f"c{i}"]))
        nodes.append(helper.make_node("QuantizeLinear", [f"c{i}", "s"], [f"q{i}"]))
        nodes.append(helper.make_node("DequantizeLinear", [f"q{i}", "s"], [f"d{i}"]))
    nodes += [helper.make_node("Add", [f"d{i}", "skip"], [f"y{i}"]) for i in range(4)]
    values = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
              for name in (*inputs, *(f"y{i}" for i in range(4)))}  # fmt: skip
    graph = helper.make_graph(
        nodes, "g", [values["x"]], [values[f"y{i}"] for i in range(4)],
        [numpy_helper.from_array(np.ones((1, 1, 1, 1), np.float32), "w"),
         numpy_helper.from_array(np.float32(1), "s")],
    )  # fmt: skip
    free_residuals(graph)
    adds = [list(node.input) for node in graph.node if node.op_type == "Add"]
    assert adds == [[f"c{i}", "skip"] for i in range(4)]
