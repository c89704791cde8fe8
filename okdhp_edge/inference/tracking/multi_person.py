"""Multi-person tracking: periodic detection, with boxes that follow the joints in between."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from okdhp_edge.inference.person_detector import Detection
from okdhp_edge.inference.pose_estimator import PoseEstimator
from okdhp_edge.inference.refine_boxes import estimate_twice
from okdhp_edge.inference.tracking.box_motion import (
    fit_to_joints,
    measure_margins,
    move_with_joints,
)
from okdhp_edge.inference.tracking.detection_scheduler import DetectionScheduler
from okdhp_edge.inference.tracking.single_person import (
    find_person_box,
    has_few_joints,
    is_person,
)
from okdhp_edge.pose.crop import Box
from okdhp_edge.pose.duplicates import is_same_person
from okdhp_edge.pose.preprocess import Image
from okdhp_edge.pose.result import Pose

MAX_PEOPLE = 20
"""People of a frame whose poses are estimated, the nearest first."""
DETECTION_INTERVAL_FRAMES = 15
"""Frames from one detection to the next."""
MIN_NEW_TRACK_SCORE = 0.5
"""Of a detection that begins a new person in a scene that has begun."""
# Sooner where somebody is lost or nobody there.
_REDETECT_AFTER_FRAMES = 5
_MIN_IOU_MATCH = 0.25
# Of the smaller box in the larger: one that shrank onto a part of a person is still that person's.
_MIN_CONTAINED_SHARE = 0.8
# Below this overlap with its detection a box has strayed from its person, or the detector has.
_MIN_IOU_KEEP_BOX = 0.55
# Detections that may miss a lost person, and one whose joints are seen; frames without a pose; then
# it is gone.
_DROP_AFTER_MISSES_LOST, _DROP_AFTER_MISSES_VISIBLE, _MAX_LOST_FRAMES = 2, 5, 15
# A box moves by a mean over about five frames.
_VELOCITY_GAIN = 0.2
_MIN_FRAMES_FOLLOWED = 5


@dataclass
class _Track:
    """A person, or a box in which one is looked for; `id` comes with the first pose.

    Attributes:
        box: the person's, in which the next pose is estimated.
        lost: frames since the last pose.
        missed: detections in a row that had no box for it.
        num_poses: frames with a pose.
        velocity: (2,) of the box's center, in pixels a frame.
        predicted: the box of this frame by its velocity.
        before: velocity and `lost` before the last pose.
        margins: (4,) of the detector's box beyond the joints, see `measure_margins`.
        is_detected: whether `box` is the detector's of this frame.
    """

    box: Box
    box_score: float
    id: int | None = None
    pose: Pose | None = None
    lost: int = 0
    missed: int = 0
    num_poses: int = 0
    velocity: NDArray[np.float64] = field(default_factory=lambda: np.zeros(2))
    predicted: Box | None = None
    before: tuple[NDArray[np.float64], int] = field(default_factory=lambda: (np.zeros(2), 0))
    margins: NDArray[np.float64] = field(default_factory=lambda: np.zeros(4))
    is_detected: bool = False

    def coast(self) -> None:
        """Lose the person in this frame: the box goes on as it moved."""
        assert self.predicted is not None
        self.box, self.lost, self.is_detected = self.predicted, self.lost + 1, False

    def take_back(self) -> None:
        """The pose of this frame is somebody else's: lose the person as of the frame before."""
        self.velocity, self.lost = self.before
        self.coast()

    def follow(self, pose: Pose, *, has_extent: bool) -> None:
        """Take the person's new pose; the box goes with its joints.

        Args:
            has_extent: whether the joints say where the person ends: a few do not.
        """
        self.before = self.velocity, self.lost
        led = None
        if self.pose is not None and not self.lost:
            led = move_with_joints(self.box, self.pose, pose)
        box = self.box
        if has_extent:
            if self.is_detected or self.pose is None:
                self.margins = measure_margins(box, pose)
            elif led is not None:
                box = led
            box = fit_to_joints(box, pose, self.margins)
        # A detector's box has moved already; how far, the joints know.
        moved_box = led if self.is_detected else box
        if self.num_poses and moved_box is not None:
            moved = _center(moved_box) - _center(self.box)
            self.velocity = self.velocity + _VELOCITY_GAIN * (moved - self.velocity)
        self.box, self.pose, self.lost, self.num_poses = box, pose, 0, self.num_poses + 1
        self.is_detected = False

    @property
    def prediction_error(self) -> float:
        """Distance of the box from its prediction, as a share of its size."""
        assert self.predicted is not None
        apart = np.linalg.norm(_center(self.box) - _center(self.predicted))
        return float(apart / max(self.box[2:].max(), 1.0))


