import numpy as np
import pytest

from okdhp_edge.inference.person_detector import Detection
from okdhp_edge.inference.pose_estimator import PoseEstimator
from okdhp_edge.inference.tracking.single_person import (
    SEARCH_INTERVAL_FRAMES,
    SinglePersonTracker,
    find_person_box,
    generate_search_boxes,
    is_person,
)
from okdhp_edge.pose.crop import box_iou
from okdhp_edge.pose.result import Pose
from okdhp_edge.pose.skeleton import COCO17, LSP14, Skeleton
from okdhp_edge.system.latency import StageClock
from tests.helpers.fakes import _SPREAD_JOINTS_PX, FakeBackend

FRAME = np.zeros((480, 640, 3), np.uint8)


def _tracker(backend):
    return SinglePersonTracker(PoseEstimator(backend, StageClock()))


def _calls(backend, tracker, frames):
    counts = []
    for _ in range(frames):
        before = backend.calls
        tracker.update(FRAME)
        counts.append(backend.calls - before)
    return counts


def test_a_found_person_is_followed_with_one_inference_a_frame():
    backend = FakeBackend()
    tracker = _tracker(backend)
    assert tracker.update(FRAME)
    assert _calls(backend, tracker, 100) == [1] * 100


def test_the_largest_box_of_a_detector_that_shows_a_person_is_followed():
    """A large box of low score may be a curtain."""
    curtain, person = np.array([0.0, 0, 600, 470]), np.array([300.0, 100, 100, 200])
    backend = FakeBackend()

    class Estimator(PoseEstimator):
        def estimate(self, frame, box):
            backend.score = 0.05 if box_iou(box, curtain) > 0.9 else 0.9
            return super().estimate(frame, box)

    found = [Detection(curtain, 0.3), Detection(person, 0.9)]
    tracker = SinglePersonTracker(Estimator(backend, StageClock()), lambda _: found)
    (pose,) = tracker.update(FRAME)
    assert 280 < pose.xy[:, 0].mean() < 420


def test_a_model_of_one_joint_is_looked_for_where_it_was():
    point = Skeleton("point", ("tip",))
    pose = Pose(point, np.array([[100.0, 100.0]], np.float32), np.array([0.9], np.float32))

    class Estimator(PoseEstimator):
        calls = 0

        def estimate(self, frame, box):
            self.calls += 1
            return pose

        def estimate_many(self, frame, boxes):
            self.calls += len(boxes)
            return [pose] * len(boxes)

    estimator = Estimator(FakeBackend(), StageClock())
    tracker = SinglePersonTracker(estimator)
    assert tracker.update(FRAME)
    before = estimator.calls
    assert tracker.update(FRAME)
    assert estimator.calls == before + 1


def test_a_lost_person_is_searched_for_at_once_and_then_now_and_then():
    backend = FakeBackend()
    tracker = _tracker(backend)
    tracker.update(FRAME)
    backend.score = 0.05
    counts = _calls(backend, tracker, 2 * SEARCH_INTERVAL_FRAMES + 1)
    assert [n > 0 for n in counts] == ([True] + [False] * (SEARCH_INTERVAL_FRAMES - 1)) * 2 + [True]
    backend.score = 0.9
    found = [bool(tracker.update(FRAME)) for _ in range(SEARCH_INTERVAL_FRAMES)]
    assert found[-1]


def test_an_empty_room_costs_no_search_every_frame():
    backend = FakeBackend(score=0.05)
    counts = _calls(backend, _tracker(backend), 100)
    assert sum(n > 0 for n in counts) == 100 / SEARCH_INTERVAL_FRAMES
    assert sum(counts[SEARCH_INTERVAL_FRAMES:]) < 100


def test_an_empty_scene_is_searched_all_over_once_and_then_in_turns():
    backend = FakeBackend(score=0.05)
    tracker = _tracker(backend)
    windows = len(list(generate_search_boxes(FRAME))) - 1
    searches = [n for n in _calls(backend, tracker, 9 * SEARCH_INTERVAL_FRAMES) if n]
    around = searches[0] - windows  # the whole frame, and whatever was tried round its joints
    assert sum(searches[1:5]) == windows + 4 * around
    assert searches[1:5] == searches[5:9]
    tracker.reset()
    assert _calls(backend, tracker, 1) == [searches[0]]


def test_nobody_is_nobody():
    assert _tracker(FakeBackend(score=0.1)).update(FRAME) == []


