import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from okdhp_edge.backends.registry import get_profile
from okdhp_edge.export.export_branch import ExportOptions, export_branch
from okdhp_edge.quantize.graph.onnx_qdq import find_with_activation, write_qdq
from okdhp_edge.quantize.quantize_model import QuantizeOptions, prepare_quantization_inputs
from okdhp_edge.quantize.ranges.calibrators import compute_ranges
from okdhp_edge.quantize.search.sensitivity import (
    LayerSensitivity,
    measure_sensitivity,
    sqnr_db,
    write_sensitivity,
)
from tests.helpers.tiny_models import DATA


def test_sqnr_in_decibels():
    signal = np.full((2, 3), 10.0, dtype=np.float32)
    assert sqnr_db(signal, signal + 1) == pytest.approx(20)
    assert sqnr_db(signal, signal) == 200


def test_the_layer_that_suffers_most_comes_first(exported, tmp_path):
    """One layer's incoming range is made a hundred times too wide: alone in INT8 it ruins all."""
    inputs = prepare_quantization_inputs(exported, QuantizeOptions(data=DATA, max_drop=100.0))
    ranges = compute_ranges(inputs.statistics, "minmax") | inputs.fixed_ranges
    chosen = get_profile("tensorrt")
    before = measure_sensitivity(inputs, chosen, ranges, lambda *_: None)
    victim = before[len(before) // 2].name
    graph = onnx.load(str(inputs.float_model)).graph
    tensor = next(n.input[0] for n in graph.node if n.name == victim)
    low, high = ranges[tensor]
    after = measure_sensitivity(
        inputs, chosen, ranges | {tensor: (3e3 * low, 3e3 * high)}, lambda *_: None
    )
    assert {a.name: a.sqnr_db for a in after}[victim] < before[len(before) // 2].sqnr_db - 10
    assert [layer.sqnr_db for layer in after] == sorted(layer.sqnr_db for layer in after)
    assert all(layer.drop is not None for layer in after[:5])


def test_a_network_of_a_fixed_batch_is_measured_too(trained, tmp_path):
    fp32 = export_branch(trained, ExportOptions(out=tmp_path, batch=4))
    inputs = prepare_quantization_inputs(fp32, QuantizeOptions(data=DATA, max_drop=100.0))
    ranges = compute_ranges(inputs.statistics, "minmax") | inputs.fixed_ranges
    found = measure_sensitivity(inputs, get_profile("tensorrt"), ranges, lambda *_: None)
    assert found and all(np.isfinite(layer.sqnr_db) for layer in found)


def test_table_and_plot_are_written(tmp_path):
    layers = [LayerSensitivity("worst", 12.0, 3.25), LayerSensitivity("better", 40.0)]
    write_sensitivity(layers, tmp_path, "generic")
    content = json.loads((tmp_path / "sensitivity.json").read_text())
    assert content["layers"][0] == {"name": "worst", "sqnr_db": 12.0, "drop": 3.25}
    assert (tmp_path / "sensitivity.png").stat().st_size > 5000


def test_a_layer_alone_has_the_steps_that_it_has_among_others(tmp_path):
    """A ReLU cuts its range to a fifth: with the steps of what lies before it, it would look worse
    than it is."""
    weight = numpy_helper.from_array(np.eye(2, dtype=np.float32).reshape(2, 2, 1, 1), "w")
    names = ["x", "c0", "r0", "c1", "r1", "c2"]
    kinds = ["Conv", "Relu", "Conv", "Relu", "Conv"]
    nodes = [
        helper.make_node(kind, [names[i]] + ["w"] * (kind == "Conv"), [names[i + 1]], name=f"n{i}")
        for i, kind in enumerate(kinds)
    ]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 2, 4, 4]) for n in ("x", "c2")]
    model = helper.make_model(
        helper.make_graph(nodes, "g", ends[:1], ends[1:], [weight]),
        opset_imports=[helper.make_opsetid("", 20)], ir_version=10,
    )  # fmt: skip
    onnx.save(model, tmp_path / "float.onnx")
    ranges = {"x": (-20.0, 5.0), "c0": (-20.0, 5.0), "r0": (0.0, 5.0),
              "c1": (-20.0, 5.0), "r1": (0.0, 5.0), "c2": (0.0, 5.0)}  # fmt: skip
    profile = get_profile("generic")
    scales = []
    for only in ([], find_with_activation(tmp_path / "float.onnx", "n0")):
        write_qdq(tmp_path / "float.onnx", tmp_path / "q.onnx", ranges, profile, only=only)
        graph = onnx.load(str(tmp_path / "q.onnx")).graph
        values = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
        scales.append({n.input[0]: float(values[n.input[1]]) for n in graph.node
                       if n.op_type == "QuantizeLinear"})  # fmt: skip
    throughout, alone = scales
    assert set(alone) == {"x", "r0"} or set(alone) == {"x", "c0"}
    assert {name: throughout[name] for name in alone} == pytest.approx(alone)
