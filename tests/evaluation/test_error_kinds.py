"""Each kind of error, made on purpose."""

from dataclasses import replace

import numpy as np
import pytest

from okdhp_edge.data.sample import PoseDataset, Sample
from okdhp_edge.evaluation.error_kinds import (
    MIN_CLOSE_SIMILARITY,
    MIN_GOOD_SIMILARITY,
    Kind,
    classify,
)
from okdhp_edge.evaluation.error_page import error_page, summary
from okdhp_edge.pose.metrics import oks
from okdhp_edge.pose.skeleton import COCO17

WRIST, LEFT, RIGHT = (COCO17.joints.index(n) for n in ("left_wrist", "left_knee", "right_knee"))


class _Grey:
    def read(self):
        return np.full((200, 300, 3), 120, np.uint8)


def _person(number, x):
    rng = np.random.default_rng(number)
    xy = rng.uniform((x, 20), (x + 100, 180), (17, 2)).astype(np.float32)
    labelled = np.ones(17, dtype=bool)
    labelled[0] = False
    box = np.array([x, 20.0, 100.0, 160.0])
    return Sample(f"a.jpg#{number}", _Grey(), box, xy, labelled, area=8000.0)


@pytest.fixture
def poses():
    return PoseDataset("coco:x", "val", COCO17, [_person(0, 10), _person(1, 180)], "oks")


def test_every_kind_is_found_where_it_was_made(poses):
    xy = np.stack([s.xy for s in poses.samples])
    sigma = COCO17.sigmas[WRIST]
    step = np.sqrt(-2 * 8000 * np.log((MIN_GOOD_SIMILARITY + MIN_CLOSE_SIMILARITY) / 2)) * 2 * sigma
    xy[0, WRIST, 0] += step  # near
    xy[0, LEFT] = poses.samples[0].xy[RIGHT]  # the other side
    xy[0, RIGHT] = poses.samples[1].xy[RIGHT]  # the other person
    xy[0, 5] = (-500, -500)
    found = classify(poses, xy)
    assert found.kind[0, WRIST] == Kind.JITTER
    assert found.kind[0, LEFT] == Kind.INVERSION
    assert found.kind[0, RIGHT] == Kind.SWAP
    assert found.kind[0, 5] == Kind.MISS
    assert found.kind[0, 0] == Kind.UNLABELLED
    assert (found.kind[1, 1:] == Kind.GOOD).all()


def test_a_persons_similarity_is_its_oks(poses):
    xy = np.stack([s.xy for s in poses.samples]) + 4
    truth, labelled = (np.stack([getattr(s, k) for s in poses.samples]) for k in ("xy", "labelled"))
    expected = oks(xy, truth, labelled, np.array([8000.0, 8000.0]), COCO17.sigmas).value
    assert 100 * classify(poses, xy).person.mean() == pytest.approx(expected)


def test_distances_are_in_units_of_the_joints_tolerance(poses):
    xy = np.stack([s.xy for s in poses.samples])
    unit = 2 * COCO17.sigmas[WRIST] * np.sqrt(8000)
    xy[0, WRIST, 0] += 0.75 * unit
    xy[1, WRIST] += 1e6
    found = classify(poses, xy)
    distance = found.compute_distance()
    assert distance[0, WRIST] == pytest.approx(0.75, abs=1e-5)
    assert distance[1, WRIST] > 30 and np.isfinite(distance).all()
    by_joint = {row["name"]: row["distance"] for row in summary(poses, found)["by_joint"]}
    assert by_joint["nose"] is None  # nobody has it labelled
    assert by_joint[COCO17.joints[RIGHT]] == 0


def test_shares_add_up_and_the_page_holds_the_worst_first(poses):
    xy = np.stack([s.xy for s in poses.samples])
    xy[1] += 60
    found = classify(poses, xy)
    rows = summary(poses, found)
    for row in (rows["all"], *rows["by_size"]):
        kinds = [row[k] for k in ("good", "jitter", "inversion", "swap", "miss")]
        assert row["joints"] == 0 or sum(kinds) == pytest.approx(100, abs=0.3)
    assert rows["by_joint"][0]["good"] is None  # nobody has it labelled
    page = error_page(poses, xy, found, "</script><b>", 1, lambda _: None)
    assert page.count("data:image/jpeg") == 1
    assert '"id": "a.jpg#1"' in page
    assert "</script><b>" not in page


@pytest.mark.parametrize(
    ("off", "kind"),
    [(0.56, Kind.GOOD), (0.58, Kind.JITTER), (1.17, Kind.JITTER), (1.18, Kind.MISS)],
)
def test_without_an_area_0_53_of_the_box_sets_the_papers_limits(off, kind):
    """exp(-d^2 / 2) is 0.85 at d = 0.570 and 0.5 at 1.177."""
    poses = PoseDataset("coco:x", "val", COCO17, [replace(_person(0, 10), area=None)], "oks")
    xy = np.stack([s.xy for s in poses.samples])
    xy[0, WRIST, 1] += off * 2 * 0.062 * np.sqrt(0.53 * 100 * 160)
    assert classify(poses, xy).kind[0, WRIST] == kind
