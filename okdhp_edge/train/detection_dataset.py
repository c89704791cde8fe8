"""Examples and boxes for training a person detector."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from okdhp_edge.artifacts.card import InputSpec
from okdhp_edge.data.augment import Augmentation
from okdhp_edge.data.augment_detection import DetectionExample, make_detection_example
from okdhp_edge.data.detection import DetectionSample
from okdhp_edge.data.sample import Sample
from okdhp_edge.errors import DataError
from okdhp_edge.pose.crop import apply, heatmap_from_crop
from okdhp_edge.train.dataset import Key

MAX_BOXES = 96
"""Persons and ignored regions of one example; where there are more, one ignored region encloses the
smallest."""
_NUM_EXTRA_IMAGES = 3
_PERSON, _IGNORED = 1.0, -1.0


class DetectionBatch(NamedTuple):
    """N examples.

    Attributes:
        image: (N, H, W, 3) uint8 BGR.
        boxes: (N, P, 4) left, top, right, bottom in heatmap pixels.
        kind: (N, P) 1 for a person, -1 for an ignored region, 0 for none.
        weight: (N, 1) ones: every example says of every place whether a person's center is there.
    """

    image: Tensor
    boxes: Tensor
    kind: Tensor
    weight: Tensor


class DetectionDataset(Dataset[list[tuple[NDArray[np.generic], ...]] | DataError]):
    """Augmented examples; what (epoch, index) gives is a function of the seed alone."""

    def __init__(
        self,
        samples: Sequence[Sample],
        spec: InputSpec,
        stride: int,
        augmentation: Augmentation,
        seed: int,
    ) -> None:
        self._samples = [s for s in samples if isinstance(s, DetectionSample)]
        self._spec = spec
        self._to_heatmap = heatmap_from_crop(stride)
        self._augmentation = augmentation
        self._seed = seed

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, key: Key) -> list[tuple[NDArray[np.generic], ...]] | DataError:
        """The one view's row of a batch, or the error of an image that cannot be read."""
        epoch, index = key
        rng = np.random.default_rng([self._seed, epoch, index])
        extra = rng.integers(len(self._samples), size=_NUM_EXTRA_IMAGES)
        samples = [self._samples[index], *(self._samples[int(i)] for i in extra)]
        try:
            example = make_detection_example(samples, self._spec, self._augmentation, rng)
        except DataError as error:
            return error
        return [self._make_row(example)]

    def _make_row(self, example: DetectionExample) -> tuple[NDArray[np.generic], ...]:
        corners = np.concatenate([example.persons, example.ignored])
        kinds = np.repeat([_PERSON, _IGNORED], [len(example.persons), len(example.ignored)])
        # The largest first: where two centers share a cell, it owns the cell.
        sides = corners[:, 2:] - corners[:, :2]
        order = np.argsort(-sides.prod(axis=1), kind="stable")
        corners, kinds = corners[order], kinds[order]
        if len(corners) > MAX_BOXES:
            corners, kinds = _enclose_last(corners, kinds)
        boxes = np.zeros((MAX_BOXES, 4), dtype=np.float32)
        kind = np.zeros(MAX_BOXES, dtype=np.float32)
        placed = apply(self._to_heatmap, corners.reshape(-1, 2, 2)).reshape(-1, 4)
        boxes[: len(corners)], kind[: len(corners)] = placed, kinds
        return example.image, boxes, kind, np.ones(1, dtype=np.float32)


def _enclose_last(
    corners_N4: NDArray[np.floating], kinds_N: NDArray[np.floating]
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """The first boxes, and one ignored region around the rest: none becomes background."""
    kept, rest = corners_N4[: MAX_BOXES - 1], corners_N4[MAX_BOXES - 1 :]
    around = np.concatenate([rest[:, :2].min(axis=0), rest[:, 2:].max(axis=0)])
    return np.vstack([kept, around]), np.append(kinds_N[: MAX_BOXES - 1], _IGNORED)
