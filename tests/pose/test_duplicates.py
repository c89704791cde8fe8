"""One person in two boxes is one."""

import numpy as np

from okdhp_edge.pose.duplicates import drop_duplicates
from okdhp_edge.pose.result import Pose
from okdhp_edge.pose.skeleton import COCO17


def make_pose(shift: float, score: float = 0.9) -> Pose:
    xy = np.random.default_rng(0).uniform(0, 100, (17, 2)) + shift
    return Pose(COCO17, xy.astype(np.float32), np.full(17, score, np.float32))


def test_of_poses_of_one_person_the_surest_is_kept():
    weak, sure, neighbor = make_pose(3, 0.8), make_pose(0), make_pose(30)
    assert drop_duplicates([weak, sure, neighbor]) == [sure, neighbor]
    assert drop_duplicates([]) == []


def test_a_head_in_a_box_of_its_own_is_the_persons():
    person = make_pose(0)
    xy, score = person.xy + 400, np.full(17, 0.05, np.float32)
    xy[:6], score[:6] = person.xy[:6] + 1, 0.9
    head = Pose(COCO17, xy, score)
    assert drop_duplicates([head, person]) == [person]


def test_a_head_beside_another_is_its_own():
    person = make_pose(0)
    xy, score = person.xy + 400, np.full(17, 0.05, np.float32)
    xy[:6], score[:6] = person.xy[:6] + 30, 0.9
    assert len(drop_duplicates([person, Pose(COCO17, xy, score)])) == 2
