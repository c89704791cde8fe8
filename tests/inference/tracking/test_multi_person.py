import threading
from typing import ClassVar

import numpy as np
import pytest

from okdhp_edge.inference.person_detector import Detection
from okdhp_edge.inference.pose_estimator import PoseEstimator
from okdhp_edge.inference.tracking.detection_scheduler import DetectionScheduler
from okdhp_edge.inference.tracking.multi_person import MultiPersonTracker
from okdhp_edge.pose.crop import box_iou
from okdhp_edge.pose.result import Pose
from okdhp_edge.pose.skeleton import LSP14
from okdhp_edge.system.latency import StageClock
from tests.helpers.fakes import FakeBackend

FRAME = np.zeros((480, 640, 3), np.uint8)


class _People:
    """A detector that knows where everybody is."""

    def __init__(self, *boxes):
        self.boxes = [np.array(b, float) for b in boxes]
        self.calls = 0

    def __call__(self, frame):
        self.calls += 1
        return [Detection(box, 0.9) for box in self.boxes]


def _tracker(people, backend=None, every=10, **watch):
    watching = DetectionScheduler(people, **{"background": False, **watch})
    return MultiPersonTracker(
        PoseEstimator(backend or FakeBackend(), StageClock()), watching, every
    )


A, B, C = (50, 100, 100, 200), (300, 120, 90, 180), (480, 60, 80, 160)


def test_ids_stay_and_the_detector_rests_in_between():
    people = _People(A, B, C)
    tracker = _tracker(people)
    seen = [[p.id for p in tracker.update(FRAME)] for _ in range(30)]
    assert seen == [[1, 2, 3]] * 30
    assert people.calls == 3


def test_all_persons_go_through_the_network_together():
    class Counting(FakeBackend):
        batches: ClassVar[list[int]] = []

        def infer_all(self, images):
            self.batches.append(len(images))
            return super().infer_all(images)

    backend = Counting()
    tracker = _tracker(_People(A, B, C), backend)
    for _ in range(3):
        tracker.update(FRAME)
    assert backend.batches == [3, 3, 3]


def test_people_who_move_between_detections_keep_their_ids_and_swap_nothing():
    people = _People(A, B)
    tracker = _tracker(people, every=4)
    for _ in range(20):
        people.boxes[0] = people.boxes[0] + [4, 0, 0, 0]
        found = {p.id: p.xy.mean(axis=0)[0] for p in tracker.update(FRAME)}
        assert set(found) == {1, 2}
    assert found[1] < found[2]


def test_a_low_score_goes_on_with_somebody_but_begins_nobody():
    scores = []

    def detect(frame):
        return [Detection(np.array(b, float), s) for b, s in zip((A, B), scores, strict=False)]

    tracker = _tracker(detect, every=1)
    scores[:] = [0.9, 0.3]
    assert len(tracker.update(FRAME)) == 2  # the first frame of a scene may be all there is
    tracker.reset()
    scores[:] = [0.9]
    assert len(tracker.update(FRAME)) == 1
    scores[:] = [0.9, 0.3]
    assert len(tracker.update(FRAME)) == 1
    scores[:] = [0.9, 0.5]
    ids = [pose.id for pose in tracker.update(FRAME)]
    scores[:] = [0.3, 0.3]
    for _ in range(20):
        assert [pose.id for pose in tracker.update(FRAME)] == ids
    assert len(ids) == 2


class _Crossing:
    """Two people pass one another; while one is behind, only the other's joints are found."""

    def __init__(self):
        self.clock, self.frame = StageClock(), 0

    @property
    def boxes(self):
        offset = 10 * self.frame
        return np.array([30 + offset, 100, 80, 200.0]), np.array([450 - offset, 105, 80, 200.0])

    @property
    def is_hidden(self):
        return box_iou(*self.boxes) > 0.3

    def detect(self, frame):
        return [Detection(b, 0.9) for b in self.boxes[: 1 if self.is_hidden else 2]]

    def estimate_many(self, frame, boxes):
        visible = self.boxes[: 1 if self.is_hidden else 2]
        return [self._make_pose(max(visible, key=lambda v: box_iou(v, b))) for b in boxes]

    @staticmethod
    def _make_pose(box):
        shares = np.random.default_rng(0).uniform(0, 1, (14, 2))
        shares[:2] = [[0, 0], [1, 1]]
        xy = (box[:2] + shares * box[2:]).astype(np.float32)
        return Pose(LSP14, xy, np.full(14, 0.9, np.float32))


