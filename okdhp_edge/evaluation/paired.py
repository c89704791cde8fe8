"""Differences in PCK between two models on the same persons, with 95 % intervals."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from okdhp_edge.data.sample import PoseDataset
from okdhp_edge.pose.metrics import find_correct_joints, torso_diagonals
from okdhp_edge.system.latency import Interval

THRESHOLD = 0.2
_BOOTSTRAP_ROUNDS = 4000


class Gain(Interval):
    """Points over another model, with the 95 % interval."""

    def __str__(self) -> str:
        return f"{self.value:+.1f} ({self.low:+.1f} to {self.high:+.1f})"


class Hits(NamedTuple):
    """Per person: joints within the threshold, and joints that count."""

    right: NDArray[np.float64]
    counted: NDArray[np.float64]

    @property
    def pck(self) -> float:
        """Percentage of correct joints."""
        return float(100 * self.right.sum() / self.counted.sum())


def count_hits(poses: PoseDataset, xy_NK2: NDArray[np.floating]) -> Hits:
    """Compare joints with their labels by PCK@0.2, normalized by the longer torso diagonal.

    Args:
        xy_NK2: predicted joints in image pixels, in the order of the data set's samples.
    """
    truth, labelled = (np.stack([getattr(s, k) for s in poses.samples]) for k in ("xy", "labelled"))
    norm = torso_diagonals(truth, labelled, poses.skeleton)
    right, counted = find_correct_joints(xy_NK2, truth, labelled, norm, THRESHOLD)
    return Hits(right.sum(axis=1).astype(np.float64), counted.sum(axis=1).astype(np.float64))


def compute_gain(mine: Hits, theirs: Hits) -> Gain:
    """The paired difference, with a bootstrap interval over persons."""
    difference, counted = mine.right - theirs.right, mine.counted
    rng = np.random.default_rng(0)
    times = rng.multinomial(
        len(counted), np.full(len(counted), 1 / len(counted)), size=_BOOTSTRAP_ROUNDS
    )
    drawn = 100 * (times @ difference) / (times @ counted)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Gain(float(100 * difference.sum() / counted.sum()), float(low), float(high))
