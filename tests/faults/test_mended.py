"""What the broken files brought down once, each by itself."""

import json

import pytest

from okdhp_edge.data.load import load
from okdhp_edge.errors import DataError, to_one_line
from okdhp_edge.evaluation.average_precision import average_precision
from okdhp_edge.report.compare import compare_reports, read_report
from tests.helpers.fakes import ScriptedSource
from tests.helpers.made_data import coco_file, lspet_folder
from tests.helpers.running import run_on


def _changed(file, change):
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))
    return file


@pytest.mark.parametrize("skeleton", [[None], [[1, " "]], [[1, None]], [[10**30, 1]], 7, [1, 2]])
def test_limbs_that_are_none_are_not_drawn(tmp_path, skeleton):
    file = _changed(coco_file(tmp_path), lambda c: c["categories"][0].update(skeleton=skeleton))
    assert load(f"coco:{file}", "all").skeleton.limbs == ()


@pytest.mark.parametrize("flip", [7, ["a"], [0, None, 1], [0, 2.5, 1]])
def test_mirror_twins_that_are_no_numbers(tmp_path, flip):
    file = _changed(coco_file(tmp_path), lambda c: c["categories"][0].update(flip_idx=flip))
    with pytest.raises(DataError, match="flip_idx"):
        load(f"coco:{file}", "all")


@pytest.mark.parametrize("name", [[-1e308] * 300, 7, "a" * 5000, "a\0b", {}])
def test_file_names_that_no_file_has(tmp_path, name):
    file = _changed(coco_file(tmp_path), lambda c: c["images"][0].update(file_name=name))
    with pytest.raises(DataError):
        load(f"coco:{file}", "all")


def test_names_of_joints_that_are_no_list(tmp_path):
    file = _changed(coco_file(tmp_path), lambda c: c["categories"][0].update(keypoints=7))
    with pytest.raises(DataError, match="names no keypoints"):
        load(f"coco:{file}", "all")


@pytest.mark.parametrize(
    "change",
    [{"joints": [[1, 2]] * 15}, {"joints": [[1, "x"]] * 16}, {"joints_vis": ["..", *[1] * 15]},
     {"scale": float("nan")}, {"center": None}, {"image": 3}],
)  # fmt: skip
def test_mpii_persons_that_are_none(tmp_path, change):
    person = {"image": "a.jpg", "joints": [[1, 2]] * 16, "joints_vis": [1] * 16,
              "center": [5, 5], "scale": 1.0}  # fmt: skip
    (tmp_path / "m.json").write_text(json.dumps([person, person | change]))
    with pytest.raises(DataError, match="person 1 of"):
        load(f"mpii:{tmp_path}/m.json", "all")


def test_a_list_that_is_no_text(tmp_path):
    (lspet_folder(tmp_path) / "splits" / "train.txt").write_bytes(b"im00001\n\xe8\x00")
    with pytest.raises(DataError, match="cannot be read"):
        load(f"lspet:{tmp_path}", "train")


@pytest.mark.parametrize(
    "change",
    [{"keypoints": ["1"] * 9}, {"keypoints": [10**30] * 9}, {"keypoints": [[1]] * 9},
     {"keypoints": [float("nan")] * 9}, {"image_id": []}, {"score": "high"}, {"category_id": {}}],
)  # fmt: skip
def test_results_that_are_no_numbers(tmp_path, change):
    poses = load(f"coco:{coco_file(tmp_path)}", "all")
    good = {"image_id": 7, "category_id": 1, "score": 0.5, "keypoints": [1] * 9}
    assert "AP" in average_precision(poses, [good])
    with pytest.raises(DataError, match="result 0"):
        average_precision(poses, [good | change])


def test_reports_that_lack_something_or_hold_something_else(tmp_path):
    report = run_on([ScriptedSource(60)])[0].with_samples()
    path = tmp_path / "r.json"
    for change in ({"samples_ms": {"infer": [""]}}, {"fps": "fast"}, {"machine": []},
                   {"frame_age_ms": {"p95": float("nan")}}):  # fmt: skip
        path.write_text(json.dumps(report | change))
        with pytest.raises(DataError, match="not a report with raw times"):
            read_report(path)
    path.write_text(json.dumps(report | {"backend": {"backend": "x", "version": "1",
                                                     "precision": "int8"}}))  # fmt: skip
    assert compare_reports([read_report(path)])


def test_a_message_is_one_printable_line_whatever_it_quotes():
    error = DataError("a\nb\x00c" + "d" * 1000 + "end", "e\r\n" + "f" * 1000)
    assert str(error).isprintable() and len(str(error)) <= 300
    assert str(error).startswith("a b c") and "end;" in str(error)
    assert to_one_line("short", 10) == "short"
