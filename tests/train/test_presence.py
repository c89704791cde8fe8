import numpy as np
import pytest
import torch

from okdhp_edge.data.augment import NO_AUGMENTATION, make_training_crop
from okdhp_edge.data.load import load
from okdhp_edge.data.sample import Sample
from okdhp_edge.pose.heatmap import HeatmapKind, decode
from okdhp_edge.pose.skeleton import Skeleton
from okdhp_edge.train.losses import presence_loss
from tests.helpers.tiny_models import tiny_recipe

ONE = torch.tensor(1.0)


def _loss(maps, present, absent, kind="ce"):
    return float(presence_loss(maps, torch.tensor(present), torch.tensor(absent), ONE, kind))


def test_the_loss_is_the_cross_entropy_of_the_score_that_is_decoded():
    maps = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 3
    present = [[1.0, 0, 0], [0, 0, 1]]
    absent = [[0.0, 1, 0], [0, 1, 0]]
    score = decode(maps.numpy(), HeatmapKind.PRESENCE, 1.5).score_BK.astype(np.float64)
    expected = -(np.log(score) * present + np.log(1 - score) * absent).sum()
    assert _loss(maps, present, absent) == pytest.approx(expected, rel=1e-4)


def test_what_is_not_known_does_not_count():
    maps = torch.randn(1, 3, 8, 8)
    assert _loss(maps, [[0.0, 0, 0]], [[0.0, 0, 0]]) == 0
    assert _loss(maps, [[1.0, 0, 0]], [[0.0, 0, 0]], "mse") == 0


def test_absent_joints_of_regressed_heatmaps_are_to_be_zero():
    maps = torch.full((1, 2, 4, 4), 0.5)
    assert _loss(maps, [[0.0, 0]], [[1.0, 0]], "mse") == pytest.approx(0.125)


@pytest.mark.parametrize("kind", ["ce", "mse"])
def test_training_on_absence_lowers_the_score(kind):
    maps = torch.zeros(1, 1, 8, 8).add_(0.5).requires_grad_()
    optimizer = torch.optim.SGD([maps], lr=20.0)
    read = HeatmapKind.PRESENCE if kind == "ce" else HeatmapKind.GAUSSIAN

    def score():
        return float(decode(maps.detach().numpy(), read, 1.5).score_BK[0, 0])

    before = score()
    for _ in range(20):
        optimizer.zero_grad()
        presence_loss(maps, torch.zeros(1, 1), torch.ones(1, 1), ONE, kind).backward()
        optimizer.step()
    assert score() < 0.5 * before


def _person(absent=None):
    class Blank:
        def read(self):
            return np.zeros((100, 100, 3), np.uint8)

    return Sample(
        id="p", image=Blank(), box=np.array([0.0, 0, 50, 50]),
        xy=np.array([[20, 20], [80, 80], [0, 0], [0, 0]], np.float32),
        labelled=np.array([True, True, False, False]), absent=absent,
    )  # fmt: skip


SKELETON = Skeleton("four", ("a", "b", "left_c", "right_c"))


@pytest.mark.parametrize("said", [None, np.array([False, False, True, False])])
def test_a_joint_outside_the_crop_is_absent_from_it(said):
    spec = tiny_recipe().input_spec()
    crop = make_training_crop(
        _person(said), SKELETON, spec, NO_AUGMENTATION, np.random.default_rng(0)
    )
    assert crop.weight.tolist() == [1, 0, 0, 0]
    assert crop.absent.tolist() == [0, 1, float(said is not None), 0]


def test_mirroring_exchanges_absent_sides():
    spec = tiny_recipe().input_spec()
    said = np.array([False, False, True, False])
    flips = NO_AUGMENTATION.model_copy(update={"flip": True})
    crops = [
        make_training_crop(_person(said), SKELETON, spec, flips, np.random.default_rng(seed))
        for seed in range(8)
    ]
    assert {c.mirrored for c in crops} == {True, False}
    for crop in crops:
        assert crop.absent[2:].tolist() == ([0, 1] if crop.mirrored else [1, 0])


def test_a_recipe_with_presence_says_so_to_whoever_decodes():
    plain = tiny_recipe()
    heatmap = {"hard_loss": "ce", "sigma": 1.0, "presence": 0.3}
    assert plain.decoder_spec().kind is HeatmapKind.LOGITS
    assert tiny_recipe(heatmap=heatmap).decoder_spec().kind is HeatmapKind.PRESENCE
    regressed = tiny_recipe(heatmap=heatmap | {"hard_loss": "mse"})
    assert regressed.decoder_spec().kind is HeatmapKind.GAUSSIAN


def test_a_set_added_with_its_split_brings_that_split_alone(real_data):
    source = f"coco:{real_data / 'coco_mini'},lspet:{real_data / 'lspet'}"
    every, part = (load(s, "all") for s in (source, source + "@val"))
    assert len(part) - 151 <= 500 < len(every) - 151
