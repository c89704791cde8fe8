import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnxruntime.quantization import QuantType

from okdhp_edge import hardware
from okdhp_edge.errors import ModelError
from okdhp_edge.quantize.profiles import PROFILES, profile


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
    for name in set(PROFILES) - {"openvino"}:
        graph = onnx.load(str(exported / "model.onnx")).graph
        kinds = {"Conv", "BatchNormalization"} if name == "onnxruntime" else {"Conv"}
        convolutions = sum(n.op_type in kinds for n in graph.node)
        assert len(_weight_scales(quantized / name / "model.onnx")) == convolutions - 1


@pytest.mark.parametrize(
    ("machine", "flags", "kind", "reduced"),
    [
        ("x86_64", {"avx512_vnni"}, QuantType.QUInt8, False),
        ("x86_64", {"avx2"}, QuantType.QUInt8, True),
        ("aarch64", set(), QuantType.QInt8, False),
    ],
)
def test_the_cpu_decides_signs_and_range(monkeypatch, machine, flags, kind, reduced):
    monkeypatch.setattr(hardware.platform, "machine", lambda: machine)
    monkeypatch.setattr(hardware, "cpu_flags", lambda: flags)
    chosen = profile("onnxruntime")
    assert (chosen.activation_type, chosen.reduce_range) == (kind, reduced)
    assert profile("tensorrt").signed and not profile("tensorrt").reduce_range


def test_reduced_weights_keep_to_seven_bits(exported, tmp_path, monkeypatch):
    from okdhp_edge.quantize.calibrators import ranges_of
    from okdhp_edge.quantize.observe import observe
    from okdhp_edge.quantize.onnx_qdq import write_qdq

    monkeypatch.setattr(hardware, "cpu_flags", set)
    crops = [np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3)).astype(np.uint8)]
    source = exported / "model.onnx"
    ranges = ranges_of(observe(source, crops), "minmax")
    write_qdq(source, tmp_path / "q.onnx", ranges, profile("onnxruntime"))
    _, constants = _constants(tmp_path / "q.onnx")
    weights = [c for c in constants.values() if c.dtype == np.int8 and c.ndim == 4]
    assert weights and all(np.abs(w.astype(int)).max() <= 64 for w in weights)


def test_an_unknown_profile_is_named():
    with pytest.raises(ModelError, match="unknown profile 'rknn'"):
        profile("rknn")
