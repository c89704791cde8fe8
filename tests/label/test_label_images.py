import importlib.util
import json
import shutil
from dataclasses import replace

import cv2
import numpy as np
import pytest

from okdhp_edge.data.augment import compute_certainty
from okdhp_edge.data.crops import ANNOTATIONS, CropOptions, write_crops
from okdhp_edge.data.load import load
from okdhp_edge.errors import DataError, OutputError
from okdhp_edge.label.consensus import ConsensusRules
from okdhp_edge.label.label_images import label
from okdhp_edge.label.options import LabelOptions
from okdhp_edge.label.preview import write_sheet
from tests.helpers.made_detector import constant_detector, yolox_rows
from tests.helpers.made_teacher import dot_teacher, dotted

RULES = ConsensusRules(min_joints=2)


@pytest.fixture
def pictures(tmp_path):
    """Three people of dots in pictures of 96x96, one of them without a tail; one empty picture."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    people = {
        "a": {"nose": (30, 20), "tail": (50, 60), "crest": (60, 30)},
        "b": {"nose": (60, 70), "tail": (30, 40), "crest": (20, 70)},
        "c": {"nose": (40, 30), "crest": (60, 60)},
    }
    for number, (name, dots) in enumerate(people.items()):
        cv2.imwrite(str(folder / f"{name}.png"), dotted(dots, (96, 96), seed=number))
        (folder / f"{name}.txt").write_text("0 0.5 0.5 0.6 0.7\n")
    cv2.imwrite(str(folder / "nobody.png"), dotted({}, (96, 96), seed=9))
    (folder / "nobody.txt").write_text("")
    return folder, people


@pytest.fixture
def options(tmp_path, pictures):
    from okdhp_edge.label.boxes import make_sidecar_reader

    return LabelOptions(
        sources=[pictures[0]], out=tmp_path / "labels.json", find=make_sidecar_reader("person"),
        teachers=[dot_teacher(tmp_path / "t.onnx")], rules=RULES, duplicates=0,
    )  # fmt: skip


def test_labels_are_a_data_set_that_trains(options, pictures):
    result = label(options)
    assert (result.images, result.persons, result.negatives) == (3, 3, 0)
    poses = load(f"coco:{result.file}", "all")
    assert poses.skeleton.joints == ("nose", "tail", "crest")
    for sample in poses.samples:
        dots = pictures[1][sample.id.removeprefix("pictures/")[0]]
        known = [poses.skeleton.index(joint) for joint in dots]
        assert sample.labelled.tolist() == [j in dots for j in poses.skeleton.joints]
        assert np.abs(sample.xy[known] - list(dots.values())).max() < 2.5
        assert sample.absent.tolist() == [j not in dots for j in poses.skeleton.joints]
        assert sample.image.read().shape == (96, 96, 3)


def test_the_spread_of_the_views_weighs_the_joints_in_training(options, tmp_path):
    poses = load(f"coco:{label(replace(options, views=14)).file}", "all")
    spreads = np.stack([s.spread for s in poses.samples])
    labelled = np.stack([s.labelled for s in poses.samples])
    assert (spreads[labelled] > 0).all() and (spreads[labelled] <= RULES.max_spread).all()
    for sample in poses.samples:
        weight = compute_certainty(sample)[sample.labelled]
        assert (weight < 1).all() and (weight > 0.15).all()
    write_crops(poses, tmp_path / "crops", CropOptions(), lambda _: None)
    again = load(f"coco:{tmp_path / 'crops' / ANNOTATIONS}", "all")
    assert np.allclose(np.stack([s.spread for s in again.samples]), spreads, atol=1e-4)


def test_empty_boxes_are_samples_in_which_nobody_is(options):
    result = label(replace(options, max_negatives=2))
    assert result.negatives >= 2
    poses = load(f"coco:{result.file}", "all")
    nobody = [s for s in poses.samples if s.is_negative]
    assert len(nobody) == result.negatives
    assert all(not s.labelled.any() and s.absent.all() for s in nobody)


def test_pictures_of_nobody_are_negatives_whatever_lies_beside_them(options):
    found = label(replace(options, no_people=True, max_negatives=1))
    assert found.persons == 0 and found.negatives >= 1


def test_a_stopped_run_goes_on_where_it_was(options, monkeypatch):
    whole = json.loads(label(options).file.read_text())
    options.out.unlink()
    seen = []

    def stop(stage, done, total, note):
        seen.append(done)
        if done == 2 and len(seen) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        label(replace(options, report=stop))
    partial = options.out.with_suffix(".partial")
    assert partial.is_file() and not options.out.exists()
    with partial.open("a") as file:
        file.write('{"key": "half a li')
    again = []
    label(replace(options, report=lambda stage, done, *_: again.append(done)))
    assert again == [3, 4]  # the first two are not labelled again
    assert json.loads(options.out.read_text()) == whole and not partial.exists()


@pytest.mark.parametrize("cluster", [None, "local"])
def test_workers_give_the_same_labels(options, pictures, cluster):
    if cluster and importlib.util.find_spec("ray") is None:
        pytest.skip("needs Ray: pip install okdhp-edge[cluster]")
    (pictures[0] / "aa.jpg").write_bytes(b"\xff\xd8 not a picture")
    alone = json.loads(label(replace(options, max_negatives=2)).file.read_text())
    label(replace(options, max_negatives=2, workers=2, cluster=cluster))
    assert json.loads(options.out.read_text()) == alone


def test_a_run_of_other_settings_is_not_gone_on_with(options):
    def stop(stage, done, total, note):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        label(replace(options, report=stop))
    with pytest.raises(OutputError, match="other settings"):
        label(replace(options, rules=ConsensusRules(min_joints=1)))


def test_a_broken_picture_is_told_and_the_rest_labelled(options, pictures):
    (pictures[0] / "aa.jpg").write_bytes(b"\xff\xd8 not a picture")
    said = []
    result = label(replace(options, warn=said.append))
    assert result.persons == 3 and result.left_out["unreadable images"] == 1
    assert len(said) == 1 and "aa.jpg" in said[0] and "\n" not in said[0]


def test_near_duplicates_and_pictures_to_be_judged_on_are_left_out(options, pictures, tmp_path):
    folder = pictures[0]
    again = cv2.imread(str(folder / "a.png"))
    cv2.imwrite(str(folder / "a2.jpg"), again, [cv2.IMWRITE_JPEG_QUALITY, 90])
    (folder / "a2.txt").write_text("0 0.5 0.5 0.6 0.7\n")
    result = label(replace(options, duplicates=3))
    assert result.left_out["near-duplicate images"] == 1
    held_out = tmp_path / "held"
    held_out.mkdir()
    cv2.imwrite(str(held_out / "x.png"), cv2.imread(str(folder / "b.png")))
    names = {i["file_name"] for i in json.loads(result.file.read_text())["images"]}
    kept = label(replace(options, duplicates=3, exclude=[held_out]))
    fewer = {i["file_name"] for i in json.loads(kept.file.read_text())["images"]}
    assert names - fewer == {"pictures/b.png"}
    # A COCO file that `data label` did not write says so too, and is read before anything is done.
    (held_out / "test.json").write_text(
        json.dumps(
            {"images": [{"id": 1, "file_name": "x.png"}], "annotations": [], "categories": []}
        )
    )
    by_file = label(replace(options, duplicates=3, exclude=[held_out / "test.json"]))
    assert {i["file_name"] for i in json.loads(by_file.file.read_text())["images"]} == fewer


def test_frames_of_a_video_are_kept_as_pictures(options, tmp_path):
    video = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter_fourcc(*"MJPG"), 10, (96, 96))
    for number in range(6):
        dots = {"nose": (30 + 5 * number, 20), "tail": (50, 60), "crest": (70, 30)}
        writer.write(dotted(dots, (96, 96)))
    writer.release()
    # In its input of 64 pixels: 20, 10, 60, 60 of the frames.
    rows = yolox_rows([(50 * 64 / 96, 40 * 64 / 96, 40, 40, 0.9, 0)])
    detector = constant_detector(tmp_path / "d.onnx", rows)
    result = label(replace(
        options, sources=[video], find=None, detector=detector, every=3, duplicates=None,
    ))  # fmt: skip
    assert result.persons == 2
    poses = load(f"coco:{result.file}", "all")
    assert [round(float(s.xy[0, 0])) // 10 for s in poses.samples] == [3, 4]
    assert all(s.image.read().shape == (96, 96, 3) for s in poses.samples)


def test_nobody_at_all_is_an_error_with_the_counts(options):
    with pytest.raises(DataError, match="no people were found in 4 images"):
        label(replace(options, rules=ConsensusRules(min_joints=3, min_score=1.0)))


def test_pictures_without_boxes_and_without_a_detector_are_told(options, pictures):
    (pictures[0] / "a.txt").unlink()
    said = []
    label(replace(options, warn=said.append))
    assert len(said) == 1 and "--detector" in said[0]


def test_a_sheet_to_look_at(options, tmp_path):
    write_sheet(label(replace(options, max_negatives=1)).file, tmp_path / "sheet.png", 0)
    assert cv2.imread(str(tmp_path / "sheet.png")).shape[1] == 8 * 160


def test_what_failed_is_tried_again_and_another_detector_is_another_run(options, pictures):
    box = (pictures[0] / "a.txt").read_text()
    for name in ("a", "b", "c"):
        (pictures[0] / f"{name}.txt").unlink()
    with pytest.raises(DataError, match="no people were found"):
        label(options)
    for name in ("a", "b", "c"):
        (pictures[0] / f"{name}.txt").write_text(box)
    assert options.out.with_suffix(".partial").exists()
    with pytest.raises(OutputError, match="other settings"):
        label(replace(options, detector="person"))
    assert label(options).persons == 3


def test_images_to_be_judged_on_stay_out_even_where_duplicates_stay_in(options, pictures, tmp_path):
    held_out = tmp_path / "held-out"
    held_out.mkdir()
    shutil.copy(pictures[0] / "b.png", held_out)
    kept = label(replace(options, duplicates=None, exclude=[held_out]))
    names = {i["file_name"] for i in json.loads(kept.file.read_text())["images"]}
    assert names == {"pictures/a.png", "pictures/c.png"}
