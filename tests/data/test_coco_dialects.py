"""The same persons as each labelling tool writes them."""

import json
import re

import numpy as np
import pytest

from okdhp_edge.data.coco_files import find_annotation_files
from okdhp_edge.data.detection import load_detection
from okdhp_edge.data.load import load
from okdhp_edge.errors import DataError
from tests.helpers.made_data import picture

JOINTS = ["nose", "left_hand", "right_hand"]
PEOPLE = {
    1: ("a b.jpg", [20, 20, 2, 10, 50, 1, 0, 0, 0]),
    2: ("a b.jpg", [60, 20, 2, 50, 50, 2, 70, 50, 2]),
    3: ("ü.jpg", [30, 30, 2, 20, 60, 2, 40, 60, 0]),
}


def content():
    names = sorted({name for name, _ in PEOPLE.values()})
    return {
        "images": [{"id": i, "file_name": n, "width": 120, "height": 90}
                   for i, n in enumerate(names, start=10)],
        "categories": [{"id": 1, "name": "person", "keypoints": list(JOINTS), "skeleton": []}],
        "annotations": [
            {"id": i, "image_id": 10 + names.index(n), "category_id": 1, "iscrowd": 0,
             "bbox": [5, 5, 80, 80], "area": 5000, "keypoints": list(k), "num_keypoints": 2}
            for i, (n, k) in PEOPLE.items()
        ],
    }  # fmt: skip


def each(key, change):
    def changed(data):
        for annotation in data["annotations"]:
            if change is None:
                annotation.pop(key, None)
            else:
                annotation[key] = change(annotation[key])
        return data

    return changed


def several(*changes):
    def changed(data):
        for change in changes:
            data = change(data)
        return data

    return changed


def _ids_as_text(data):
    data["categories"][0]["id"] = "1"
    for image in data["images"]:
        image["id"] = str(image["id"])
    return data


def _backslashes(data):
    for image in data["images"]:
        image["file_name"] = "sub\\" + image["file_name"]
    return data


def _subfolder(data):
    for image in data["images"]:
        image["file_name"] = "sub/" + image["file_name"]
    return data


def _picture_without_persons(data):
    data["images"].append({"id": 99, "file_name": "none.jpg", "width": 9, "height": 9})
    return data


def _other_category(data):
    data["categories"].insert(0, {"id": 7, "name": "horse", "keypoints": ["muzzle"]})
    data["annotations"].insert(
        0, {"id": 70, "image_id": data["images"][0]["id"], "category_id": 7,
            "bbox": [1, 1, 9, 9], "keypoints": [3, 3, 2]},
    )  # fmt: skip
    return data


DIALECTS = {
    "COCO": lambda data: data,
    "Roboflow: no num_keypoints": each("num_keypoints", None),
    "VIA: no area, iscrowd, num_keypoints": several(
        each("area", None), each("iscrowd", None), each("num_keypoints", None)
    ),
    "Label Studio: floats as text": several(
        each("keypoints", lambda k: [str(v) for v in k]),
        each("bbox", lambda b: [str(v) for v in b]),
    ),
    "ids as text": _ids_as_text,
    "nested keypoints": each("keypoints", lambda k: [k[i : i + 3] for i in range(0, len(k), 3)]),
    "empty boxes": each("bbox", lambda _: []),
    "no boxes": each("bbox", None),
    "no ids": each("id", None),
    "null area": each("area", lambda _: None),
    "crowd as text": each("iscrowd", str),
    "crowd as a float": each("iscrowd", float),
    "a picture without persons": _picture_without_persons,
    "a second category": _other_category,
    "flat segmentation": lambda data: {
        **data,
        "annotations": [{**a, "segmentation": [1, 1, 9, 1, 9, 9]} for a in data["annotations"]],
    },
}  # fmt: skip


def written(folder, data, pictures="images", file="x.json"):
    for name in {name for name, _ in PEOPLE.values()}:
        picture(folder / pictures / name)
    path = folder / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


def expect_the_persons(poses):
    assert poses.skeleton.joints == tuple(JOINTS)
    assert poses.skeleton.flip_index.tolist() == [0, 2, 1]
    assert len(poses) == len(PEOPLE)
    for sample, (name, flat) in zip(poses.samples, PEOPLE.values(), strict=True):
        points = np.array(flat, float).reshape(-1, 3)
        assert sample.labelled.tolist() == (points[:, 2] > 0).tolist()
        assert np.allclose(sample.xy[sample.labelled], points[points[:, 2] > 0, :2])
        assert sample.image.path.name == name
        assert sample.image.read().shape == (90, 120, 3)
        assert sample.box[2:].min() > 0 and sample.area > 0


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_dialect_gives_the_same_persons(tmp_path, dialect):
    file = written(tmp_path, DIALECTS[dialect](content()))
    expect_the_persons(load(f"coco:{file}", "all"))


@pytest.mark.parametrize(
    ("change", "pictures", "file"),
    [
        (lambda d: d, "images/train2017", "annotations/person_keypoints_train2017.json"),
        (lambda d: d, "images/default", "annotations/person_keypoints_default.json"),
        (lambda d: d, "train2017", "annotations/person_keypoints_train2017.json"),
        (lambda d: d, ".", "x.json"),
        (_backslashes, "images/sub", "x.json"),
        (_subfolder, "images/sub", "annotations/x.json"),
        (_subfolder, "images", "x.json"),
    ],
)
def test_pictures_are_found_in_every_layout(tmp_path, change, pictures, file):
    expect_the_persons(load(f"coco:{written(tmp_path, change(content()), pictures, file)}", "all"))


