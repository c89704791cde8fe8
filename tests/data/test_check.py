from okdhp_edge.data.check import check
from okdhp_edge.data.load import read_annotations
from tests.helpers.made_data import coco_file


def _problems(file):
    return [p.what for p in check(read_annotations(f"coco:{file}", "all")).problems]


def test_a_sound_set_has_no_problem(tmp_path):
    report = check(read_annotations(f"coco:{coco_file(tmp_path)}", "all"))
    assert (report.samples, report.fatal, report.problems) == (2, 0, ())
    assert report.joints_labelled == 2


def test_odd_annotations_are_listed_and_not_fatal(tmp_path):
    outside = coco_file(tmp_path, keypoints=[500, 12, 2, 30, 40, 1, 0, 0, 0])
    assert any("outside the 120x90 image" in p for p in _problems(outside))
    tiny = coco_file(tmp_path, bbox=[10, 10, 4, 5])
    assert any("box of only 4x5" in p for p in _problems(tiny))


def test_every_fatal_problem_is_listed_at_once(tmp_path):
    file = coco_file(tmp_path, bbox=[10, 10, 0, 0])
    (tmp_path / "images" / "a.jpg").write_bytes(b"no picture")
    report = check(read_annotations(f"coco:{file}", "all"))
    assert report.fatal == 2
    assert {p.sample for p in report.problems} == {"a.jpg#1", "a.jpg#2"}