class MultiPersonTracker:
    """Persons with ids that stay theirs while they can be followed.

    All persons of a frame go through the network together. The detector is asked every `every`
    frames, and soon where somebody was lost; in between a box moves as the joints do.
    A person who is lost, or whose joints are those of somebody in front, goes on at constant
    velocity until found again. A box of low score goes on with somebody who is followed, but begins
    nobody, except in the first frame of a scene (the two thresholds of ByteTrack, Zhang et al.,
    ECCV 2022). Of a crowd the nearest are followed, those with the largest boxes.

    Args:
        still: whether each frame is a scene of its own, whose boxes no earlier joints corrected.

    Attributes:
        most_left_out: people of one frame that were found beyond `max_people`.
    """

    def __init__(
        self,
        estimator: PoseEstimator,
        scheduler: DetectionScheduler,
        every: int = DETECTION_INTERVAL_FRAMES,
        max_people: int = MAX_PEOPLE,
        *,
        still: bool = False,
    ) -> None:
        self._max_people = max_people
        self.most_left_out = 0
        self._estimator, self._scheduler, self._every = estimator, scheduler, every
        self._still = still
        self._estimate = partial(estimate_twice, estimator) if still else estimator.estimate_many
        self._tracks: list[_Track] = []
        self._since = every
        self._is_first = True
        self._ids = 0

    def reset(self) -> None:
        """The next frame shows another scene."""
        self._tracks, self._since, self._is_first = [], self._every, True
        self._scheduler.reset()

    def update(self, frame: Image) -> list[Pose]:
        """Poses of all people found in this frame, the longest tracked first."""
        with self._estimator.clock.stage("detect"):
            detections = self._scheduler.poll_detections(frame, wanted=self._is_detection_due())
        self._since += 1
        if detections is not None:
            self._since = 1  # of the next frame
            self._match(detections)
        poses = self._estimate(frame, [track.box for track in self._tracks])
        for track, pose in zip(self._tracks, poses, strict=True):
            track.predicted = _move(track.box, track.velocity)
            self._update(track, pose, frame)
        self._tracks = _resolve_duplicates([t for t in self._tracks if t.lost <= _MAX_LOST_FRAMES])
        return [
            replace(t.pose, id=None if self._still else t.id, box=t.box, box_score=t.box_score)
            for t in self._tracks
            if t.pose is not None and not t.lost
        ]

    def _is_detection_due(self) -> bool:
        nobody = not self._tracks or any(track.lost for track in self._tracks)
        return self._since >= (min(_REDETECT_AFTER_FRAMES, self._every) if nobody else self._every)

    def _match(self, detections: Sequence[Detection]) -> None:
        """Greedily, the best overlap first; who is left over is new, or missed once more."""
        nearest = sorted(detections, key=lambda d: -float(np.prod(d.box[2:])))
        boxes = [detection.box for detection in nearest]
        overlap = _compute_overlaps(
            [_move(track.box, track.velocity) for track in self._tracks], boxes
        )
        new, missed = set(range(len(boxes))), set(range(len(self._tracks)))
        for flat in np.argsort(-overlap, axis=None):
            t, d = (int(v) for v in np.unravel_index(flat, overlap.shape))
            if overlap[t, d] < _MIN_IOU_MATCH:
                break
            if t in missed and d in new:
                missed.remove(t)
                new.remove(d)
                self._confirm(self._tracks[t], nearest[d], float(overlap[t, d]))
        for t in missed:
            self._tracks[t].missed += 1
        self._tracks = [track for track in self._tracks if not _is_gone(track)]
        lowest = 0.0 if self._is_first else MIN_NEW_TRACK_SCORE
        found = [nearest[d] for d in sorted(new) if nearest[d].score >= lowest]
        seen = len(found) + sum(not track.missed for track in self._tracks)
        self.most_left_out = max(self.most_left_out, seen - self._max_people)
        self._tracks += [_Track(d.box, d.score, is_detected=True) for d in found]
        self._tracks = _keep_nearest(self._tracks, self._max_people)
        self._is_first = False

    @staticmethod
    def _confirm(track: _Track, detection: Detection, overlap: float) -> None:
        track.missed, track.box_score = 0, detection.score
        is_followed = track.pose is not None and not track.lost
        is_near = overlap >= _MIN_IOU_KEEP_BOX
        if is_followed and not is_near and detection.score < MIN_NEW_TRACK_SCORE:
            return  # joints know better than a doubtful box elsewhere
        track.box, track.is_detected = detection.box, True

    def _update(self, track: _Track, pose: Pose, frame: Image) -> None:
        has_extent = not has_few_joints(pose)
        if not is_person(pose) or (has_extent and find_person_box(pose, frame) is None):
            track.coast()
            return
        track.follow(pose, has_extent=has_extent)
        if track.id is None:
            self._ids += 1
            track.id = self._ids


