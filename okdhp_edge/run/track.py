"""Follow one person: the box comes from the last joints, or from a search where there are none."""

import math
from collections.abc import Iterator
from typing import Protocol

import numpy as np

from okdhp_edge.pose.crop import Box, box_around, overlap
from okdhp_edge.pose.preprocess import Image
from okdhp_edge.pose.result import Pose
from okdhp_edge.run.estimate import Estimator

JOINT_SEEN = 0.25
"""A joint's score from which it is drawn and steers the box."""
_LOST_BELOW = 0.35
_MIN_JOINTS = 4
_REFINEMENTS = 2
# Windows tried in a search, as shares of the frame's shorter side.
_WINDOW_SHARES = (0.9, 0.6, 0.4)
# Somebody lost is looked for in so many shares of the windows, one a frame: a camera that shows
# nobody should not keep a core busy.
_TURNS = 4
UNSURE_BELOW = 0.65
"""Below this likeness the box may have cut something off: a wider one is tried beside it."""
_WIDER = 1.35
# A wider box shows the person smaller, which costs score by itself: it wins with a little less.
_WIDER_HANDICAP = 0.95
# Below this the tracker may sit on a part of the person: boxes around it are tried.
_DOUBT_BELOW = 0.55
_SHIFT = 0.35
# Frames from one challenge to the next: somebody unsure stays unsure for a while, and trying other
# boxes in every frame would make a frame cost three. Each challenge that finds nothing else
# doubles them.
_CHALLENGE_EVERY, _CHALLENGE_AT_LEAST_EVERY = 15, 120
# Poses whose joints are no farther apart, as a share of their size, say the same.
_SAME_PLACE = 0.1
# Boxes a frame apart that overlap less have parted ways.
_STILL = 0.7
# Ratio of the joints' two principal extents. Of 5,644 labelled LSPET persons one in a thousand is
# thinner (0.124); joints that a network imagines along an edge are.
_THINNEST = 0.12


class Tracker(Protocol):
    """Finds persons from frame to frame."""

    def find(self, frame: Image) -> list[Pose]:
        """Everybody found in this frame."""
        ...

    def forget(self) -> None:
        """The next frame shows another scene."""
        ...


class PersonTracker:
    """One person across frames.

    A person counts as found while the mean score of the joints is above a threshold. When lost,
    the whole frame is tried first, then windows over it; the best is refined by its own joints.
    A box that shrank onto a part of the person would keep itself alive: while the pose is unsure
    the box does not shrink, and now and then it is challenged by a wider one, a doubtful pose by
    boxes shifted around it as well.
    """

    def __init__(self, estimator: Estimator) -> None:
        self._estimator = estimator
        self._box: Box | None = None
        self._last: Pose | None = None
        self._unchallenged = 0
        self._patience = _CHALLENGE_EVERY
        self._turn: int | None = None

    def forget(self) -> None:
        """The next frame shows another scene."""
        self._box = self._last = self._turn = None

    @property
    def box(self) -> Box | None:
        """Where the person is looked for next; None when that is not known."""
        return self._box

    def still(self, box: Box) -> bool:
        """Whether a box of a frame ago is still where the person is looked for."""
        return self._box is not None and overlap(self._box, box) >= _STILL

    def find(self, frame: Image) -> list[Pose]:
        """The person's pose in this frame, none when nobody is found."""
        if self._box is None:
            return self._keep(frame, self._search(frame))
        return self.go_on(frame, self._box, self._estimator.pose_in(frame, self._box))

    def go_on(self, frame: Image, box: Box, pose: Pose) -> list[Pose]:
        """As `find`, from the pose that was found in a box of the frame."""
        pose = self._challenged(frame, box, pose, self._last)
        if not is_person(pose):
            return self._keep(frame, self._search(frame))
        return self._keep(frame, pose, box)

    def _keep(self, frame: Image, pose: Pose, followed: Box | None = None) -> list[Pose]:
        """Remember the pose and where to look next, if it is somebody."""
        box = person_box(pose, frame) if is_person(pose) else None
        if box is not None and followed is not None:
            box = settled(box, followed, pose)
        self._box, self._last = box, pose if box is not None else None
        return [pose] if box is not None else []

    def _challenged(self, frame: Image, box: Box, pose: Pose, last: Pose | None) -> Pose:
        """The best of the pose and of those in other boxes, where it is unsure."""
        belief = _belief(pose, last)
        self._unchallenged += 1
        due = last is None or not is_person(pose) or self._unchallenged >= self._patience
        if belief >= UNSURE_BELOW or not due:
            return pose
        self._unchallenged = 0
        boxes = [_grown(box, _WIDER)] + (list(_around(box)) if belief < _DOUBT_BELOW else [])
        wider, *others = self._estimator.poses_in(frame, boxes)
        best = wider if _belief(wider, last) >= _WIDER_HANDICAP * belief else pose
        best = max([best, *others], key=lambda p: _belief(p, last))
        stood = is_person(pose) and _moved(best, pose) < _SAME_PLACE
        self._patience = (
            min(2 * self._patience, _CHALLENGE_AT_LEAST_EVERY) if stood else _CHALLENGE_EVERY
        )
        return best

    def _search(self, frame: Image) -> Pose:
        """The whole frame first; windows over it only where nobody sure is found so: all of them
        in a new scene, then a share of them in each frame."""
        whole, *windows = search_boxes(frame)
        best = self._refined(frame, self._estimator.pose_in(frame, whole))
        if likeness(best) >= UNSURE_BELOW:
            return best
        if self._turn is None:
            self._turn = 0
        else:
            windows = windows[self._turn :: _TURNS]
            self._turn = (self._turn + 1) % _TURNS
        others = self._estimator.poses_in(frame, windows)
        return max(best, self._refined(frame, max(others, key=likeness)), key=likeness)

    def _refined(self, frame: Image, pose: Pose) -> Pose:
        """A pose in boxes round its own joints."""
        for _ in range(_REFINEMENTS):
            box = person_box(pose, frame)
            if box is not None:
                again = self._estimator.pose_in(frame, box)
                pose = max(pose, self._challenged(frame, box, again, None), key=likeness)
        return pose


