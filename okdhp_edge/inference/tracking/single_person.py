"""Single-person tracking: the box follows the joints, from a search on."""

from collections.abc import Iterator
from typing import Protocol

import numpy as np

from okdhp_edge.inference.person_detector import Detect
from okdhp_edge.inference.pose_estimator import PoseEstimator
from okdhp_edge.inference.tracking.box_motion import (
    fit_to_joints,
    limit_to_frame,
    measure_margins,
    move_with_joints,
)
from okdhp_edge.pose.crop import Box, box_around, box_iou, scale_box
from okdhp_edge.pose.preprocess import Image
from okdhp_edge.pose.result import MIN_JOINT_SCORE, PERSON_MARGIN, Pose

MIN_PERSON_CONFIDENCE = 0.4
"""Minimum confidence of a pose that counts as a person."""
# Of a person who is searched for; a skeleton of fewer joints has to be seen whole.
_MIN_JOINTS = 4
_MAX_REFINEMENTS = 2
# Boxes of a detector that are tried for somebody to follow, the largest first.
_MAX_TRIED_BOXES = 5
# A box that overlaps the one before it by this much shows the network the same image again.
_MIN_IOU_SAME_BOX = 0.97
# Windows tried in a search, as shares of the frame's shorter side.
_WINDOW_SCALES = (0.9, 0.6, 0.4)
_MAX_FRAME_WINDOW_RATIO = 8
# A search looks at the whole frame and at so many shares of the windows in turn.
_NUM_WINDOW_SUBSETS = 4
SEARCH_INTERVAL_FRAMES = 10
"""Frames between searches while no person is tracked, so that an empty room costs little CPU."""
# Joints that lie outside the crop cannot be seen in it: where some are missing a wider box is tried
# so many frames apart, and half as often each time that none is found outside the box.
_WIDEN_INTERVAL_FRAMES, _MAX_WIDEN_INTERVAL_FRAMES = 15, 120
_WIDEN_FACTOR = 1.35
# Joints that a wider box must bring, in sums of scores.
_MIN_SCORE_GAIN = 0.5
# Boxes a frame apart that overlap less have parted ways.
_MIN_IOU_SAME_PERSON = 0.7


class Tracker(Protocol):
    """Finds persons from frame to frame.

    Attributes:
        most_left_out: people found in one frame beyond those whose poses are estimated.
    """

    most_left_out: int

    def update(self, frame: Image) -> list[Pose]:
        """Poses of all people found in this frame."""
        ...

    def reset(self) -> None:
        """The next frame shows another scene."""
        ...


