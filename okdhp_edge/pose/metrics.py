"""Accuracy of joints: PCK, PCKh, OKS, with bootstrap intervals over persons.

N persons, K joints. Unlabelled joints never enter a count, and never a norm.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from okdhp_edge.pose.skeleton import Skeleton

_BOOTSTRAP_ROUNDS = 1000
# PCKh takes 60 % of the head box's diagonal as the head's size (MPII evaluation, SC_BIAS).
HEAD_BIAS = 0.6


@dataclass(frozen=True)
class Score:
    """A metric in points of 100 with its 95 % bootstrap interval.

    Attributes:
        value: mean over all counted joints (PCK) or persons (OKS); NaN where nothing counts.
        low, high: interval over persons.
        persons: persons that count.
        per_joint: (K,) the metric by joint, NaN where a joint is never labelled.
    """

    value: float
    low: float
    high: float
    persons: int
    per_joint: NDArray[np.float64]


def torso_diagonals(
    xy_NK2: NDArray[np.floating], labelled_NK: NDArray[np.bool_], skeleton: Skeleton
) -> NDArray[np.float64]:
    """(N,) longer diagonal shoulder to opposite hip with both ends labelled, NaN where none is."""
    diagonals = np.full((len(xy_NK2), 2), np.nan)
    pairs = (("left_shoulder", "right_hip"), ("right_shoulder", "left_hip"))
    for column, (shoulder, hip) in enumerate(pairs):
        a, b = skeleton.index(shoulder), skeleton.index(hip)
        if a is None or b is None:
            continue
        both = labelled_NK[:, a] & labelled_NK[:, b]
        lengths = np.linalg.norm(xy_NK2[both, a] - xy_NK2[both, b], axis=-1)
        diagonals[both, column] = lengths
    longest = np.fmax(diagonals[:, 0], diagonals[:, 1])
    return np.where(longest > 0, longest, np.nan)


def pck(
    predicted_NK2: NDArray[np.floating],
    truth_NK2: NDArray[np.floating],
    labelled_NK: NDArray[np.bool_],
    norm_N: NDArray[np.floating],
    threshold: float,
) -> Score:
    """Percentage of correct keypoints: error <= threshold * norm.

    Persons whose norm is NaN are left out. The value is the mean over all labelled joints of the
    remaining persons, each joint counting once.
    """
    correct_NK, counted_NK = find_correct_joints(
        predicted_NK2, truth_NK2, labelled_NK, norm_N, threshold
    )
    return _compute_ratio_score(correct_NK.astype(np.float64) * 100, counted_NK.astype(np.float64))


def find_correct_joints(
    predicted_NK2: NDArray[np.floating],
    truth_NK2: NDArray[np.floating],
    labelled_NK: NDArray[np.bool_],
    norm_N: NDArray[np.floating],
    threshold: float,
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """What `pck` counts: (N, K) joints that are right, and joints that count at all."""
    counted_NK = labelled_NK & np.isfinite(norm_N)[:, None]
    error_NK = np.linalg.norm(predicted_NK2 - truth_NK2, axis=-1)
    with np.errstate(invalid="ignore"):
        return counted_NK & (error_NK <= threshold * norm_N[:, None]), counted_NK


def keypoint_similarity(
    predicted_K2: NDArray[np.floating],
    truth_K2: NDArray[np.floating],
    area: float | NDArray[np.floating],
    sigmas_K: NDArray[np.floating],
) -> NDArray[np.float64]:
    """(..., K) exp(-d^2 / (2 s^2 k^2)) with k = 2 sigma and s^2 the area (COCO's evaluation)."""
    squared_K = ((predicted_K2 - truth_K2) ** 2).sum(axis=-1)
    return np.asarray(np.exp(-squared_K / (2 * area * (2 * sigmas_K) ** 2)), dtype=np.float64)


def oks(
    predicted_NK2: NDArray[np.floating],
    truth_NK2: NDArray[np.floating],
    labelled_NK: NDArray[np.bool_],
    area_N: NDArray[np.floating],
    sigmas_K: NDArray[np.floating],
) -> Score:
    """Mean object keypoint similarity, exp(-d^2 / (2 s^2 k^2)) with k = 2 sigma, s^2 the area.

    COCO keypoint evaluation; the mean over persons of the mean over their labelled joints.
    """
    valid = np.isfinite(area_N) & (area_N > 0) & labelled_NK.any(axis=1)
    area = np.where(valid, area_N, 1.0)
    similarity_NK = keypoint_similarity(predicted_NK2, truth_NK2, area[:, None], sigmas_K)
    counted_NK = labelled_NK & valid[:, None]
    weight_NK = counted_NK / np.maximum(counted_NK.sum(axis=1, keepdims=True), 1)
    return _compute_ratio_score(100.0 * similarity_NK * weight_NK, weight_NK)


def auroc(positive: NDArray[np.floating], negative: NDArray[np.floating]) -> float:
    """Area under the ROC curve: how often a positive's score exceeds a negative's, ties by half
    (Mann and Whitney's U over both counts). NaN where either has none."""
    positive, negative = np.ravel(positive), np.sort(np.ravel(negative))
    if not len(positive) or not len(negative):
        return float("nan")
    below = np.searchsorted(negative, positive, side="left")
    not_above = np.searchsorted(negative, positive, side="right")
    return float((below + not_above).sum() / (2 * len(positive) * len(negative)))


def _compute_ratio_score(gain_NK: NDArray[np.float64], weight_NK: NDArray[np.float64]) -> Score:
    """Sum of gains over sum of weights, by joint and in all, with an interval over persons."""
    used = weight_NK.sum(axis=1) > 0
    gain, weight = gain_NK[used], weight_NK[used]
    joints = gain_NK.shape[1]
    if not used.any():
        return Score(np.nan, np.nan, np.nan, 0, np.full(joints, np.nan))
    with np.errstate(invalid="ignore"):
        per_joint = gain.sum(axis=0) / weight.sum(axis=0)
    low, high = _bootstrap(gain.sum(axis=1), weight.sum(axis=1))
    return Score(float(gain.sum() / weight.sum()), low, high, int(used.sum()), per_joint)


def _bootstrap(gain_N: NDArray[np.float64], weight_N: NDArray[np.float64]) -> tuple[float, float]:
    rng = np.random.default_rng(0)
    ratios = []
    for _ in range(_BOOTSTRAP_ROUNDS):  # at once it would take gigabytes of a large set
        draw = rng.integers(0, len(gain_N), size=len(gain_N))
        ratios.append(gain_N[draw].sum() / weight_N[draw].sum())
    low, high = np.percentile(ratios, [2.5, 97.5])
    return float(low), float(high)
