import numpy as np
import pytest

from okdhp_edge.artifacts.card import InputSpec
from okdhp_edge.data.augment import NO_AUGMENTATION, Augmentation
from okdhp_edge.data.augment_detection import make_detection_example
from okdhp_edge.data.detection import DetectionSample

SPEC = InputSpec(width=128, height=96, mean=(30,) * 3, std=(128,) * 3, box_padding=1.0)
BRIGHT = 230


class _Rectangle:
    """A dark picture with one bright person."""

    def __init__(self, box):
        self._box = box

    def read(self):
        image = np.full((120, 200, 3), 60, np.uint8)
        x, y, width, height = self._box
        image[y : y + height, x : x + width] = BRIGHT
        return image


def _sample(box=(60, 30, 40, 70), ignored=()):
    return DetectionSample(
        id="a", image=_Rectangle(box), box=np.array([0, 0, 1, 1.0]),
        xy=np.zeros((1, 2), np.float32), labelled=np.array([True]),
        persons=np.array([box], float), ignored=np.array(ignored, float).reshape(-1, 4),
    )  # fmt: skip


def _bright_extent(image):
    rows, columns = np.nonzero(image[..., 0] > 150)
    return np.array([columns.min(), rows.min(), columns.max(), rows.max()])


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("mosaic", [0.0, 1.0])
def test_boxes_move_with_the_pixels_under_every_augmentation(seed, mosaic):
    strong = Augmentation(zoom=2.0, stretch=0.3, mosaic=mosaic, colour=0, rotation_deg=0)
    others = [_sample((90, 10, 3, 3)) for _ in range(3)]  # too small to be asked for, and dark
    for sample in others:
        sample.image.read = lambda: np.full((120, 200, 3), 60, np.uint8)
    example = make_detection_example(
        [_sample(), *others], SPEC, strong, np.random.default_rng(seed)
    )
    if not (example.image[..., 0] > 150).any():
        assert not len(example.persons) or mosaic
        return
    known = np.concatenate([example.persons, example.ignored])
    shown = _bright_extent(example.image)
    assert np.abs(known - shown).max(axis=1).min() <= 2.5


def test_without_augmentation_the_example_is_what_inference_shows():
    example = make_detection_example([_sample()], SPEC, NO_AUGMENTATION, np.random.default_rng(0))
    scale = 128 / 200
    border = (96 - 120 * scale) / 2
    expected = np.array([60, 30, 100, 100]) * scale + [0, border, 0, border]
    assert example.persons[0] == pytest.approx(expected, abs=1.0)
    assert not len(example.ignored)
    assert example.image[0, 0].tolist() == [30, 30, 30]  # the border is the mean


def test_a_person_of_whom_little_is_left_is_ignored_and_regions_stay_regions():
    sample = _sample(ignored=[(150, 0, 50, 120)])
    sample.persons[0] = [195, 30, 40, 70]  # an eighth of it lies in the image
    example = make_detection_example([sample], SPEC, NO_AUGMENTATION, np.random.default_rng(0))
    assert not len(example.persons)
    assert len(example.ignored) == 2


def test_the_same_seed_gives_the_same_example():
    wild = Augmentation(zoom=3, mosaic=0.5, stretch=0.2, blur=0.5)
    samples = [_sample() for _ in range(4)]
    a, b = (make_detection_example(samples, SPEC, wild, np.random.default_rng(4)) for _ in range(2))
    assert (a.image == b.image).all()
    assert (a.persons == b.persons).all()
