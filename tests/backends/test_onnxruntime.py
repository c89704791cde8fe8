"""Which options a session is made with."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from okdhp_edge.backends import onnxruntime as module
from okdhp_edge.backends.base import BackendConfig
from tests.helpers.fakes import fake_card


def _make_options(precision="int8", **card):
    return module._make_model_options(BackendConfig(Path(), fake_card(**card), precision))


def _is_exact(options):
    try:
        return options.get_session_config_entry("session.x64quantprecision") == "1"
    except RuntimeError:  # there is no such entry
        return False


@pytest.mark.parametrize(
    ("saturates", "precision", "safe", "exact"),
    [(True, "int8", None, True), (True, "int8", False, True), (True, "int8", True, False),
     (True, "fp32", None, False), (False, "int8", None, False)],
)  # fmt: skip
def test_sums_that_may_saturate_here_are_computed_exactly(
    monkeypatch, saturates, precision, safe, exact
):
    monkeypatch.setattr(module, "saturates_in_int8", lambda: saturates)
    assert _is_exact(_make_options(precision, saturation_free=safe)) is exact


def test_constants_of_a_tensorrt_file_are_not_folded():
    """Its FP16 scales would be read wrongly."""
    levels = ort.GraphOptimizationLevel
    assert _make_options(profile="tensorrt").graph_optimization_level == levels.ORT_DISABLE_ALL
    assert _make_options(profile="onnxruntime").graph_optimization_level == levels.ORT_ENABLE_ALL


def test_a_network_that_takes_half_precision_gets_it(tmp_path):
    """As YOLO exports have it."""
    node = helper.make_node("Identity", ["x"], ["y"])
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT16, [1, 3, 4, 4]) for n in "xy"]
    graph = helper.make_graph([node], "g", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 10
    onnx.save(model, tmp_path / "half.onnx")
    loaded = module.open_onnx(tmp_path / "half.onnx", 1, None, "fp32")
    assert (
        loaded(np.full((1, 3, 4, 4), 0.5, np.float32)).tolist()
        == np.full((1, 3, 4, 4), 0.5).tolist()
    )
