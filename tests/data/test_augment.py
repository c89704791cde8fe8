import numpy as np
import pytest

from okdhp_edge.artifacts.card import InputSpec
from okdhp_edge.data.augment import NO_AUGMENTATION, Augmentation, make_training_crop
from okdhp_edge.data.sample import Sample
from okdhp_edge.pose.skeleton import LSP14

SPEC = InputSpec(width=96, height=96, mean=(127,) * 3, std=(128,) * 3)


class _Dots:
    """A picture with one bright dot per joint, brighter with its index."""

    def __init__(self, xy: np.ndarray) -> None:
        self._xy = xy

    def read(self) -> np.ndarray:
        image = np.zeros((200, 200, 3), np.uint8)
        for number, (x, y) in enumerate(self._xy.astype(int)):
            image[y - 5 : y + 6, x - 5 : x + 6] = 100 + 10 * number
        return image


def _sample() -> Sample:
    xy = np.stack(np.meshgrid(np.arange(40, 180, 20), [60.0, 130.0]), -1).reshape(-1, 2)
    labelled = np.ones(14, bool)
    labelled[13] = False
    box = np.array([35.0, 55, 130, 80])
    return Sample("dots", _Dots(xy), box, xy.astype(np.float32), labelled)


@pytest.mark.parametrize("seed", range(12))
def test_joints_move_with_the_pixels_under_every_augmentation(seed):
    strong = Augmentation(rotation_deg=180, scale=0.2, shift=0.1, flip=True, colour=0)
    crop = make_training_crop(_sample(), LSP14, SPEC, strong, np.random.default_rng(seed))
    flipped = None
    for number in range(13):
        if not crop.weight[number]:
            continue
        x, y = np.round(crop.xy[number]).astype(int)
        value = int(crop.image[min(y, 95), min(x, 95), 0])
        own, twin = 100 + 10 * number, 100 + 10 * int(LSP14.flip_index[number])
        assert min(abs(value - own), abs(value - twin)) <= 4  # the warp interpolates
        if own != twin:
            side = abs(value - twin) < abs(value - own)
            assert flipped in (None, side)  # all joints are mirrored, or none
            flipped = side


def test_unlabelled_and_outside_joints_weigh_nothing():
    sample = _sample()
    sample.xy[0] = [-400, 20]
    crop = make_training_crop(sample, LSP14, SPEC, NO_AUGMENTATION, np.random.default_rng(0))
    assert crop.weight[0] == 0
    assert crop.weight[13] == 0
    assert crop.weight[1:13].all()


def test_the_same_seed_gives_the_same_crop_and_another_does_not():
    crops = [
        make_training_crop(_sample(), LSP14, SPEC, Augmentation(), np.random.default_rng(s)).image
        for s in (1, 1, 2)
    ]
    np.testing.assert_array_equal(crops[0], crops[1])
    assert (crops[0] != crops[2]).any()


def test_colours_change_and_geometry_does_not():
    colour_only = Augmentation(rotation_deg=0, scale=0, shift=0, flip=False, colour=0.4)
    rng = np.random.default_rng
    plain = make_training_crop(_sample(), LSP14, SPEC, NO_AUGMENTATION, rng(3))
    coloured = make_training_crop(_sample(), LSP14, SPEC, colour_only, rng(3))
    np.testing.assert_array_equal(plain.xy, coloured.xy)
    assert (plain.image != coloured.image).any()


def test_a_second_crop_shows_the_same_in_another_size():
    def cut(large):
        return make_training_crop(
            _sample(), LSP14, SPEC, Augmentation(), np.random.default_rng(5), large
        )

    crop = cut((192, 192))
    np.testing.assert_array_equal(crop.image, cut(None).image)
    assert cut(None).large is None and crop.large.shape == (192, 192, 3)
    halved = crop.large.reshape(96, 2, 96, 2, 3).mean(axis=(1, 3))
    assert np.abs(halved - crop.image).mean() < 6


def _only(**changes):
    return NO_AUGMENTATION.model_copy(update=changes)


def test_half_a_body_fills_the_crop_and_only_its_joints_count():
    lower = np.array([n.endswith(("hip", "knee", "ankle")) for n in LSP14.joints])
    sample = _sample()
    sample.xy[lower] += [0, 400]
    seen = set()
    for seed in range(8):
        rng = np.random.default_rng(seed)
        crop = make_training_crop(sample, LSP14, SPEC, _only(half_body=1.0), rng)
        half = crop.weight.astype(bool)
        assert (half[lower].all(), half[~lower].any()) in {(True, False), (False, True)}
        seen.add(bool(half[lower].all()))
    assert seen == {True, False}


def test_a_half_with_too_few_joints_is_not_cut():
    sample = _sample()
    sample.labelled[:] = False
    sample.labelled[[0, 1, 2, 6, 7, 8]] = True
    rng = np.random.default_rng
    crop = make_training_crop(sample, LSP14, SPEC, _only(half_body=1.0), rng(0))
    whole = make_training_crop(sample, LSP14, SPEC, NO_AUGMENTATION, rng(0))
    np.testing.assert_array_equal(crop.image, whole.image)


def test_erasing_hides_a_rectangle_and_leaves_labels_and_the_larger_crop_alone():
    rng, large = np.random.default_rng, (192, 192)
    whole = make_training_crop(_sample(), LSP14, SPEC, NO_AUGMENTATION, rng(1), large)
    for seed in range(20):
        hidden = make_training_crop(_sample(), LSP14, SPEC, _only(erase=1.0), rng(seed), large)
        rows, columns = np.nonzero((hidden.image != whole.image).any(axis=-1))
        area = (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
        assert 0.01 < area / 96**2 < 0.22
        assert len(rows) > 0.9 * area  # one solid rectangle
        np.testing.assert_array_equal(hidden.xy, whole.xy)
        np.testing.assert_array_equal(hidden.weight, whole.weight)
        np.testing.assert_array_equal(hidden.large, whole.large)


def test_blur_takes_detail_away_and_moves_nothing():
    rng = np.random.default_rng
    whole = make_training_crop(_sample(), LSP14, SPEC, NO_AUGMENTATION, rng(1)).image.astype(float)
    blurred = make_training_crop(_sample(), LSP14, SPEC, _only(blur=1.0), rng(1)).image.astype(
        float
    )
    steps = [np.abs(np.diff(image, axis=1)).max() for image in (whole, blurred)]
    assert steps[1] < 0.8 * steps[0]
    assert abs(blurred.mean() - whole.mean()) < 1.5


@pytest.mark.parametrize("kind", ["half_body", "erase", "blur"])
def test_a_share_is_a_share_and_none_draws_nothing(kind):
    rng = np.random.default_rng
    plain = make_training_crop(_sample(), LSP14, SPEC, Augmentation(), rng(9))
    off = make_training_crop(_sample(), LSP14, SPEC, Augmentation(**{kind: 0.0}), rng(9))
    np.testing.assert_array_equal(plain.image, off.image)
    whole = make_training_crop(_sample(), LSP14, SPEC, NO_AUGMENTATION, rng(0)).image
    changed = [
        (
            make_training_crop(_sample(), LSP14, SPEC, _only(**{kind: 0.5}), rng(s)).image != whole
        ).any()
        for s in range(60)
    ]
    assert 15 < sum(changed) < 45