@pytest.mark.parametrize("every", [3, 15])
def test_people_who_pass_behind_one_another_keep_their_ids(every):
    scene = _Crossing()
    scheduler = DetectionScheduler(scene.detect, background=False)
    tracker = MultiPersonTracker(scene, scheduler, every)
    hidden = 0
    for scene.frame in range(42):
        found = {pose.id: float(pose.box[0]) for pose in tracker.update(FRAME)}
        hidden += scene.is_hidden
        assert set(found) <= {1, 2}
    assert hidden >= 4
    assert found[1] > 400 > found[2]


@pytest.mark.parametrize("every", [1, 2, 5, 15])
def test_the_velocity_is_the_persons_however_often_the_detector_runs(every):
    scene = _Crossing()
    scheduler = DetectionScheduler(scene.detect, background=False)
    tracker = MultiPersonTracker(scene, scheduler, every)
    for scene.frame in range(14):
        tracker.update(FRAME)
    assert not scene.is_hidden
    assert sorted(track.velocity[0] for track in tracker._tracks) == pytest.approx([-10, 10], abs=2)


def test_who_is_hidden_goes_on_as_before():
    """The joints of the person in front say nothing of the one behind."""
    scene = _Crossing()
    scheduler = DetectionScheduler(scene.detect, background=False)
    tracker = MultiPersonTracker(scene, scheduler, 15)
    velocities = []
    for scene.frame in range(42):
        tracker.update(FRAME)
        if scene.is_hidden:
            velocities += [t.velocity[0] for t in tracker._tracks if t.lost]
    assert velocities
    assert np.abs(velocities).max() < 14


def test_a_box_in_which_somebody_else_is_seen_is_given_up():
    """The detector goes on giving a box, but the joints in it are the neighbor's."""
    scene = _Crossing()
    ghost = np.array([150, 100, 80, 200.0])
    scene.detect = lambda _: [Detection(box, 0.9) for box in (scene.boxes[0], ghost)]
    tracker = MultiPersonTracker(scene, DetectionScheduler(scene.detect, background=False), 1)
    scene.frame = 0
    tracker.update(FRAME)
    counts = []
    for _ in range(60):
        tracker.update(FRAME)
        counts.append(len(tracker._tracks))
    assert min(counts) == 1


def test_the_box_is_the_detectors_moved_with_the_joints():
    people = _People(A)
    tracker = _tracker(people, every=10)
    for _ in range(6):
        people.boxes[0] = people.boxes[0] + [3, 0, 0, 0]
        (pose,) = tracker.update(FRAME)
    np.testing.assert_allclose(pose.box[2:], A[2:], rtol=0.1)


def test_who_comes_gets_a_new_id_and_who_goes_is_let_go():
    people = _People(A)
    tracker = _tracker(people, every=5)
    tracker.update(FRAME)
    people.boxes.append(np.array(B, float))
    for _ in range(6):
        found = tracker.update(FRAME)
    assert [p.id for p in found] == [1, 2]
    people.boxes.pop(0)
    for _ in range(40):
        found = tracker.update(FRAME)
    assert [p.id for p in found] == [2]


def test_somebody_lost_for_a_moment_comes_back_with_the_same_id():
    backend, people = FakeBackend(), _People(A)
    tracker = _tracker(people, backend)
    assert [p.id for p in tracker.update(FRAME)] == [1]
    backend.score = 0.05
    for _ in range(4):
        assert tracker.update(FRAME) == []
    backend.score = 0.9
    for _ in range(3):
        found = tracker.update(FRAME)
    assert [p.id for p in found] == [1]


