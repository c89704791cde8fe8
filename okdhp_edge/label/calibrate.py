"""Measure where a teacher's heatmap cells lie, on a set with labelled joints.

Every labelled joint that the teacher finds gives a residual, label less prediction, in heatmap
cells. A wrong grid shows in all joints alike, the more the farther they are from the crop's origin;
what remains under the right one is each joint's own offset: its median.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from okdhp_edge.data.sample import PoseDataset
from okdhp_edge.errors import DataError, ModelError
from okdhp_edge.inference.external_pose_model import ExternalPoseModel
from okdhp_edge.pose.crop import HeatmapGrid, apply, invert
from okdhp_edge.system.files import write_text

_MIN_SCORE = 0.3
_MAX_RESIDUAL_CELLS = 2.0
"""A joint farther from its label is another one, not a misplaced one."""
_COMMENT = "# Measured by `okdhp-edge data label --calibrate {}:...`.\n"
_MIN_PERSONS = 20
"""Joints that are found on fewer persons keep the offset 0."""
_KEY = re.compile(r"^(?:grid|offset)\s*=\s*", re.MULTILINE)


@dataclass(frozen=True)
class TeacherCalibration:
    """Where a teacher's cells lie.

    Attributes:
        offset: (K, 2) x and y in heatmap cells, to be added to what the grid gives.
        persons: (K,) on how many persons each joint's offset was measured.
        error_before, error_after: median distances of found joints from their labels, in heatmap
            cells, by the description as it was and as it was measured.
    """

    grid: HeatmapGrid
    offset: NDArray[np.float64]
    persons: NDArray[np.int64]
    error_before: float
    error_after: float


def calibrate_teacher(
    teacher: ExternalPoseModel,
    poses: PoseDataset,
    report: Callable[[int], None] = lambda _: None,
) -> TeacherCalibration:
    """Measure a teacher on labelled persons.

    Args:
        report: called with the number of persons that are done.

    Raises:
        DataError: the set does not know the teacher's joints, or too few of them are found.
        ModelError: the teacher has no heatmaps.
    """
    if teacher.spec.reads != "heatmaps":
        raise ModelError(f"teacher {teacher.path} has no heatmaps to calibrate", "omit --calibrate")
    known = poses.with_skeleton(teacher.skeleton)
    truth_NK2, cells_NK2, found_NK = _collect(teacher, known, report)
    sizes = teacher.size, teacher.heatmap_size
    residuals = {
        grid: apply(invert(grid.input_from_heatmap(*sizes)), truth_NK2) - cells_NK2
        for grid in HeatmapGrid
    }
    medians = {grid: _compute_median_error(r, found_NK) for grid, r in residuals.items()}
    grid = min(HeatmapGrid, key=lambda g: medians[g])
    if not np.isfinite(medians[grid]):
        raise DataError(
            f"{teacher.path.name} finds too few joints of {poses.source} to be calibrated",
            f"use a set with at least {_MIN_PERSONS} labelled persons",
        )
    offset_K2, persons_K = _measure_offsets(residuals[grid], found_NK)
    before = residuals[teacher.spec.grid] - np.asarray(teacher.spec.offset)
    return TeacherCalibration(
        grid, offset_K2, persons_K, _compute_median_error(before, found_NK),
        _compute_median_error(residuals[grid] - offset_K2, found_NK),
    )  # fmt: skip


def write_calibration(file: Path, calibration: TeacherCalibration, kind: str) -> None:
    """Put the grid and the offsets into a teacher's description; its other lines stay.

    Args:
        kind: of the set, for a comment.
    """
    rows = ", ".join(f"[{x:.3f}, {y:.3f}]" for x, y in calibration.offset)
    text = _drop_keys(file.read_text(encoding="utf-8")).replace(_COMMENT.format(kind), "")
    write_text(file, text.rstrip("\n") + "\n" + _COMMENT.format(kind) +
               f'grid = "{calibration.grid.value}"\noffset = [{rows}]\n')  # fmt: skip


def _collect(
    teacher: ExternalPoseModel, poses: PoseDataset, report: Callable[[int], None]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """(N, K, 2) labels in input pixels, (N, K, 2) predictions in cells, (N, K) which to use."""
    truth, cells, found = [], [], []
    for number, sample in enumerate(poses.samples, start=1):
        crop_from_image, places = teacher.locate(sample.image.read(), sample.box)
        truth.append(apply(crop_from_image, sample.xy))
        cells.append(places.xy)
        found.append(sample.labelled & (places.score >= _MIN_SCORE))
        report(number)
    return np.stack(truth), np.stack(cells), np.stack(found)


def _is_near(residual_NK2: NDArray[np.float64], found_NK: NDArray[np.bool_]) -> NDArray[np.bool_]:
    near: NDArray[np.bool_] = np.linalg.norm(residual_NK2, axis=-1) <= _MAX_RESIDUAL_CELLS
    return found_NK & near


def _compute_median_error(residual_NK2: NDArray[np.float64], found_NK: NDArray[np.bool_]) -> float:
    """Median distance in cells; infinite where there is too little to say."""
    near_NK = _is_near(residual_NK2, found_NK)
    if near_NK.sum(axis=0).max() < _MIN_PERSONS:
        return float("inf")
    return float(np.median(np.linalg.norm(residual_NK2, axis=-1)[near_NK]))


def _measure_offsets(
    residual_NK2: NDArray[np.float64], found_NK: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    near_NK = _is_near(residual_NK2, found_NK)
    persons_K = near_NK.sum(axis=0)
    offset_K2 = np.zeros(residual_NK2.shape[1:])
    for joint in np.flatnonzero(persons_K >= _MIN_PERSONS):
        offset_K2[joint] = np.median(residual_NK2[near_NK[:, joint], joint], axis=0)
    return offset_K2.round(3), persons_K


def _drop_keys(text: str) -> str:
    """The description without its grid and offset, whatever lines these take."""
    while match := _KEY.search(text):
        end = match.end()
        depth = 0
        while end < len(text) and (depth or text[end] != "\n"):
            depth += (text[end] == "[") - (text[end] == "]")
            end += 1
        text = text[: match.start()] + text[end + 1 :]
    return text
