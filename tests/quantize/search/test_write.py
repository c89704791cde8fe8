"""What a plan says is what is written."""

from types import SimpleNamespace

import pytest

from okdhp_edge.backends.registry import get_profile
from okdhp_edge.quantize.search import write as module
from okdhp_edge.quantize.search.plan import Plan


@pytest.mark.parametrize(("corrected", "read"), [(True, "corrected"), (False, "float")])
def test_the_file_with_corrected_biases_is_the_one_that_is_quantized(
    monkeypatch, tmp_path, corrected, read
):
    """Neither heads nor what a plan keeps float is corrected."""
    asked = []

    def correct(source, target, statistics, profile, kept):
        target.write_text("corrected")
        asked.append(("correct", source.read_text(), kept))

    def quantize(source, target, ranges, profile, keep_float):
        asked.append(("quantize", source.read_text(), keep_float))

    monkeypatch.setattr(module, "apply_bias_correction", correct)
    monkeypatch.setattr(module, "find_heads", lambda _: ["head"])
    monkeypatch.setattr(module, "write_qdq", quantize)
    (tmp_path / "float.onnx").write_text("float")
    inputs = SimpleNamespace(
        float_model=tmp_path / "float.onnx", statistics={}, fixed_ranges={"x": (0, 1)}
    )
    plan = Plan("minmax", bias_correction=corrected, keep_float=("stem",))
    module._write_qdq(plan, get_profile("openvino"), inputs, tmp_path / "q.onnx", tmp_path)
    assert asked[-1] == ("quantize", read, ("stem",))
    assert asked[:-1] == ([("correct", "float", ("stem", "head"))] if corrected else [])