class SinglePersonTracker:
    """One person across frames.

    Scores tell whether somebody is in the box and which joints are. The box moves as the joints do.
    While nobody is in it, the frame is searched now and then: by the detector, whose largest person
    it is; without one as a whole, then by windows over it, and what is found is refined by its own
    joints.

    Args:
        detect: finds persons in a frame; None where none fits the model.
    """

    most_left_out = 0

    def __init__(self, estimator: PoseEstimator, detect: Detect | None = None) -> None:
        self._estimator, self._detect = estimator, detect
        self.reset()

    def reset(self) -> None:
        """The next frame shows another scene."""
        self._box: Box | None = None
        self._pose: Pose | None = None
        self._margins = np.zeros(4)
        self._since_widened, self._widen_interval = 0, _WIDEN_INTERVAL_FRAMES
        self._until_search = 0
        self._turn: int | None = None

    @property
    def box(self) -> Box | None:
        """Where the person is looked for next; None when that is not known."""
        return self._box

    def is_near(self, box: Box) -> bool:
        """Whether a box of a frame ago is still where the person is looked for."""
        return self._box is not None and box_iou(self._box, box) >= _MIN_IOU_SAME_PERSON

    def update(self, frame: Image) -> list[Pose]:
        """The person's pose in this frame; empty if no person is found."""
        if self._box is not None:
            return self.update_from(frame, self._box, self._estimator.estimate(frame, self._box))
        if self._until_search > 0:
            self._until_search -= 1
            return []
        return self._keep(frame, *self._search(frame), was_searched=True)

    def update_from(self, frame: Image, box: Box, pose: Pose) -> list[Pose]:
        """As `update`, from the pose that was found in a box of the frame."""
        pose = self._try_wider_box(frame, box, pose)
        if is_person(pose):
            return self._keep(frame, pose, box)
        return self._keep(frame, *self._search(frame), was_searched=True)

    def _keep(
        self, frame: Image, pose: Pose | None, looked_in: Box, *, was_searched: bool = False
    ) -> list[Pose]:
        """Store the next box if the pose, found in the box `looked_in`, is a person."""
        somebody = pose is not None and is_person(pose)
        extent = find_person_box(pose, frame) if pose is not None and somebody else None
        if pose is None or not somebody or (extent is None and not has_few_joints(pose)):
            self._box = self._pose = None
            self._until_search = SEARCH_INTERVAL_FRAMES - 1
            return []
        if extent is None:
            self._box = looked_in  # one point has no extent: it is looked for where it was
        elif was_searched:
            self._begin_following(pose, looked_in, extent)
        else:
            self._follow(pose, looked_in, frame)
        self._pose = pose
        return [pose]

    def _begin_following(self, pose: Pose, looked_in: Box, extent: Box) -> None:
        """A detector's box is the person's; a window is whatever it is, and the person reaches
        beyond the joints."""
        self._widen_interval = _WIDEN_INTERVAL_FRAMES
        self._box = looked_in if self._detect else scale_box(extent, 1 + 2 * PERSON_MARGIN)
        self._margins = measure_margins(self._box, pose)

    def _follow(self, pose: Pose, looked_in: Box, frame: Image) -> None:
        box = looked_in if self._box is None else self._box
        moved = None if self._pose is None else move_with_joints(box, self._pose, pose)
        fitted = fit_to_joints(box if moved is None else moved, pose, self._margins)
        self._box = limit_to_frame(fitted, frame)

    def _try_wider_box(self, frame: Image, box: Box, pose: Pose) -> Pose:
        """The pose, or that of a wider box where it has more joints."""
        self._since_widened += 1
        if self._since_widened < self._widen_interval or (pose.score >= MIN_JOINT_SCORE).all():
            return pose
        wider = self._estimator.estimate(frame, scale_box(box, _WIDEN_FACTOR))
        better = wider if wider.score.sum() >= pose.score.sum() + _MIN_SCORE_GAIN else pose
        self._since_widened = 0
        self._widen_interval = min(2 * self._widen_interval, _MAX_WIDEN_INTERVAL_FRAMES)
        if _brings_joints_outside(better, pose, box):
            self._widen_interval = _WIDEN_INTERVAL_FRAMES  # there may be more
        return better

    def _search(self, frame: Image) -> tuple[Pose | None, Box]:
        """Of the nearest person that the detector finds, and the box it is in; without a pose where
        it finds nobody."""
        if self._detect is None:
            return self._search_windows(frame)
        with self._estimator.clock.stage("detect"):
            found = self._detect(frame)
        best: tuple[Pose | None, Box] = None, np.zeros(4)
        nearest = sorted((d.box for d in found), key=lambda box: -float(np.prod(box[2:])))
        for box in nearest[:_MAX_TRIED_BOXES]:
            pose = self._estimator.estimate(frame, box)
            best = pose, box
            if is_person(pose):
                break  # else the detector was wrong
        return best

    def _search_windows(self, frame: Image) -> tuple[Pose, Box]:
        """The whole frame first; where nobody is found so, windows over it: all of them in a new
        scene, then a share of them in each search."""
        boxes = generate_search_boxes(frame)
        whole = next(boxes)
        best = self._refine_pose(frame, self._estimator.estimate(frame, whole), whole)
        if is_person(best[0]):
            return best
        windows = list(boxes)
        if self._turn is None:
            self._turn = 0
        else:
            windows = windows[self._turn :: _NUM_WINDOW_SUBSETS]
            self._turn = (self._turn + 1) % _NUM_WINDOW_SUBSETS
        others = self._estimator.estimate_many(frame, windows)
        likeliest, window = max(
            zip(others, windows, strict=True), key=lambda found: found[0].presence_score
        )
        refined = self._refine_pose(frame, likeliest, window)
        return max(best, refined, key=lambda found: found[0].presence_score)

    def _refine_pose(self, frame: Image, pose: Pose, seen_in: Box) -> tuple[Pose, Box]:
        """A pose in boxes round its own joints, until the box stays where it is; and that box."""
        for _ in range(_MAX_REFINEMENTS):
            box = find_person_box(pose, frame)
            if box is None or box_iou(box, seen_in) >= _MIN_IOU_SAME_BOX:
                break
            again = self._estimator.estimate(frame, box)
            if again.presence_score <= pose.presence_score:
                break  # the same box would be looked at again
            pose, seen_in = again, box
        return pose, seen_in


def _brings_joints_outside(pose: Pose, before: Pose, box: Box) -> bool:
    """Whether joints are seen outside the box that were not seen before."""
    is_outside_K = ((pose.xy < box[:2]) | (pose.xy > box[:2] + box[2:])).any(axis=1)
    is_new_K = (pose.score >= MIN_JOINT_SCORE) & (before.score < MIN_JOINT_SCORE)
    return bool((is_outside_K & is_new_K).any())


def is_person(pose: Pose) -> bool:
    """Whether the pose is a person."""
    return pose.presence_score >= MIN_PERSON_CONFIDENCE and int(
        (pose.score >= MIN_JOINT_SCORE).sum()
    ) >= min(_MIN_JOINTS, len(pose.skeleton))


def has_few_joints(pose: Pose) -> bool:
    """Whether the model's skeleton is too small for its joints to say where a person ends."""
    return len(pose.skeleton) < _MIN_JOINTS


def find_person_box(pose: Pose, frame: Image) -> Box | None:
    """The extent of the joints that are seen, None when too few are or they lie in a point."""
    seen = pose.score >= MIN_JOINT_SCORE
    if seen.sum() < min(_MIN_JOINTS, len(pose.skeleton)):
        return None
    box = box_around(pose.xy[seen])
    smallest = 0.02 * min(frame.shape[:2])
    return box if max(box[2], box[3]) >= smallest else None


def generate_search_boxes(frame: Image) -> Iterator[Box]:
    """The whole frame, then half-overlapping square windows of falling size."""
    height, width = frame.shape[:2]
    yield np.array([0.0, 0.0, width, height])
    for share in _WINDOW_SCALES:
        # Of a panorama windows as low as itself would be thousands.
        side = max(share * min(height, width), max(height, width) / _MAX_FRAME_WINDOW_RATIO)
        for y in _compute_starts(height, side):
            for x in _compute_starts(width, side):
                yield np.array([x, y, side, side])


def _compute_starts(length: int, side: float) -> list[float]:
    if side >= length:
        return [(length - side) / 2]
    steps = max(1, int(np.ceil((length - side) / (side / 2))))
    return [float(v) for v in np.linspace(0, length - side, steps + 1)]