def test_a_detection_without_a_pose_gets_no_id():
    backend = FakeBackend(score=0.05)
    tracker = _tracker(_People(A), backend)
    for _ in range(30):
        assert tracker.update(FRAME) == []
    backend.score = 0.9
    for _ in range(10):
        found = tracker.update(FRAME)
    assert [p.id for p in found] == [1]


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
def test_two_tracks_on_one_person_become_the_elder(order):
    tracker = _tracker(_People(A, B))
    assert {p.id for p in tracker.update(FRAME)} == {1, 2}
    # The second follows the first one's joints, as after a crossing.
    first, second = sorted(tracker._tracks, key=lambda track: track.id)
    second.box = first.box + 3.0
    tracker._tracks = [{1: first, 2: second}[number] for number in order]
    assert [p.id for p in tracker.update(FRAME)] == [order[0]]
    assert [p.id for p in tracker.update(FRAME)] == [order[0]]


def test_a_box_that_shrank_onto_a_part_is_put_right_by_the_detector():
    backend, people = FakeBackend(), _People(A)
    tracker = _tracker(people, backend, every=5)
    tracker.update(FRAME)
    tracker._tracks[0].box = np.array([80.0, 160, 30, 40])
    for _ in range(6):
        found = tracker.update(FRAME)
    assert [p.id for p in found] == [1]
    assert found[0].size > 120


def test_nobody_anywhere_is_nobody_and_is_looked_for_now_and_then():
    people = _People()
    tracker = _tracker(people, every=20)
    for _ in range(20):
        assert tracker.update(FRAME) == []
    assert people.calls == 4


def test_forgetting_starts_afresh():
    tracker = _tracker(_People(A))
    tracker.update(FRAME)
    tracker.reset()
    assert [p.id for p in tracker.update(FRAME)] == [2]


def test_beside_the_loop_no_frame_waits_for_the_detector():
    free = threading.Event()

    class Slow(_People):
        def __call__(self, frame):
            free.wait(5)
            return super().__call__(frame)

    people = Slow(A)
    scheduler = DetectionScheduler(people, background=True)
    tracker = MultiPersonTracker(PoseEstimator(FakeBackend(), StageClock()), scheduler, 3)
    for _ in range(10):
        assert tracker.update(FRAME) == []
    free.set()
    while not tracker.update(FRAME):
        pass
    assert people.calls >= 1
    scheduler.close()


def test_the_detector_sees_the_frame_as_it_was():
    """Whoever gets the poses draws into the frame."""
    drawn, seen = threading.Event(), []

    def detect(frame):
        drawn.wait(5)
        seen.append(frame.max())
        return []

    scheduler, frame = DetectionScheduler(detect, background=True), FRAME.copy()
    scheduler.poll_detections(frame, wanted=True)
    frame[:] = 255
    drawn.set()
    scheduler.close()
    assert seen == [0]


def test_a_detector_that_breaks_is_heard_beside_the_loop_too():
    def broken(frame):
        raise RuntimeError("device lost")

    for background in (False, True):
        scheduler = DetectionScheduler(broken, background=background)
        with pytest.raises(RuntimeError, match="device lost"):
            for _ in range(1000):
                scheduler.poll_detections(FRAME, wanted=True)
        scheduler.close()


def test_of_a_crowd_the_nearest_are_followed_and_the_others_counted():
    people = _People(A, B, C)
    watching = DetectionScheduler(people, background=False)
    estimator = PoseEstimator(FakeBackend(), StageClock())
    tracker = MultiPersonTracker(estimator, watching, max_people=2)
    poses = tracker.update(FRAME)
    assert len(poses) == 2  # A and B have the largest boxes
    assert tracker.most_left_out == 1


def test_poses_carry_their_box_and_the_detectors_score():
    (pose,) = _tracker(_People(A)).update(FRAME)
    assert pose.box_score == 0.9
    assert pose.box.shape == (4,)
    record = pose.to_dict()
    assert record["box_score"] == 0.9
    assert len(record["box"]) == 4


