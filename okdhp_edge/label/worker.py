"""Label one image: the teachers' predictions in its boxes, and negative boxes.

Runs in a worker process, which gets the image itself: it may be on a machine without the file.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from okdhp_edge.errors import DataError
from okdhp_edge.inference.external_pose_model import VIEWS, ExternalPoseModel, fingerprint
from okdhp_edge.inference.open_detector import open_detector
from okdhp_edge.label.consensus import (
    ConsensusRules,
    Label,
    clip_to_image,
    merge_predictions,
    merge_skeletons,
)
from okdhp_edge.label.images import ImageItem, difference_hash
from okdhp_edge.label.negatives import sample_negative_boxes
from okdhp_edge.label.options import LabelOptions
from okdhp_edge.label.progress_log import Record
from okdhp_edge.pose.crop import Box
from okdhp_edge.pose.preprocess import Image


class LabelTask(NamedTuple):
    """An image to label.

    Attributes:
        boxes: of its persons; None where a detector is to find them.
    """

    item: ImageItem
    image: Image
    boxes: Sequence[Box] | None


@dataclass(frozen=True)
class WorkerOptions:
    """What all images of a run share; see `LabelOptions`.

    Attributes:
        fingerprints: of the teachers, so that a worker notices changed files.
    """

    teachers: tuple[Path, ...]
    fingerprints: tuple[str, ...]
    detector: str | Path | None
    rules: ConsensusRules
    max_negatives: int
    min_box_height: float
    no_people: bool
    views: int
    precision: str
    seed: int


def make_worker_options(options: LabelOptions) -> WorkerOptions:
    """The part of the options that travels to the workers, with absolute paths."""
    detector = options.detector
    is_file = detector is not None and Path(detector).is_file()
    return WorkerOptions(
        teachers=tuple(path.resolve() for path in options.teachers),
        fingerprints=tuple(fingerprint(path) for path in options.teachers),
        detector=Path(detector).resolve() if detector and is_file else detector,
        rules=options.rules, max_negatives=options.max_negatives,
        min_box_height=options.min_box_height, no_people=options.no_people,
        views=options.views, precision=options.precision, seed=options.seed,
    )  # fmt: skip


def label_image(options: WorkerOptions, task: LabelTask) -> Record:
    """Label one image; an error of the image is recorded."""
    try:
        return _load_labeler(options)(task)
    except DataError as error:
        return {"error": str(error)}


@lru_cache(maxsize=1)
def _load_labeler(options: WorkerOptions) -> "_Labeler":
    return _Labeler(options)


class _Labeler:
    """The teachers and the detector of a worker."""

    def __init__(self, options: WorkerOptions) -> None:
        self._options = options
        self._teachers = [ExternalPoseModel(p, 1, options.precision) for p in options.teachers]
        self._skeleton = merge_skeletons([teacher.skeleton for teacher in self._teachers])
        self._detector = open_detector(options.detector, threads=1) if options.detector else None

    def __call__(self, task: LabelTask) -> Record:
        options, image = self._options, task.image
        boxes = self._find_boxes(task)
        tall = [box for box in boxes if box[3] >= options.min_box_height]
        labels = [(box, self._label_person(image, box)) for box in tall]
        kept = [
            (b, found) for b, found in labels if found.labelled.sum() >= options.rules.min_joints
        ]
        height, width = image.shape[:2]
        rng = np.random.default_rng([options.seed, difference_hash(image)])
        drawn = sample_negative_boxes(boxes, (width, height), options.max_negatives, rng)
        return {
            "width": width,
            "height": height,
            "hash": difference_hash(image),
            "persons": [_make_person_record(box, found) for box, found in kept],
            "empty": [_round_values(b) for b in drawn if self._is_empty(image, b)],
            "small": len(boxes) - len(tall),
            "unsure": len(tall) - len(kept),
        }

    def _find_boxes(self, task: LabelTask) -> Sequence[Box]:
        if task.boxes is not None:
            return task.boxes
        if self._detector is None:
            raise DataError(f"no boxes for image {task.item.key}",
                            "pass --detector, or add box files next to it")  # fmt: skip
        return [detection.box for detection in self._detector(task.image)]

    def _label_person(self, image: Image, box: Box) -> Label:
        looks = [
            (teacher.skeleton, teacher.predict(image, box, VIEWS[self._options.views]))
            for teacher in self._teachers
        ]
        found = merge_predictions(looks, self._skeleton, float(box[2:].max()), self._options.rules)
        return clip_to_image(found, (image.shape[1], image.shape[0]))

    def _is_empty(self, image: Image, box: Box) -> bool:
        """Whether the teachers see nobody either: annotators leave people out. Of images that are
        said to show nobody it is believed: what teachers see in them is what is to be unlearnt."""
        return self._options.no_people or bool(
            self._label_person(image, box).score.max() < self._options.rules.min_score
        )


def _make_person_record(box: Box, found: Label) -> Record:
    return {
        "box": _round_values(box),
        "xy": [_round_values(point) for point in found.xy],
        "score": [round(float(s), 3) for s in found.score],
        "spread": [round(float(s), 4) for s in found.spread],
        "labelled": found.labelled.astype(int).tolist(),
        "absent": found.absent.astype(int).tolist(),
    }


def _round_values(values: Box) -> list[float]:
    return [round(float(v), 2) for v in values]