def _belief(pose: Pose, last: Pose | None) -> float:
    """Likeness, less for joints that jumped far: up to half where they moved by half a person."""
    if last is None:
        return likeness(pose)
    return likeness(pose) * (1 - min(_moved(pose, last), 0.5))


def _moved(pose: Pose, other: Pose) -> float:
    """The median joint's distance, as a share of the other pose's size."""
    return float(np.median(np.linalg.norm(pose.xy - other.xy, axis=1))) / max(other.size, 1.0)


def _grown(box: Box, factor: float) -> Box:
    size = box[2:] * factor
    return np.concatenate([box[:2] - (size - box[2:]) / 2, size])


def _around(box: Box) -> Iterator[Box]:
    """Wider boxes shifted to each side, and a much wider one."""
    wide = _grown(box, _WIDER)
    side = max(box[2:]) * _SHIFT
    for dx, dy in ((-1, 0), (1, 0), (0, -1), (0, 1)):
        yield wide + np.array([dx * side, dy * side, 0, 0])
    yield _grown(box, _WIDER**2)


def likeness(pose: Pose) -> float:
    """How much a pose looks like somebody: its mean score, halved where it has collapsed."""
    centred = pose.xy - pose.xy.mean(axis=0)
    (xx, xy), (_, yy) = (centred.T @ centred).tolist()
    # Eigenvalues of the 2x2 scatter matrix: squares of the principal extents.
    spread = math.hypot((xx - yy) / 2, xy)
    longer, shorter = (xx + yy) / 2 + spread, (xx + yy) / 2 - spread
    return pose.mean_score * (0.5 if shorter < _THINNEST**2 * longer else 1.0)


def is_person(pose: Pose) -> bool:
    """Whether the joints are sure enough to be somebody."""
    return likeness(pose) >= _LOST_BELOW and int((pose.score >= JOINT_SEEN).sum()) >= _MIN_JOINTS


def person_box(pose: Pose, frame: Image) -> Box | None:
    """The extent of the joints that are seen, None when too few are or they lie in a point."""
    seen = pose.score >= JOINT_SEEN
    if seen.sum() < _MIN_JOINTS:
        return None
    box = box_around(pose.xy[seen])
    smallest = 0.02 * min(frame.shape[:2])
    return box if max(box[2], box[3]) >= smallest else None


def settled(box: Box, last: Box, pose: Pose) -> Box:
    """The next box: one of joints that are unsure may have lost some, so it moves, but does not
    shrink."""
    if likeness(pose) >= UNSURE_BELOW:
        return box
    size = np.maximum(box[2:], last[2:])
    return np.concatenate([box[:2] - (size - box[2:]) / 2, size])


def search_boxes(frame: Image) -> Iterator[Box]:
    """The whole frame, then half-overlapping square windows of falling size."""
    height, width = frame.shape[:2]
    yield np.array([0.0, 0.0, width, height])
    for share in _WINDOW_SHARES:
        side = share * min(height, width)
        for y in _starts(height, side):
            for x in _starts(width, side):
                yield np.array([x, y, side, side])


def _starts(length: int, side: float) -> list[float]:
    steps = max(1, int(np.ceil((length - side) / (side / 2))))
    return [float(v) for v in np.linspace(0, length - side, steps + 1)]
