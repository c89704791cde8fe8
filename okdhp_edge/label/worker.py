"""Label one image: its boxes, the teachers' predictions in them, and negative boxes."""

from threading import local

import numpy as np

from okdhp_edge.errors import DataError
from okdhp_edge.inference.external_pose_model import ExternalPoseModel
from okdhp_edge.inference.open_detector import Detector, open_detector
from okdhp_edge.label.consensus import Label, clip_to_image, merge_predictions
from okdhp_edge.label.images import ImageItem, difference_hash, get_frame_path, save_frame
from okdhp_edge.label.negatives import sample_negative_boxes
from okdhp_edge.label.options import LabelOptions
from okdhp_edge.label.progress_log import Record
from okdhp_edge.pose.crop import Box
from okdhp_edge.pose.preprocess import Image
from okdhp_edge.pose.skeleton import Skeleton
from okdhp_edge.system.files import wrap_write_errors


class Worker:
    """Labels one image; each thread has teachers and a detector of its own."""

    def __init__(self, options: LabelOptions, skeleton: Skeleton) -> None:
        self._options = options
        self._skeleton = skeleton
        self._of_thread = local()

    def __call__(self, item: ImageItem, picture: Image | DataError) -> Record:
        """Label one image; an error is recorded and skipped."""
        if isinstance(picture, DataError):
            return {"error": str(picture)}
        try:
            return self._label_image(item, picture)
        except DataError as error:
            return {"error": str(error)}

    def _label_image(self, item: ImageItem, picture: Image) -> Record:
        options = self._options
        boxes = self._find_boxes(item, picture)
        tall = [box for box in boxes if box[3] >= options.min_box_height]
        labels = [(box, self._label_person(picture, box)) for box in tall]
        kept = [
            (b, found) for b, found in labels if found.labelled.sum() >= options.rules.min_joints
        ]
        height, width = picture.shape[:2]
        rng = np.random.default_rng([options.seed, difference_hash(picture)])
        drawn = sample_negative_boxes(boxes, (width, height), options.max_negatives, rng)
        if item.frame is not None and (kept or drawn):
            with wrap_write_errors(get_frame_path(options.out, item)):
                save_frame(picture, get_frame_path(options.out, item))
        return {
            "width": width,
            "height": height,
            "hash": difference_hash(picture),
            "persons": [_make_person_record(box, found) for box, found in kept],
            "empty": [_round_values(b) for b in drawn if self._is_empty(picture, b)],
            "small": len(boxes) - len(tall),
            "unsure": len(tall) - len(kept),
        }

    def _find_boxes(self, item: ImageItem, picture: Image) -> list[Box]:
        if self._options.no_people:
            return []
        found = self._options.find(item.path, picture) if self._options.find else None
        if found is None and self._options.detector:
            found = [d.box for d in self._detector(picture)]
        if found is None:
            raise DataError(
                f"no boxes for image {item.key}", "pass --detector, or add box files next to it"
            )
        return found

    def _label_person(self, picture: Image, box: Box) -> Label:
        looks = [
            (teacher.skeleton, look)
            for teacher in self._teachers
            for look in teacher.predict(picture, box)
        ]
        found = merge_predictions(looks, self._skeleton, float(box[2:].max()), self._options.rules)
        return clip_to_image(found, (picture.shape[1], picture.shape[0]))

    def _is_empty(self, picture: Image, box: Box) -> bool:
        """Whether the teachers see nobody either: annotators leave people out. Of images that are
        said to show nobody it is believed: what teachers see in them is what is to be unlearnt."""
        return self._options.no_people or bool(
            self._label_person(picture, box).score.max() < self._options.rules.min_score
        )

    @property
    def _teachers(self) -> list[ExternalPoseModel]:
        if not hasattr(self._of_thread, "teachers"):
            options = self._options
            self._of_thread.teachers = [
                ExternalPoseModel(path, 1, options.precision) for path in options.teachers
            ]
        teachers: list[ExternalPoseModel] = self._of_thread.teachers
        return teachers

    @property
    def _detector(self) -> Detector:
        if not hasattr(self._of_thread, "detector"):
            assert self._options.detector is not None
            self._of_thread.detector = open_detector(self._options.detector, threads=1)
        detector: Detector = self._of_thread.detector
        return detector


def _make_person_record(box: Box, found: Label) -> Record:
    return {
        "box": _round_values(box),
        "xy": [_round_values(point) for point in found.xy],
        "score": [round(float(s), 3) for s in found.score],
        "labelled": found.labelled.astype(int).tolist(),
        "absent": found.absent.astype(int).tolist(),
    }


def _round_values(values: Box) -> list[float]:
    return [round(float(v), 2) for v in values]
