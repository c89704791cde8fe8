"""What is seen of every tensor, against numpy over all crops at once."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from okdhp_edge.errors import ModelError
from okdhp_edge.quantize.ranges import observe as module
from okdhp_edge.quantize.ranges.observe import NUM_BINS, Histogram, TensorStatistics, observe
from tests.helpers.made_onnx import conv_net


@pytest.fixture
def small(tmp_path):
    """uint8 (1, 4, 4, 3) -> Cast -> Transpose -> Conv 1x1 -> Relu."""
    weight = np.random.default_rng(0).normal(size=(5, 3, 1, 1)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
            helper.make_node("Transpose", ["float"], ["planes"], perm=[0, 3, 1, 2]),
            helper.make_node("Conv", ["planes", "weight"], ["conv"], name="conv"),
            helper.make_node("Relu", ["conv"], ["out"], name="relu"),
        ],
        "small",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [1, 4, 4, 3])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, [1, 5, 4, 4])],
        [numpy_helper.from_array(weight, "weight")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, str(tmp_path / "small.onnx"))
    return tmp_path / "small.onnx", weight


def _crops(count=9):
    rng = np.random.default_rng(1)
    return [rng.integers(0, 256, (1, 4, 4, 3)).astype(np.uint8) for _ in range(count)]


@pytest.mark.parametrize("group_bytes", [1 << 28, 1])
def test_statistics_are_those_of_all_crops_together(small, monkeypatch, group_bytes):
    monkeypatch.setattr(module, "_MAX_GROUP_BYTES", group_bytes)
    path, weight = small
    crops = _crops()
    planes = np.concatenate(crops).astype(np.float32).transpose(0, 3, 1, 2)
    expected = np.einsum("oi,bihw->bohw", weight[:, :, 0, 0], planes)
    seen = observe(path, crops)["conv"]
    assert (seen.low, seen.high) == pytest.approx((expected.min(), expected.max()), rel=1e-5)
    assert seen.mean_low == pytest.approx(expected.min(axis=(1, 2, 3)).mean(), rel=1e-5)
    assert seen.mean_high == pytest.approx(expected.max(axis=(1, 2, 3)).mean(), rel=1e-5)
    np.testing.assert_allclose(seen.channel_mean, expected.mean(axis=(0, 2, 3)), rtol=1e-4)
    assert seen.histogram.counts.sum() == expected.size


def test_the_histogram_widens_and_keeps_what_it_counted():
    rng = np.random.default_rng(2)
    parts = [rng.normal(0, scale, 4000).astype(np.float32) for scale in (0.1, 1, 30)]
    histogram = Histogram()
    for part in parts:
        histogram.add(part)
    everything = np.concatenate(parts)
    expected, _ = np.histogram(everything, bins=NUM_BINS, range=(-histogram.limit, histogram.limit))
    assert histogram.counts.sum() == everything.size
    # Cumulative: a value may lie a bin to the side of an edge, but no further.
    shifted = np.abs(np.cumsum(histogram.counts) - np.cumsum(expected))
    assert shifted.max() <= 2 * expected.max()


def test_zeros_alone_are_counted_too():
    histogram = Histogram()
    histogram.add(np.zeros(7, dtype=np.float32))
    assert histogram.counts.sum() == 7
    histogram.add(np.array([-2, 2], dtype=np.float32))
    assert histogram.counts.sum() == 9


def test_memory_does_not_grow_with_the_number_of_crops():
    seen = TensorStatistics()
    for _ in range(3):
        seen.add(np.random.default_rng(3).normal(size=(1, 4, 8, 8)).astype(np.float32))
    assert seen.histogram.counts.nbytes == NUM_BINS * 8
    assert seen.channel_mean.shape == (4,)


def test_a_quantized_file_is_refused(quantized):
    with pytest.raises(ModelError, match="is already quantized"):
        observe(quantized / "onnxruntime" / "model.onnx", [])


def test_activations_that_are_not_finite_are_named(small, tmp_path):
    model = onnx.load(str(small[0]))
    model.graph.initializer[0].CopyFrom(
        numpy_helper.from_array(np.full((5, 3, 1, 1), np.inf, dtype=np.float32), "weight")
    )
    onnx.save(model, str(tmp_path / "inf.onnx"))
    with pytest.raises(ModelError, match="tensor 'conv' is not finite"):
        observe(tmp_path / "inf.onnx", _crops())


def test_a_file_of_a_fixed_batch_is_observed_as_one_of_one(tmp_path):
    single, batch = (
        conv_net(tmp_path / f"{n}.onnx", channels=(3, 8, 4), kernel=3, bias=True, batch=n)
        for n in (1, 4)
    )
    crops = [np.random.default_rng(1).integers(0, 256, (1, 8, 8, 3)).astype(np.uint8)]
    alone, together = observe(single, crops), observe(batch, crops)
    assert alone.keys() == together.keys()
    for name, seen in alone.items():
        np.testing.assert_allclose(together[name].channel_mean, seen.channel_mean, rtol=1e-5)


def test_of_a_large_tensor_every_column_is_counted():
    """Four values for each that is counted: every fifth is, or only even columns would be."""
    value = np.zeros((1, 2, 256, 256), np.float32)
    value[..., 1::2] = 1
    seen = TensorStatistics()
    seen.add(value)
    counts = seen.histogram.counts
    assert (counts[NUM_BINS // 2], counts[-1]) == (13108, 13107)  # of 0, 5, 10 .. 131070
    assert (seen.low, seen.high, seen.channel_mean.tolist()) == (0, 1, [0.5, 0.5])


def test_values_too_small_for_bins_count_as_zero():
    histogram = Histogram()
    histogram.add(np.array([0.0, 1e-39], np.float32))
    assert histogram.counts.sum() == 2