def test_joints_in_one_point_are_no_box():
    tracker = _tracker(FakeBackend(xy=np.full((14, 2), 8.0) + np.eye(14, 2) * 0.01))
    assert not tracker.update(FRAME) or tracker._box is None


def test_the_search_starts_with_the_whole_frame_and_covers_it():
    boxes = list(generate_search_boxes(FRAME))
    np.testing.assert_allclose(boxes[0], [0, 0, 640, 480])
    covered = np.zeros(FRAME.shape[:2], int)
    for x, y, w, h in boxes[1:]:
        assert x >= 0
        assert y >= 0
        assert x + w <= 640.001
        assert y + h <= 480.001
        covered[int(y) : int(y + h), int(x) : int(x + w)] += 1
    assert covered[:-1, :-1].min() >= 2


class _HalfSeen(FakeBackend):
    """The lower half of the joints is outside the crop, until the crop is wide enough."""

    def __init__(self, widest):
        super().__init__()
        self.widest = widest
        self.wide = 0

    def _infer(self, images):
        heatmaps = super()._infer(images)
        self.wide += 1
        if not self.widest:
            heatmaps[:, self.xy[:, 1] > 7.5] = 0
        return heatmaps


def test_missing_joints_are_looked_for_in_a_wider_box_now_and_then():
    backend = _HalfSeen(widest=False)
    tracker = _tracker(backend)
    assert tracker.update(FRAME)
    counts = _calls(backend, tracker, 500)
    assert sorted(set(counts)) == [1, 2]
    asked = np.flatnonzero(np.array(counts) == 2)
    assert np.diff(asked).tolist() == [30, 60, 120, 120, 120]


def test_a_wider_box_is_taken_where_it_shows_more_joints():
    backend = _HalfSeen(widest=False)
    tracker = _tracker(backend)
    tracker.update(FRAME)
    narrow = tracker.box[3]
    while _calls(backend, tracker, 1) == [1]:
        pass
    backend.widest = True  # from now on every crop shows all joints
    for _ in range(16):
        (pose,) = tracker.update(FRAME)
    assert (pose.score > 0.5).all()
    assert tracker.box[3] > 1.5 * narrow


def test_one_bad_frame_does_not_cut_limbs_off():
    backend = FakeBackend()
    tracker = _tracker(backend)
    tracker.update(FRAME)
    before = tracker.box[3]
    upper = _HalfSeen(widest=False)
    backend._infer = upper._infer
    tracker.update(FRAME)
    assert 0.85 * before < tracker.box[3] < before


@pytest.mark.parametrize(
    ("seen", "score", "somebody"),
    [
        (range(17), 0.9, True),
        (range(11), 0.9, True),  # head, shoulders, arms: somebody at a desk
        (range(5), 0.9, True),  # a face
        (range(3), 0.9, False),
        (range(17), 0.2, False),
        ((), 0.0, False),
    ],
)
def test_half_a_person_is_somebody_and_an_empty_box_nobody(seen, score, somebody):
    scores = np.full(17, 0.02, np.float32)
    scores[list(seen)] = score
    xy = np.random.default_rng(0).uniform(0, 100, (17, 2)).astype(np.float32)
    assert is_person(Pose(COCO17, xy, scores)) is somebody


def test_the_confidence_is_that_of_the_joints_that_are_there():
    scores = np.array([0.9] * 8 + [0.1] * 9, np.float32)
    assert Pose(COCO17, np.zeros((17, 2), np.float32), scores).presence_score == pytest.approx(0.9)


def test_a_box_that_moved_far_is_another():
    backend = FakeBackend(xy=_SPREAD_JOINTS_PX)
    tracker = _tracker(backend)
    tracker.update(FRAME)
    assert tracker.is_near(tracker.box)
    assert not tracker.is_near(tracker.box + np.array([tracker.box[2], 0, 0, 0]))


def _detected(*boxes):
    return [Detection(np.array(box, float), 0.8) for box in boxes]


def test_with_a_detector_the_nearest_person_is_found_by_it_and_followed_by_the_joints():
    backend, asked = FakeBackend(), []

    def detect(frame):
        asked.append(frame.shape)
        return _detected((10, 10, 40, 80), (300, 100, 120, 240))

    tracker = SinglePersonTracker(PoseEstimator(backend, StageClock()), detect)
    (pose,) = tracker.update(FRAME)
    assert 300 <= pose.xy[:, 0].mean() <= 420
    assert _calls(backend, tracker, 30) == [1] * 30
    assert len(asked) == 1