def test_no_more_people_are_followed_than_wanted():
    rng = np.random.default_rng(0)
    people = _People(A, B, C)
    tracker = MultiPersonTracker(
        PoseEstimator(FakeBackend(), StageClock()),
        DetectionScheduler(people, background=False),
        1,
        max_people=2,
    )
    for _ in range(20):  # whose box is larger changes with every frame
        people.boxes = [np.array(box) * (1, 1, *rng.uniform(0.5, 1.5, 2)) for box in (A, B, C)]
        assert len(tracker.update(FRAME)) <= 2


def test_missed_detections_count_only_in_a_row():
    """Every second detection misses somebody whose joints are seen all the time."""

    class Blinking(_People):
        def __call__(self, frame):
            found = super().__call__(frame)
            return found if self.calls % 2 else []

    people = Blinking(A)
    tracker = _tracker(people, every=1)
    while people.calls < 20:
        assert [pose.id for pose in tracker.update(FRAME)] == [1]


class _Walking:
    """Somebody whose joints lie two pixels within the box, wherever they are looked for."""

    def __init__(self):
        self.clock, self.box = StageClock(), np.array([50.0, 100, 80, 200])

    def detect(self, frame):
        return [Detection(self.box, 0.9)]

    def estimate_many(self, frame, boxes):
        return [_Crossing._make_pose(self.box + np.array([2, 2, -4, -4])) for _ in boxes]


def test_between_two_detections_the_box_goes_with_the_joints():
    scene = _Walking()
    tracker = MultiPersonTracker(scene, DetectionScheduler(scene.detect, background=False), 15)
    for _ in range(10):
        (pose,) = tracker.update(FRAME)
        np.testing.assert_allclose(pose.box, scene.box, atol=1e-3)
        scene.box = scene.box + np.array([4, 0, 0, 0])


def test_what_was_asked_of_another_scene_is_not_answered_in_this_one():
    scheduler = DetectionScheduler(_People(A), background=True)
    scheduler.poll_detections(FRAME, wanted=True)
    scheduler._asked.result(5)
    scheduler.reset()
    assert scheduler.poll_detections(FRAME, wanted=False) is None
    scheduler.close()


@pytest.mark.parametrize("every", [1, 2, 15])
def test_the_detector_is_asked_every_so_many_frames(every):
    people = _People(A)
    tracker, asked = _tracker(people, every=every), []
    for frame in range(31):
        before = people.calls
        tracker.update(FRAME)
        asked += [frame] * (people.calls - before)
    assert asked == list(range(0, 31, every))


@pytest.mark.parametrize(("score", "moved"), [(0.3, False), (0.9, True)])
def test_a_doubtful_box_elsewhere_moves_nobody_whose_joints_are_seen(score, moved):
    """A part of the person's box: inside it, and not the person."""
    people = _People(A)
    tracker = _tracker(people, every=5)
    for _ in range(5):
        (before,) = tracker.update(FRAME)
    part = np.array([60.0, 180, 40, 60])
    people.__class__ = type("Doubtful", (_People,), {
        "__call__": lambda _, frame: [Detection(part, score)]
    })  # fmt: skip
    (after,) = tracker.update(FRAME)
    assert (box_iou(after.box, before.box) < 0.5) == moved


def test_a_large_doubtful_box_takes_nobodys_place():
    """A coat rack, larger and less sure than the person beside it."""
    coats = np.array([300.0, 20.0, 250.0, 400.0])
    people = _People(A)

    def detect(frame):
        return [*people(frame), Detection(coats, 0.3)]

    tracker = MultiPersonTracker(
        PoseEstimator(FakeBackend(), StageClock()),
        DetectionScheduler(detect, background=False), 1, max_people=1,
    )  # fmt: skip
    tracker.update(FRAME)
    tracker.reset()
    tracker._is_first = False  # the first frame of a scene takes all boxes
    for _ in range(8):
        (pose,) = tracker.update(FRAME)
        assert box_iou(pose.box, np.array(A, float)) > 0.5
    assert tracker.most_left_out <= 1
