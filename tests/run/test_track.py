import numpy as np

from okdhp_edge.latency import StageClock
from okdhp_edge.run.estimate import Estimator
from okdhp_edge.run.track import PersonTracker, search_boxes
from tests.helpers.fakes import _SPREAD, FakeBackend

FRAME = np.zeros((480, 640, 3), np.uint8)


def _tracker(backend):
    return PersonTracker(Estimator(backend, StageClock()))


def test_a_found_person_is_followed_with_one_inference_a_frame():
    backend = FakeBackend()
    tracker = _tracker(backend)
    assert tracker.find(FRAME)
    searched = backend.calls
    for _ in range(5):
        assert tracker.find(FRAME)
    assert backend.calls == searched + 5


def test_a_lost_person_is_searched_for_again():
    backend = FakeBackend()
    tracker = _tracker(backend)
    tracker.find(FRAME)
    backend.score = 0.05
    assert not tracker.find(FRAME)
    before = backend.calls
    backend.score = 0.9
    assert tracker.find(FRAME)
    assert backend.calls > before + 1


def test_an_empty_scene_is_searched_all_over_once_and_then_in_turns():
    backend = FakeBackend(score=0.05)
    tracker = _tracker(backend)
    windows = len(list(search_boxes(FRAME))) - 1
    counts = []
    for _ in range(9):
        before = backend.calls
        assert not tracker.find(FRAME)
        counts.append(backend.calls - before)
    around = counts[0] - windows  # the whole frame, and whatever was tried round its joints
    assert sum(counts[1:5]) == windows + 4 * around
    assert counts[1:5] == counts[5:9]
    tracker.forget()
    before = backend.calls
    tracker.find(FRAME)
    assert backend.calls - before == counts[0]


def test_nobody_is_nobody():
    assert _tracker(FakeBackend(score=0.1)).find(FRAME) == []


def test_joints_in_one_point_are_no_box():
    tracker = _tracker(FakeBackend(xy=np.full((14, 2), 8.0) + np.eye(14, 2) * 0.01))
    assert not tracker.find(FRAME) or tracker._box is None


def test_the_search_starts_with_the_whole_frame_and_covers_it():
    boxes = list(search_boxes(FRAME))
    np.testing.assert_allclose(boxes[0], [0, 0, 640, 480])
    covered = np.zeros(FRAME.shape[:2], int)
    for x, y, w, h in boxes[1:]:
        assert x >= 0
        assert y >= 0
        assert x + w <= 640.001
        assert y + h <= 480.001
        covered[int(y) : int(y + h), int(x) : int(x + w)] += 1
    assert covered[:-1, :-1].min() >= 2


def test_joints_imagined_along_an_edge_are_nobody():
    """Sure, but collapsed to a line: real people never are that thin."""
    line = np.linspace([1.1, 7.5], [13.9, 7.6], 14)
    assert _tracker(FakeBackend(score=0.6, xy=line)).find(FRAME) == []


def _calls(backend, tracker, frames):
    counts = []
    for _ in range(frames):
        before = backend.calls
        assert tracker.find(FRAME)
        counts.append(backend.calls - before)
    return counts


def test_somebody_unsure_costs_one_inference_and_is_challenged_by_a_wider_box_now_and_then():
    backend = FakeBackend(score=0.9)
    tracker = _tracker(backend)
    tracker.find(FRAME)
    backend.score = 0.62
    counts = _calls(backend, tracker, 500)
    assert sorted(set(counts)) == [1, 2]
    asked = np.flatnonzero(np.array(counts) == 2)
    waits = np.diff(asked)
    # Ever more seldom while nothing else is found, but never given up.
    assert (np.diff(waits) >= 0).all()
    assert waits[0] <= 30
    assert waits[-1] == 120


def test_who_was_lost_and_found_is_challenged_soon():
    backend = FakeBackend(score=0.9)
    tracker = _tracker(backend)
    tracker.find(FRAME)
    backend.score = 0.62
    _calls(backend, tracker, 300)
    backend.score = 0.2
    assert not tracker.find(FRAME)
    backend.score = 0.62
    assert tracker.find(FRAME)
    assert 2 in _calls(backend, tracker, 40)[1:]


def test_a_doubtful_pose_is_challenged_from_all_sides():
    backend = FakeBackend(score=0.9)
    tracker = _tracker(backend)
    tracker.find(FRAME)
    backend.score = 0.5
    assert max(_calls(backend, tracker, 20)) == 7


def test_the_box_of_an_unsure_pose_moves_but_does_not_shrink():
    inner = (_SPREAD - 7.5) * 0.6 + 7.5
    sizes = {}
    for score in (0.9, 0.62):
        backend = FakeBackend(score=0.9)
        tracker = _tracker(backend)
        tracker.find(FRAME)
        start = tracker._box[2]
        backend.xy, backend.score = inner, score
        for _ in range(3):
            tracker.find(FRAME)
        sizes[score] = tracker._box[2] / start
    assert sizes[0.9] < 0.7
    assert sizes[0.62] > 0.95


def test_a_jump_is_believed_less_than_staying():
    from okdhp_edge.pose.result import Pose
    from okdhp_edge.pose.skeleton import LSP14
    from okdhp_edge.run.track import _belief

    score = np.full(14, 0.8, np.float32)
    xy = np.random.default_rng(0).uniform(0, 100, (14, 2)).astype(np.float32)
    last = Pose(LSP14, xy, score)
    stays, jumps = Pose(LSP14, xy + 2, score), Pose(LSP14, xy[::-1] + 0, score)
    assert _belief(jumps, last) < _belief(stays, last) < _belief(last, None) + 1e-6