def test_roboflows_folders_are_its_splits(tmp_path):
    for folder in ("train", "valid", "test"):
        written(tmp_path / folder, content(), ".", "_annotations.coco.json")
    for split in ("train", "val", "test"):
        poses = load(f"coco:{tmp_path}", split)
        expect_the_persons(poses)
        folder = {"val": "valid"}.get(split, split)
        assert all(s.image.path.parent.name == folder for s in poses.samples)
    assert len(load(f"coco:{tmp_path}", "all")) == 9


def test_what_is_left_out_is_counted(tmp_path):
    data = _other_category(content())
    data["annotations"] += [
        {"id": 80, "image_id": 555, "category_id": 1, "keypoints": [1, 1, 2] * 3},
        {"id": 81, "image_id": 10, "category_id": 1, "keypoints": [0] * 9},
        {"id": 82, "image_id": 10, "category_id": 1, "iscrowd": 1, "keypoints": [1, 1, 2] * 3},
    ]
    notes = " ".join(load(f"coco:{written(tmp_path, data)}", "all").notes)
    for what in ("1 annotations of category 'horse'", "1 persons whose image is not listed",
                 "1 persons without labelled joints", "1 crowds"):  # fmt: skip
        assert what in notes


def test_unnamed_joints_are_said_not_silent(tmp_path):
    data = content()
    data["categories"] = []
    poses = load(f"coco:{written(tmp_path, data)}", "all")
    assert len(poses) == 3 and "flipping swaps no joints" in " ".join(poses.notes)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (each("keypoints", lambda k: k[:-1]), "annotation 1 has 8 numbers in `keypoints`"),
        (each("keypoints", lambda _: ["x"] * 9), "annotation 1: `keypoints` is not a list"),
        (each("bbox", lambda _: [1, 2, 3]), "annotation 1 has a `bbox` of 3 numbers"),
        (lambda d: d | {"annotations": [3]}, "`annotations` must be a list of objects"),
        (lambda d: d | {"categories": [{"id": 1, "keypoints": ["a"]}]},
         "names 1 keypoints but has 3"),
        (lambda d: d | {"images": []}, "3 persons whose image is not listed"),
        (lambda d: d | {"categories": [{"id": 1, "keypoints": ["LHand", "nose", "tip"]}]},
         "'left_hand' of skeleton 'x' has no counterpart"),
    ],
)  # fmt: skip
def test_what_makes_a_set_unusable_is_one_line(tmp_path, change, says):
    with pytest.raises(DataError) as caught:
        load(f"coco:{written(tmp_path, change(content()))}", "all")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300 + len(str(tmp_path))


@pytest.mark.parametrize(
    ("names", "split", "read"),
    [
        (["football", "tennis"], "all", "several files that name no split: football.json"),
        (["contest", "tennis"], "all", "several files that name no split"),
        (["festival", "train"], "val", "no *val*.json"),
        (["latest", "train"], "test", "no *test*.json"),
        (["cocotrain", "cocoval"], "val", ["cocoval"]),
        (["cocotrain", "cocoval"], "all", ["cocotrain", "cocoval"]),
    ],
)
def test_a_word_that_holds_a_splits_name_is_not_the_split(tmp_path, names, split, read):
    for name in names:
        (tmp_path / f"{name}.json").write_text("{}")
    if isinstance(read, str):
        with pytest.raises(DataError, match=re.escape(read)):
            find_annotation_files(tmp_path, split)
    else:
        assert [file.stem for file, _ in find_annotation_files(tmp_path, split)] == read


def test_small_sets_have_every_split(tmp_path):
    data = {"images": [], "annotations": [], "categories": content()["categories"]}
    for number in range(13):
        picture(tmp_path / "images" / f"{number}.jpg")
        data["images"].append({"id": number, "file_name": f"{number}.jpg"})
        data["annotations"].append({
            "id": number, "image_id": number, "category_id": 1, "bbox": [5, 5, 50, 50],
            "keypoints": [20, 20, 2] * 3,
        })  # fmt: skip
    (tmp_path / "x.json").write_text(json.dumps(data))
    sizes = {s: len(load(f"coco:{tmp_path / 'x.json'}", s)) for s in ("train", "val", "test")}
    assert sum(sizes.values()) == 13 and min(sizes.values()) >= 1 and sizes["train"] >= 9


def test_persons_of_several_files_have_ids_of_their_own(tmp_path):
    for folder in ("train", "valid"):
        written(tmp_path / folder, content(), ".", "_annotations.coco.json")
    poses = load(f"coco:{tmp_path}", "all")
    assert len({s.id for s in poses.samples}) == len(poses) == 6
    assert {s.image_name for s in poses.samples} == {"a b.jpg", "ü.jpg"}
    assert len(load_detection(f"coco:{tmp_path}", "all")) == 4


def test_annotations_are_inputs_wherever_they_lie(tmp_path):
    file = written(tmp_path / "one", content())
    roboflow = tmp_path / "two" / "train"
    written(roboflow, content(), ".", "_annotations.coco.json")
    for folder, annotations in (
        (file.parent, file),
        (tmp_path / "two", roboflow / "_annotations.coco.json"),
    ):
        assert annotations in load(f"coco:{folder}", "all").list_input_paths()


def test_a_box_of_no_width_is_that_of_the_joints(tmp_path):
    data = each("bbox", lambda box: [20, 10, 0, 60])(content())
    for sample in load(f"coco:{written(tmp_path, data)}", "all").samples:
        assert (sample.box[2:] > 0).all()
