"""The correction takes back what rounding the weights shifts on average."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given
from hypothesis import strategies as st

from okdhp_edge.backends.registry import get_profile
from okdhp_edge.quantize.graph.bias import (
    apply_bias_correction,
    compute_mean_shift,
    quantize_dequantize,
)
from okdhp_edge.quantize.graph.onnx_qdq import find_heads
from okdhp_edge.quantize.ranges.observe import observe
from tests.helpers.made_onnx import conv_net

PER_TENSOR, PER_CHANNEL = get_profile("generic"), get_profile("tensorrt")


@given(
    groups=st.sampled_from([1, 2, 6]), kernel=st.sampled_from([1, 3]), seed=st.integers(0, 99),
    per_channel=st.booleans(),
)  # fmt: skip
def test_the_shift_is_the_mean_difference_of_a_constant_input(groups, kernel, seed, per_channel):
    rng = np.random.default_rng(seed)
    chosen = PER_CHANNEL if per_channel else PER_TENSOR
    weight = rng.normal(size=(6, 6 // groups, kernel, kernel)).astype(np.float32)
    mean = rng.normal(size=6)
    lost = (weight - quantize_dequantize(weight, chosen)).sum(axis=(2, 3))
    by_hand = [
        sum(lost[o, i] * mean[o // (6 // groups) * (6 // groups) + i] for i in range(6 // groups))
        for o in range(6)
    ]
    np.testing.assert_allclose(compute_mean_shift(weight, mean, chosen), by_hand, atol=1e-6)


def test_weights_have_at_most_255_levels_and_keep_their_largest():
    weight = np.random.default_rng(0).normal(size=(4, 8, 3, 3)).astype(np.float32)
    for row in quantize_dequantize(weight, PER_CHANNEL):
        assert len(np.unique(row)) <= 255
    largest = np.abs(weight).max(axis=(1, 2, 3))
    np.testing.assert_allclose(
        np.abs(quantize_dequantize(weight, PER_CHANNEL)).max(axis=(1, 2, 3)), largest
    )
    assert len(np.unique(quantize_dequantize(weight, PER_TENSOR))) <= 255


@pytest.mark.parametrize("with_bias", [True, False])
def test_the_quantized_nets_mean_output_comes_closer(tmp_path, with_bias):
    source = conv_net(tmp_path / "float.onnx", channels=(3, 8, 4), kernel=1, bias=with_bias)
    rng = np.random.default_rng(5)
    crops = [rng.integers(0, 256, (1, 8, 8, 3)).astype(np.uint8) for _ in range(30)]
    statistics = observe(source, crops)
    apply_bias_correction(source, tmp_path / "corrected.onnx", statistics, PER_TENSOR)

    def mean_output(path, *, round_weights):
        model = onnx.load(str(path))
        if round_weights:
            for initializer in model.graph.initializer:
                if initializer.name.startswith("weight"):
                    value = onnx.numpy_helper.to_array(initializer)
                    initializer.CopyFrom(
                        onnx.numpy_helper.from_array(
                            quantize_dequantize(value, PER_TENSOR), initializer.name
                        )
                    )
        session = ort.InferenceSession(model.SerializeToString())
        outputs = [session.run(None, {"image": crop})[0] for crop in crops]
        return np.mean(outputs, axis=(0, 1, 3, 4))

    truth = mean_output(source, round_weights=False)
    plain = np.abs(mean_output(source, round_weights=True) - truth).mean()
    corrected = mean_output(tmp_path / "corrected.onnx", round_weights=True)
    assert np.abs(corrected - truth).mean() < 0.25 * plain


def test_what_stays_float_is_not_corrected(tmp_path):
    source = conv_net(tmp_path / "float.onnx", channels=(3, 8, 4), kernel=1, bias=True)
    crops = [np.full((1, 8, 8, 3), 200, np.uint8)]
    (head_,) = find_heads(source)
    apply_bias_correction(source, tmp_path / "c.onnx", observe(source, crops), PER_TENSOR, (head_,))
    before, after = (
        {n.name: n.input[2] for n in onnx.load(str(path)).graph.node if n.op_type == "Conv"}
        for path in (source, tmp_path / "c.onnx")
    )
    assert {name for name in before if before[name] == after[name]} == {head_}


def test_weights_are_rounded_to_the_coarser_steps_of_files_that_cannot_saturate():
    """[1, 0.9] are 127 + 114 = 241 steps of 1/127, for which 128 have room: steps 241/128 as wide,
    of which 67.45 and 60.70 are 67 and 61."""
    weight = np.array([1.0, 0.9], np.float32).reshape(1, 2, 1, 1)
    plain, safe = (quantize_dequantize(weight, get_profile(n)) for n in ("tensorrt", "openvino"))
    np.testing.assert_allclose(plain.ravel(), [1, 114 / 127], rtol=1e-6)
    np.testing.assert_allclose(safe.ravel() * 127 * 128 / 241, [67, 61], rtol=1e-6)