def test_the_detectors_box_is_kept_where_joints_fill_a_part_of_it():
    """Whose legs are hidden still has the box of a person."""
    box = np.array([300.0, 100, 120, 240])
    upper = _pose_in(np.array([310.0, 110, 100, 90]), 0.9)

    class Estimator(PoseEstimator):
        def estimate(self, frame, box):
            return upper

    tracker = SinglePersonTracker(Estimator(FakeBackend(), StageClock()), lambda _: _detected(box))
    for _ in range(5):
        tracker.update(FRAME)
    assert box_iou(tracker.box, box) > 0.7


def test_a_room_that_the_detector_finds_empty_costs_no_inference():
    backend, asked = FakeBackend(), []
    tracker = SinglePersonTracker(
        PoseEstimator(backend, StageClock()), lambda _: asked.append(1) or []
    )
    assert _calls(backend, tracker, 3 * SEARCH_INTERVAL_FRAMES) == [0] * 30
    assert len(asked) == 3


def _pose_in(box, score):
    """Joints over the whole of a box, each with this score or its own."""
    shares = np.random.default_rng(0).uniform(0, 1, (14, 2))
    shares[:2] = [[0, 0], [1, 1]]
    xy = (np.array(box[:2]) + shares * box[2:]).astype(np.float32)
    return Pose(LSP14, xy, np.broadcast_to(np.float32(score), 14))


class _Estimator:
    """Somebody in `box`, found the surer the better a box fits; notes where was looked."""

    def __init__(self, box):
        self.clock, self.box, self.asked = StageClock(), np.array(box, float), []

    def estimate(self, frame, box):
        self.asked.append(box)
        return _pose_in(self.box, min(1.0, 3 * box_iou(self.box, box)))

    def estimate_many(self, frame, boxes):
        return [self.estimate(frame, box) for box in boxes]


def test_a_wider_box_has_the_middle_of_the_one_before():
    estimator, box = _Estimator((100, 100, 40, 80)), np.array([100.0, 100, 40, 80])
    tracker = SinglePersonTracker(estimator)
    half_seen = _pose_in(box, [0.9] * 13 + [0.1])
    for _ in range(15):
        tracker.update_from(FRAME, box, half_seen)
    np.testing.assert_allclose(estimator.asked, [[93, 86, 54, 108]])


def test_after_a_wider_box_that_showed_more_the_next_one_is_tried_soon():
    box = np.array([100.0, 100, 40, 80])
    estimator = _Estimator(box)
    tracker = SinglePersonTracker(estimator)
    half_seen = _pose_in(box, [0.9] * 13 + [0.1])
    tried = []
    for number in range(1, 131):
        # Joints lie outside the box from a frame on.
        estimator.box = box * [1, 1, 1, 1.2 if number > 100 else 1]
        before = len(estimator.asked)
        tracker.update_from(FRAME, box, half_seen)
        tried += [number] * (len(estimator.asked) - before)
    assert tried == [15, 45, 105, 120]


def test_somebody_small_is_found_in_the_window_that_fits_best_and_then_looked_at_closely():
    """A fifth of a window, a fortieth of the frame: the third look is at the person alone."""
    (pose,) = SinglePersonTracker(_Estimator((400, 240, 60, 120))).update(FRAME)
    assert pose.presence_score == 1


def test_joints_that_are_not_seen_do_not_stretch_the_box():
    xy = np.full((14, 2), 400, np.float32)
    xy[:5] = [[100, 50], [140, 60], [120, 150], [110, 70], [130, 90]]
    for score, expected in ((0.29, [100, 50, 40, 100]), (0.31, [100, 50, 300, 350])):
        scores = np.array([0.9] * 5 + [score] * 9, np.float32)
        np.testing.assert_allclose(find_person_box(Pose(LSP14, xy, scores), FRAME), expected)


@pytest.mark.parametrize(
    ("seen", "score", "somebody"),
    [(4, 0.9, True), (17, 0.41, True), (17, 0.39, False)],
)
def test_a_person_has_four_joints_and_a_confidence_of_two_fifths(seen, score, somebody):
    scores = np.full(17, 0.02, np.float32)
    scores[:seen] = score
    assert is_person(Pose(COCO17, np.zeros((17, 2), np.float32), scores)) is somebody
