import numpy as np
import pytest

from okdhp_edge.card import InputSpec
from okdhp_edge.data.augment import NO_AUGMENTATION, Augmentation, training_crop
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
    crop = training_crop(_sample(), LSP14, SPEC, strong, np.random.default_rng(seed))
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
    crop = training_crop(sample, LSP14, SPEC, NO_AUGMENTATION, np.random.default_rng(0))
    assert crop.weight[0] == 0
    assert crop.weight[13] == 0
    assert crop.weight[1:13].all()


def test_the_same_seed_gives_the_same_crop_and_another_does_not():
    crops = [
        training_crop(_sample(), LSP14, SPEC, Augmentation(), np.random.default_rng(s)).image
        for s in (1, 1, 2)
    ]
    np.testing.assert_array_equal(crops[0], crops[1])
    assert (crops[0] != crops[2]).any()


def test_colours_change_and_geometry_does_not():
    colour_only = Augmentation(rotation_deg=0, scale=0, shift=0, flip=False, colour=0.4)
    rng = np.random.default_rng
    plain = training_crop(_sample(), LSP14, SPEC, NO_AUGMENTATION, rng(3))
    coloured = training_crop(_sample(), LSP14, SPEC, colour_only, rng(3))
    np.testing.assert_array_equal(plain.xy, coloured.xy)
    assert (plain.image != coloured.image).any()


def test_a_second_crop_shows_the_same_in_another_size():
    def cut(large):
        return training_crop(
            _sample(), LSP14, SPEC, Augmentation(), np.random.default_rng(5), large
        )

    crop = cut((192, 192))
    np.testing.assert_array_equal(crop.image, cut(None).image)
    assert cut(None).large is None and crop.large.shape == (192, 192, 3)
    halved = crop.large.reshape(96, 2, 96, 2, 3).mean(axis=(1, 3))
    assert np.abs(halved - crop.image).mean() < 6
