"""Find problems in a data set before training."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from okdhp_edge.data.load import Problem, find_problems
from okdhp_edge.data.sample import PoseDataset, Sample
from okdhp_edge.errors import DataError

_MIN_BOX_PX = 16
_BOX_MARGIN_SHARE = 0.2


@dataclass(frozen=True)
class CheckReport:
    """Counts over a set, and every problem found."""

    samples: int
    joints_labelled: float
    problems: tuple[Problem, ...]

    @property
    def fatal(self) -> int:
        """How many problems keep a sample from being trained on."""
        return sum(p.fatal for p in self.problems)


def check(poses: PoseDataset, progress: Callable[[int], None] | None = None) -> CheckReport:
    """Check every annotation and open every image."""
    problems = find_problems(poses.samples)
    broken = {p.sample for p in problems}
    for done, sample in enumerate(poses.samples, start=1):
        if sample.id not in broken:
            problems += _check_against_image(sample)
        if progress:
            progress(done)
    labelled = float(np.mean([s.labelled.sum() for s in poses.samples])) if len(poses) else 0.0
    return CheckReport(len(poses), labelled, tuple(problems))


def _check_against_image(sample: Sample) -> list[Problem]:
    try:
        height, width = sample.image.read().shape[:2]
    except DataError as error:
        return [Problem(sample.id, error.cause, fatal=True)]
    return [Problem(sample.id, what, fatal=False) for what in _find_oddities(sample, width, height)]


def _find_oddities(sample: Sample, width: int, height: int) -> list[str]:
    odd = []
    xy = sample.xy[sample.labelled]
    outside = int(((xy < -0.5) | (xy > [width - 0.5, height - 0.5])).any(axis=1).sum())
    if outside:
        odd.append(f"{outside} labelled joint(s) outside the {width}x{height} image")
    x, y, w, h = sample.box
    if max(w, h) < _MIN_BOX_PX:
        odd.append(f"box of only {w:.0f}x{h:.0f} px")
    if x > width or y > height or x + w < 0 or y + h < 0:
        odd.append("box outside the image")
    low, high = sample.box[:2], sample.box[:2] + sample.box[2:]
    margin = _BOX_MARGIN_SHARE * sample.box[2:].max()
    stray = int(((xy < low - margin) | (xy > high + margin)).any(axis=1).sum())
    if stray:
        odd.append(f"{stray} labelled joint(s) far outside the box")
    return odd
