import numpy as np
import pytest
import torch

from okdhp_edge.data.load import load
from okdhp_edge.errors import RecipeError
from okdhp_edge.pose.crop import apply
from okdhp_edge.pose.skeleton import LSP14
from okdhp_edge.train.dataset import CropDataset, EpochBatches, build_loader
from tests.helpers.tiny_models import tiny_recipe


def _dataset(seed=0, unlabelled=0, **augmentation):
    recipe, poses = tiny_recipe(augmentation=augmentation), load("synthetic:24", "train")
    return CropDataset(
        poses.samples[unlabelled:], poses.skeleton, recipe.input_spec(), 4, recipe.augmentation,
        seed, unlabelled=poses.samples[:unlabelled],
    )  # fmt: skip


def test_a_crop_is_a_function_of_seed_epoch_and_index():
    a, b = (_dataset()[(3, 7)][0] for _ in range(2))
    other = _dataset()[(4, 7)][0]
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x, y)
    assert (a[0] != other[0]).any()


def test_joints_are_in_heatmap_pixels_and_placed_in_the_picture():
    dataset = _dataset()
    image, xy, weight, absent, labelled, heatmap_from_frame, mirrored, _ = dataset[(0, 0)][0]
    assert image.shape == (64, 64, 3)
    assert labelled
    sample = load("synthetic:24", "train").samples[0]
    frame = sample.xy[LSP14.flip_index] if mirrored else sample.xy
    np.testing.assert_allclose(xy, apply(heatmap_from_frame, frame), atol=1e-3)
    assert ((xy[weight > 0] > -0.5) & (xy[weight > 0] < 15.5)).all()
    # All joints of drawn people are labelled: what is not in the crop is known to be outside.
    np.testing.assert_array_equal(absent, 1 - weight)


def test_views_differ_and_the_first_is_what_one_view_would_be():
    one, two = _dataset(), _dataset(views=2)
    assert len(one[(1, 5)]) == 1
    first, second = two[(1, 5)]
    for x, y in zip(first, one[(1, 5)][0], strict=True):
        np.testing.assert_array_equal(x, y)
    assert (first[0] != second[0]).any()


def test_a_batch_lists_views_one_after_the_other():
    batches = EpochBatches(24, 4, seed=0)
    batch = next(iter(build_loader(_dataset(views=3), batches, 0)))
    keys = next(iter(batches))
    assert batch.image.shape == (12, 64, 64, 3)
    for view in range(3):
        for person, key in enumerate(keys):
            row = _dataset(views=3)[key][view]
            for column, value in zip(batch, row, strict=True):
                np.testing.assert_array_equal(column[view * 4 + person].numpy(), value)


def test_pictures_without_labels_have_no_weight():
    dataset = _dataset(unlabelled=6)
    assert len(dataset) == 24
    inside, beyond = dataset[(0, 17)][0], dataset[(0, 18)][0]
    assert inside[4] and inside[2].any()
    assert not beyond[4] and not beyond[2].any() and not beyond[3].any()


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
    expected = [_dataset()[key][0] for key in next(iter(batches))]
    for column, values in zip(first, zip(*expected, strict=True), strict=True):
        np.testing.assert_array_equal(column.numpy(), np.stack(values))


def test_more_processes_than_persons_are_refused():
    assert len(EpochBatches(10, 4, 0, world=4)) == 2
    with pytest.raises(RecipeError, match="8 processes share a batch of 4"):
        EpochBatches(10, 4, 0, world=8)


def test_reading_batches_draws_nothing_from_the_global_generator():
    dataset = _dataset()
    loader = build_loader(dataset, EpochBatches(len(dataset), 4, 0), 0)
    before = torch.get_rng_state()
    next(iter(loader))
    assert torch.equal(torch.get_rng_state(), before)
