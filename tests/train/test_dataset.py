import numpy as np
import pytest

from okdhp_edge.data.load import load
from okdhp_edge.train.dataset import CropDataset, EpochBatches, build_loader
from tests.helpers.tiny_models import tiny_recipe


def _dataset(seed=0):
    recipe = tiny_recipe()
    return CropDataset(load("synthetic:24", "train"), recipe.input_spec(), recipe.decoder_spec(),
                       recipe.augmentation, seed)  # fmt: skip


def test_a_crop_is_a_function_of_seed_epoch_and_index():
    a, b = (_dataset()[(3, 7)] for _ in range(2))
    other = _dataset()[(4, 7)]
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x, y)
    assert (a[0] != other[0]).any()


def test_targets_peak_at_the_joints():
    image, target, weight = _dataset()[(0, 0)]
    assert image.shape == (64, 64, 3)
    assert target.shape == (14, 16, 16)
    assert (target.max(axis=(1, 2))[weight > 0] > 0.7).all()


@pytest.mark.parametrize("world", [1, 2, 3])
def test_processes_share_each_global_batch(world):
    whole = EpochBatches(50, 12, seed=5)
    parts = [EpochBatches(50, 12, 5, rank, world) for rank in range(world)]
    for epoch in (0, 1):
        for sampler in (whole, *parts):
            sampler.epoch = epoch
        joined = [[k for part in b for k in part] for b in zip(*parts, strict=True)]
        assert joined == list(whole)
    assert len(whole) == 4


def test_epochs_are_shuffled_differently_and_hold_each_sample_once():
    sampler = EpochBatches(48, 16, seed=0)
    orders = []
    for epoch in range(2):
        sampler.epoch = epoch
        orders.append([index for batch in sampler for _, index in batch])
    assert sorted(orders[0]) == list(range(48))
    assert orders[0] != orders[1]


def test_a_set_smaller_than_a_batch_is_one_batch():
    assert [len(b) for b in EpochBatches(5, 16, seed=0)] == [5]


@pytest.mark.parametrize("workers", [0, 1])
def test_worker_processes_change_nothing(workers):
    batches = EpochBatches(24, 8, seed=0)
    first = next(iter(build_loader(_dataset(), batches, workers)))
    expected = [_dataset()[key] for key in next(iter(batches))]
    np.testing.assert_array_equal(first.image.numpy(), np.stack([e[0] for e in expected]))
    np.testing.assert_array_equal(first.target.numpy(), np.stack([e[1] for e in expected]))
