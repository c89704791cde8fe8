import copy

import onnx
import pytest
from onnx import TensorProto, helper

from okdhp_edge.errors import ModelError
from okdhp_edge.export import to_onnx


def _graph_with_a_loose_batch_norm(path):
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="conv"),
        helper.make_node("BatchNormalization", ["c", "s", "s", "s", "s"], ["y"], name="loose"),
    ]
    ones = [helper.make_tensor("w", TensorProto.FLOAT, [1, 1, 1, 1], [1.0]),
            helper.make_tensor("s", TensorProto.FLOAT, [1], [1.0])]  # fmt: skip
    io = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 1, 4, 4]) for n in "xy"]
    graph = helper.make_graph(nodes, "g", io[:1], io[1:], ones)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]), str(path))


def test_a_batch_norm_left_behind_is_named(tmp_path):
    _graph_with_a_loose_batch_norm(tmp_path / "m.onnx")
    with pytest.raises(ModelError, match="'loose' was not folded"):
        to_onnx.ensure_folded(tmp_path / "m.onnx")


def test_a_simplifier_that_breaks_the_model_is_not_believed(exported, tmp_path, monkeypatch):
    import onnxsim

    path = tmp_path / "m.onnx"
    path.write_bytes((exported / "model.onnx").read_bytes())
    before = path.read_bytes()

    def broken(model, **_):
        model = copy.deepcopy(model)
        for initializer in model.graph.initializer:
            if len(initializer.dims) == 4:
                values = onnx.numpy_helper.to_array(initializer) * 2
                initializer.CopyFrom(onnx.numpy_helper.from_array(values, initializer.name))
        return model, True

    monkeypatch.setattr(onnxsim, "simplify", broken)
    assert to_onnx.simplify(path, 1) is False
    assert path.read_bytes() == before
    monkeypatch.setattr(onnxsim, "simplify", lambda *_a, **_k: 1 / 0)
    assert to_onnx.simplify(path, 1) is False
