"""Smooth joints for display, not for metrics."""

from collections.abc import Sequence
from dataclasses import replace

from okdhp_edge.pose.result import Pose
from okdhp_edge.pose.smoothing import OneEuro


class Smoother:
    """A One-Euro filter for each person of a source, on the frames' own times."""

    def __init__(self) -> None:
        self._filters: dict[int | None, OneEuro] = {}

    def __call__(self, poses: Sequence[Pose], seconds: float) -> list[Pose]:
        """The poses with filtered joints; who is gone is forgotten."""
        self._filters = {pose.id: self._filters.get(pose.id) or OneEuro() for pose in poses}
        return [
            replace(pose, xy=self._filters[pose.id](pose.xy, seconds, pose.size)) for pose in poses
        ]
