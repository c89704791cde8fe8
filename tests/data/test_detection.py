import json

import cv2
import numpy as np
import pytest

from okdhp_edge.data.detection import PERSON, DetectionSample, load_detection, load_for
from okdhp_edge.errors import DataError


def _write_set(folder, annotations, images=3, categories=None):
    for number in range(images):
        cv2.imwrite(str(folder / f"{number}.png"), np.full((40, 60, 3), 80, np.uint8))
    file = folder / "boxes.json"
    file.write_text(
        json.dumps(
            {
                "images": [{"id": n, "file_name": f"{n}.png"} for n in range(images)],
                "annotations": [{"id": i, **a} for i, a in enumerate(annotations)],
                "categories": categories or [{"id": 1, "name": "person"}],
            }
        )
    )
    return f"coco:{file}"


def _box(image, box, **more):
    return {"image_id": image, "category_id": 1, "bbox": box, **more}


def test_persons_and_crowds_of_each_image_and_images_without_anybody(tmp_path):
    source = _write_set(
        tmp_path,
        [
            _box(0, [1, 2, 10, 20]), _box(0, [30, 2, 10, 20]), _box(0, [0, 0, 60, 5], iscrowd=1),
            _box(1, [5, 5, 9, 9], absent=[1] * 17),  # known to hold nobody
            _box(1, [5, 5, 0, 9]), _box(1, [5, 5]),  # no boxes at all
            {"image_id": 2, "category_id": 2, "bbox": [1, 1, 5, 5]},
        ],
        categories=[{"id": 1, "name": "person"}, {"id": 2, "name": "dog"}],
    )  # fmt: skip
    found = load_detection(source, "all")
    assert found.metric == "box_ap"
    assert found.skeleton == PERSON
    first, second, third = found.samples
    assert isinstance(first, DetectionSample)
    assert first.persons.tolist() == [[1, 2, 10, 20], [30, 2, 10, 20]]
    assert first.ignored.tolist() == [[0, 0, 60, 5]]
    assert not len(second.persons)
    assert not len(third.persons)
    assert second.is_negative


def test_a_category_counts_whatever_its_letters_case(tmp_path):
    source = _write_set(
        tmp_path,
        [_box(0, [1, 2, 10, 20]), {"image_id": 1, "category_id": 2, "bbox": [1, 1, 5, 5]}],
        categories=[{"id": 1, "name": "Person"}, {"id": 2, "name": "dog"}],
    )
    assert [len(s.persons) for s in load_detection(source, "all").samples] == [1, 0, 0]


def test_keypoint_sets_give_the_boxes_of_their_persons_image_by_image():
    found = load_for("detector", "synthetic:16", "train")
    poses = load_for("pose", "synthetic:16", "train")
    assert len(found) == len(poses) == 16
    for image, person in zip(
        sorted(found.samples, key=lambda s: s.id), sorted(poses.samples, key=lambda s: s.id),
        strict=True,
    ):  # fmt: skip
        assert image.persons.tolist() == [person.box.tolist()]


def test_sets_after_a_comma_are_trained_on_and_not_judged_on(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    a = _write_set(tmp_path / "a", [_box(n, [1, 2, 10, 20]) for n in range(20)], images=20)
    b = _write_set(tmp_path / "b", [_box(n, [1, 2, 10, 20]) for n in range(5)], images=5)
    alone = load_detection(a, "train")
    both = load_detection(f"{a},{b}@all[:3]", "train")
    assert len(both) == len(alone) + 3
    assert len(load_detection(f"{a},{b}", "val")) == len(load_detection(a, "val"))
    parts = [load_detection(a, split) for split in ("train", "val", "test")]
    names = [s.id for part in parts for s in part.samples]
    assert sorted(names) == sorted(s.id for s in load_detection(a, "all").samples)


def test_a_set_without_persons_and_one_of_another_format_are_one_line(tmp_path):
    with pytest.raises(DataError, match="no person boxes"):
        load_detection(_write_set(tmp_path, [_box(0, [0, 0, 9, 9], iscrowd=1)]), "all")
    (tmp_path / "bad.json").write_text('{"images": 3}')
    with pytest.raises(DataError, match="not in COCO format"):
        load_detection(f"coco:{tmp_path / 'bad.json'}", "all")


def test_a_folder_with_one_file_is_divided_and_parts_of_splits_add_up(tmp_path):
    _write_set(tmp_path, [_box(n, [5, 5, 20, 20]) for n in range(20)], images=20)
    names = {
        split: {s.id for s in load_detection(f"coco:{tmp_path}", split).samples}
        for split in ("train", "val", "test", "all")
    }
    assert len(names["all"]) == 20
    assert names["train"] | names["val"] | names["test"] == names["all"]
    assert not names["train"] & names["val"] and not names["train"] & names["test"]
    some = load_detection(f"coco:{tmp_path}", "train[-3:]+test").samples
    assert len(some) == 3 + len(names["test"])


def test_an_unknown_split_and_entries_that_are_none_are_one_line(tmp_path):
    source = _write_set(tmp_path, [_box(0, [5, 5, 20, 20])])
    with pytest.raises(DataError, match="unknown split 'vall'"):
        load_detection(source, "vall")
    (tmp_path / "boxes.json").write_text(json.dumps({"images": [], "annotations": [3]}))
    with pytest.raises(DataError, match="must be a list of objects"):
        load_detection(source, "all")


def test_categories_that_are_no_persons_are_not_taken_for_them(tmp_path):
    source = _write_set(tmp_path, [_box(0, [1, 2, 10, 20])], categories=[{"id": 1, "name": "car"}])
    with pytest.raises(DataError, match="no category 'person', only car"):
        load_detection(source, "all")


def test_boxes_of_yolo_need_no_joints_and_images_without_rows_show_nobody(tmp_path):
    for name, rows in {"a": "0 .5 .5 .2 .5 .5 .5 2\n0 .2 .5 .1 .5 0 0 0\n1 .5 .5 .9 .9 0 0 0\n",
                       "b": "", "c": "0 .5 .5 .2 .5 0 0 0\n", "d": None}.items():  # fmt: skip
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.full((40, 60, 3), 80, np.uint8))
        if rows is not None:
            (tmp_path / f"{name}.txt").write_text(rows)
    (tmp_path / "data.yaml").write_text("train: .\nkpt_shape: [1, 3]\nnames: [person, car]\n")
    found = load_detection(f"yolo:{tmp_path}", "all").samples
    assert [sample.id for sample in found] == ["a.png", "b.png", "c.png", "d.png"]
    assert [len(sample.persons) for sample in found] == [2, 0, 1, 0]
    np.testing.assert_allclose(found[0].persons, [[24, 10, 12, 20], [9, 10, 6, 20]])
    parts = [load_detection(f"yolo:{tmp_path}@all", "val[:2]"), load_detection(
        f"yolo:{tmp_path}", "all[2:]")]  # fmt: skip
    assert [len(part) for part in parts] == [4, 2]


def test_a_path_with_a_comma_is_one_set(tmp_path):
    folder = tmp_path / "a,b"
    folder.mkdir()
    (folder / "train.jpg").write_bytes(cv2.imencode(".jpg", np.zeros((40, 60, 3), np.uint8))[1])
    (folder / "train.txt").write_text("0 0.5 0.5 0.4 0.4 0.4 0.4 2\n")
    (folder / "data.yaml").write_text("train: .\nkpt_shape: [1, 3]\nnames: [person]\n")
    source = f"yolo:{folder}".replace(",", "\\,")
    assert len(load_detection(source, "all")) == len(load_for("pose", source, "all")) == 1
