"""The flip test: heatmaps averaged over each crop and its mirror image."""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from okdhp_edge.pose.heatmap import Heatmaps
from okdhp_edge.pose.skeleton import Skeleton

Predict = Callable[[NDArray[np.uint8]], Mapping[str, Heatmaps]]
"""uint8 BGR crops (B, H, W, 3) to named heatmaps (B, K, h, w)."""


def make_mirrored_predictor(predict: Predict, skeleton: Skeleton) -> Predict:
    """Heatmaps of the mirrored crops, mirrored back, with left and right exchanged."""

    def predict_mirrored(images_BHWC: NDArray[np.uint8]) -> dict[str, Heatmaps]:
        found = predict(np.ascontiguousarray(images_BHWC[:, :, ::-1]))
        return {n: h[:, skeleton.flip_index, :, ::-1] for n, h in found.items()}

    return predict_mirrored


def add_flip_test(predict: Predict, skeleton: Skeleton) -> Predict:
    """The mean of the heatmaps of each crop and of its mirror image, as papers evaluate; it doubles
    what a crop costs."""
    mirrored = make_mirrored_predictor(predict, skeleton)

    def mean(images_BHWC: NDArray[np.uint8]) -> dict[str, Heatmaps]:
        straight, other = predict(images_BHWC), mirrored(images_BHWC)
        return {n: np.asarray((h + other[n]) / 2, np.float32) for n, h in straight.items()}

    return mean