def _is_gone(track: _Track) -> bool:
    """Misses count, not frames: with the detector in every frame, lost people who were given ten
    frames cost more than they brought (benchmarks/accuracy/tracking.py: MOTA 52.2, not 54.1)."""
    there = track.pose is not None and not track.lost
    return track.missed >= (_DROP_AFTER_MISSES_VISIBLE if there else _DROP_AFTER_MISSES_LOST)


def _keep_nearest(tracks: list[_Track], count: int) -> list[_Track]:
    """So many tracks: those just matched first, of these the largest; their order stays."""
    ranked = sorted(tracks, key=lambda t: (t.missed > 0, -float(np.prod(t.box[2:]))))
    kept = {id(track) for track in ranked[:count]}
    return [track for track in tracks if id(track) in kept]


def _resolve_duplicates(tracks: list[_Track]) -> list[_Track]:
    """Of two tracks on one person, the one that jumped there has lost its own person behind the
    other's: it goes on as it moved. One that was never followed goes."""
    kept: list[_Track] = []
    for track in tracks:
        other = next((t for t in kept if _is_same_person(track, t)), None)
        if other is None:
            kept.append(track)
        elif track.num_poses >= _MIN_FRAMES_FOLLOWED:
            stray = max(track, other, key=lambda t: t.prediction_error)
            stray.take_back()
            kept.append(track)
    return kept


def _center(box: Box) -> NDArray[np.float64]:
    return np.asarray(box[:2] + box[2:] / 2, dtype=np.float64)


def _move(box: Box, by: NDArray[np.float64]) -> Box:
    return np.concatenate([box[:2] + by, box[2:]])


def _is_same_person(a: _Track, b: _Track) -> bool:
    if a.pose is None or b.pose is None or a.lost or b.lost:
        return False
    return is_same_person(a.pose, b.pose)


def _compute_overlaps(ours: Sequence[Box], theirs: Sequence[Box]) -> NDArray[np.float64]:
    """(T, D) intersection over union; of a box that lies in the other, no less than counts."""
    a, b = np.array(ours).reshape(-1, 1, 4), np.array(theirs).reshape(1, -1, 4)
    low = np.maximum(a[..., :2], b[..., :2])
    high = np.minimum(a[..., :2] + a[..., 2:], b[..., :2] + b[..., 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=-1)
    areas = np.prod(a[..., 2:], axis=-1), np.prod(b[..., 2:], axis=-1)
    union = np.maximum(areas[0] + areas[1] - shared, 1e-9)
    inside = shared >= _MIN_CONTAINED_SHARE * np.maximum(np.minimum(*areas), 1e-9)
    return np.asarray(np.maximum(shared / union, np.where(inside, _MIN_IOU_MATCH, 0.0)))
