import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from onnx import numpy_helper

from okdhp_edge.artifacts.card import read_card
from okdhp_edge.network.weight_scales import (
    MAX_PAIR_SUM,
    MAX_WEIGHT_LEVEL,
    compute_pair_sums,
    compute_weight_scales,
    quantize_weight,
)
from okdhp_edge.quantize.graph.saturation import analyze_saturation

FILTERS = st.tuples(st.integers(1, 3), st.integers(2, 7), st.just(3), st.just(3)).flatmap(
    lambda shape: hnp.arrays(np.int8, shape, elements=st.integers(-127, 127))
)
FLOATS = st.tuples(st.integers(1, 3), st.integers(2, 7), st.just(3), st.just(3)).flatmap(
    lambda shape: hnp.arrays(
        np.float32, shape, elements=st.floats(-2, 2, width=32, allow_subnormal=False)
    )
)


def maddubs(activations, weights):
    """One lane of vpmaddubsw: u8 x s8 products of two neighbours, added in 16 bits."""
    exact = activations.astype(np.int64) * weights.astype(np.int64)
    exact = exact[..., ::2] + exact[..., 1::2]
    return exact, np.clip(exact, -(2**15), 2**15 - 1)


def orders(weight_OIHW):
    """How the two kernels lay a filter out: (O, pairs of values)."""
    odd = weight_OIHW.shape[1] % 2
    channels = np.pad(weight_OIHW, ((0, 0), (0, odd), (0, 0), (0, 0)))
    yield channels.transpose(0, 2, 3, 1).reshape(len(channels), -1)
    unrolled = weight_OIHW.transpose(0, 2, 3, 1).reshape(len(weight_OIHW), -1)
    yield np.pad(unrolled, ((0, 0), (0, unrolled.shape[1] % 2)))


def worst_activations(row):
    """255 where that drives a pair furthest up, and furthest down."""
    yield np.where(row > 0, 255, 0)
    yield np.where(row < 0, 255, 0)


def saturates(weight_OIHW):
    """(O,) by the integer model, at the activations that are worst for each pair."""
    found = np.zeros(len(weight_OIHW), bool)
    for layout in orders(weight_OIHW):
        for channel, row in enumerate(layout):
            for activations in worst_activations(row):
                exact, real = maddubs(activations, row)
                found[channel] |= bool((exact != real).any())
    return found


@given(FILTERS)
def test_the_check_says_what_the_integer_model_does(weight):
    assert ((compute_pair_sums(weight) > MAX_PAIR_SUM) == saturates(weight)).all()


@given(FLOATS, st.booleans())
def test_chosen_scales_cannot_saturate_whatever_comes_in(weight, per_channel):
    scale = compute_weight_scales(weight, per_channel=per_channel, saturation_free=True)
    steps = quantize_weight(weight, scale)
    assert not saturates(steps).any()
    rng = np.random.default_rng(0)
    for layout in orders(steps):
        for row in layout:
            exact, real = maddubs(rng.integers(0, 256, row.shape), row)
            assert (exact == real).all()


@given(FLOATS)
def test_steps_are_never_more_than_twice_as_coarse(weight):
    plain = compute_weight_scales(weight, per_channel=True, saturation_free=False)
    fits = compute_weight_scales(weight, per_channel=True, saturation_free=True)
    assert (fits >= plain).all() and (fits <= 2.05 * plain).all()
    assert (
        np.abs(quantize_weight(weight, plain).astype(int)).max(axis=(1, 2, 3)) <= MAX_WEIGHT_LEVEL
    ).all()


def test_a_channel_that_is_safe_keeps_eight_bits():
    weight = np.zeros((2, 4, 1, 1), np.float32)
    weight[0, :, 0, 0] = [1.0, 0.0, -1.0, 0.0]
    weight[1, :, 0, 0] = [1.0, 0.9, 0.0, 0.0]
    steps = quantize_weight(
        weight, compute_weight_scales(weight, per_channel=True, saturation_free=True)
    )
    assert np.abs(steps[0].astype(int)).max() == 127
    assert steps[1, 0, 0, 0].astype(int) + steps[1, 1, 0, 0] <= MAX_PAIR_SUM < 127 + 114


def test_depthwise_filters_have_no_neighbours():
    assert (compute_pair_sums(np.full((8, 1, 3, 3), 127, np.int8)) == 0).all()


def test_artefacts_for_cpus_cannot_saturate_and_say_so(quantized_folder):
    assert read_card(quantized_folder / "onnxruntime").saturation_free is True
    assert read_card(quantized_folder / "openvino").saturation_free is True
    assert read_card(quantized_folder / "tensorrt").saturation_free is None
    found = analyze_saturation(quantized_folder / "onnxruntime" / "model.onnx")
    assert found.layers > 5 and not found.unsafe
    assert "none of" in str(found)


def test_the_check_finds_what_is_undone(quantized_folder, tmp_path):
    """With one filter turned back to full range the file is no longer safe."""
    model = onnx.load(str(quantized_folder / "onnxruntime" / "model.onnx"))
    filters = [
        i for i in model.graph.initializer
        if i.data_type == onnx.TensorProto.INT8 and len(i.dims) == 4 and i.dims[1] > 1
    ]  # fmt: skip
    values = numpy_helper.to_array(filters[0]).copy()
    values[0, :2] = 127
    filters[0].CopyFrom(numpy_helper.from_array(values, filters[0].name))
    onnx.save(model, tmp_path / "undone.onnx")
    found = analyze_saturation(tmp_path / "undone.onnx")
    assert len(found.unsafe) == 1 and "1 of" in str(found)


@pytest.fixture(scope="module")
def quantized_folder(request):
    return request.getfixturevalue("quantized")


@pytest.mark.parametrize("model", ["lite", "full", "person"])
@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
def test_shipped_artefacts_cannot_saturate(model, runtime):
    from okdhp_edge.artifacts import model_store

    folder = model_store.find_artifact(model_store.resolve_model(model), runtime, "int8")
    assert read_card(folder).saturation_free is True
    if runtime == "onnxruntime":
        assert not analyze_saturation(folder / "model.onnx").unsafe
