import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from okdhp_edge.backends.registry import get_profile, list_profiles
from okdhp_edge.errors import ModelError
from okdhp_edge.system import hardware


def _constants(path):
    graph = onnx.load(str(path)).graph
    return graph, {i.name: numpy_helper.to_array(i) for i in graph.initializer}


def _weight_scales(path):
    graph, constants = _constants(path)
    made_by = {o: n for n in graph.node for o in n.output}
    convs = [n for n in graph.node if n.op_type == "Conv" and n.input[1] in made_by]
    return [constants[made_by[n.input[1]].input[1]] for n in convs]


def test_weights_have_one_scale_a_channel_and_one_alone_in_generic(quantized):
    for name in ("onnxruntime", "tensorrt"):
        assert all(s.size > 1 for s in _weight_scales(quantized / name / "model.onnx"))
    assert all(s.size == 1 for s in _weight_scales(quantized / "generic" / "model.onnx"))


def test_all_convolutions_but_the_head_are_quantized(quantized, exported):
    for name in set(list_profiles()) - {"openvino"}:
        graph = onnx.load(str(exported / "model.onnx")).graph
        kinds = {"Conv", "BatchNormalization"} if name == "onnxruntime" else {"Conv"}
        convolutions = sum(n.op_type in kinds for n in graph.node)
        assert len(_weight_scales(quantized / name / "model.onnx")) == convolutions - 1


def test_a_file_does_not_depend_on_where_it_is_made(exported, tmp_path, monkeypatch):
    from okdhp_edge.quantize.graph.onnx_qdq import write_qdq
    from okdhp_edge.quantize.ranges.calibrators import compute_ranges
    from okdhp_edge.quantize.ranges.observe import observe

    crops = [np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3)).astype(np.uint8)]
    source = exported / "model.onnx"
    ranges = compute_ranges(observe(source, crops), "minmax")
    made = []
    for flags in (frozenset({"avx512_vnni"}), frozenset({"avx2"}), frozenset({"asimddp"})):
        monkeypatch.setattr(hardware, "read_cpu_flags", lambda flags=flags: flags)
        write_qdq(source, tmp_path / "q.onnx", ranges, get_profile("onnxruntime"))
        made.append((tmp_path / "q.onnx").read_bytes())
    assert made[0] == made[1] == made[2]


def test_an_unknown_profile_is_named():
    with pytest.raises(ModelError, match="unknown profile 'rknn'"):
        get_profile("rknn")
