import json
import shutil

import numpy as np
import pytest

from okdhp_edge.data.coco_files import find_annotation_file
from okdhp_edge.data.load import load
from okdhp_edge.data.sample import split_sources
from okdhp_edge.errors import DataError
from tests.helpers.made_data import coco_file


def test_an_own_skeleton_comes_from_the_category(tmp_path):
    poses = load(f"coco:{coco_file(tmp_path)}", "all")
    assert poses.skeleton.joints == ("tip", "left_fin", "right_fin")
    assert poses.skeleton.limbs == (("tip", "left_fin"), ("tip", "right_fin"))
    np.testing.assert_array_equal(poses.samples[0].labelled, [True, True, False])


def test_crowds_and_persons_without_joints_are_left_out(tmp_path):
    assert len(load(f"coco:{coco_file(tmp_path, iscrowd=1)}", "all")) == 1
    assert len(load(f"coco:{coco_file(tmp_path, keypoints=[0] * 9)}", "all")) == 1


@pytest.mark.parametrize("crowd", [1, 1.0, "1", "1.0", True, "true"])
def test_a_crowd_is_known_however_it_is_written(tmp_path, crowd):
    assert len(load(f"coco:{coco_file(tmp_path, iscrowd=crowd)}", "all")) == 1


def test_one_joint_without_a_box_is_a_person(tmp_path):
    poses = load(f"coco:{coco_file(tmp_path, bbox=None, keypoints=[9, 9, 2] + [0] * 6)}", "all")
    assert all((sample.box[2:] > 0).all() for sample in poses.samples)


def test_a_split_list_beside_the_file_decides(tmp_path):
    file = coco_file(tmp_path)
    (tmp_path / "splits").mkdir()
    (tmp_path / "splits" / "val.txt").write_text("a.jpg\n")
    assert len(load(f"coco:{file}", "val")) == 2


def test_a_folder_with_annotation_files_by_split(tmp_path):
    file = coco_file(tmp_path)
    (tmp_path / "annotations").mkdir()
    file.rename(tmp_path / "annotations" / "person_keypoints_val2017.json")
    assert len(load(f"coco:{tmp_path}", "val")) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "not valid JSON"), ("[]", "not in COCO format"),
     (json.dumps({"images": [], "annotations": []}), "no person with labelled keypoints")],
)  # fmt: skip
def test_files_that_are_no_annotations_are_refused(tmp_path, content, message):
    file = tmp_path / "x.json"
    file.write_text(content)
    with pytest.raises(DataError, match=message):
        load(f"coco:{file}", "all")


def test_a_file_of_one_split_gives_no_other(tmp_path):
    """Else persons of val would be trained on."""
    (tmp_path / "annotations").mkdir()
    coco_file(tmp_path).rename(tmp_path / "annotations" / "person_keypoints_val2017.json")
    with pytest.raises(DataError, match=r"no \*train\*.json"):
        load(f"coco:{tmp_path}", "train")
    assert len(load(f"coco:{tmp_path}", "all")) == 2


@pytest.mark.parametrize("name", ["validated.json", "latest.json"])
def test_a_word_that_begins_or_ends_like_a_split_names_none(tmp_path, name):
    coco_file(tmp_path).rename(tmp_path / name)
    assert len(load(f"coco:{tmp_path}", "all")) == 2
    assert load(f"coco:{tmp_path}", "train").source == f"coco:{tmp_path}"


def test_train_and_val_in_one_word_are_neither(tmp_path):
    (tmp_path / "annotations").mkdir()
    file = coco_file(tmp_path)
    for split in ("trainval", "val"):
        (tmp_path / "annotations" / f"crowdpose_{split}.json").write_text(file.read_text())
    file.unlink()
    assert find_annotation_file(tmp_path, "val").stem == "crowdpose_val"


def test_a_person_some_of_whose_joints_are_absent_needs_a_labelled_one(tmp_path):
    file = coco_file(tmp_path, keypoints=[0] * 9, absent=[1, 0, 0])
    assert len(load(f"coco:{file}", "all")) == 1
    file = coco_file(tmp_path, keypoints=[0] * 9, absent=[1, 1, 1])
    assert len(load(f"coco:{file}", "all")) == 2


def test_a_path_with_a_comma_is_one_set(tmp_path):
    folder = tmp_path / "a,b"
    folder.mkdir()
    source = str(coco_file(folder)).replace(",", "\\,")
    found = load(f"coco:{source}", "all")
    assert split_sources(found.source) == [f"coco:{folder}/fish.json"]


def test_captions_beside_the_joints_are_passed_over(tmp_path):
    (tmp_path / "annotations").mkdir()
    for split in ("train", "val"):
        coco_file(tmp_path).rename(tmp_path / f"annotations/person_keypoints_{split}2017.json")
        (tmp_path / f"annotations/captions_{split}2017.json").write_text("{}")
    assert len(load(f"coco:{tmp_path}", "train")) == 2


def test_lists_of_some_splits_alone_give_no_other(tmp_path):
    """A share by name would overlap with what is listed."""
    file = coco_file(tmp_path)
    (tmp_path / "splits").mkdir()
    (tmp_path / "splits" / "val.txt").write_text("a.jpg\n")
    with pytest.raises(DataError, match=r"train.txt does not exist"):
        load(f"coco:{file}", "train")


def test_a_file_of_train_and_val_beside_one_of_test_is_divided(tmp_path):
    (tmp_path / "annotations").mkdir()
    file = coco_file(tmp_path)
    content = json.loads(file.read_text())
    content["images"] = [{"id": n, "file_name": f"{n}.jpg"} for n in range(30)]
    content["annotations"] = [{**content["annotations"][0], "id": n, "image_id": n}
                              for n in range(30)]  # fmt: skip
    for n in range(30):
        (tmp_path / "images" / f"{n}.jpg").write_bytes((tmp_path / "images/a.jpg").read_bytes())
    (tmp_path / "annotations" / "crowdpose_trainval.json").write_text(json.dumps(content))
    file.rename(tmp_path / "annotations" / "crowdpose_test.json")
    train, val = ({s.id for s in load(f"coco:{tmp_path}", p).samples} for p in ("train", "val"))
    assert train
    assert val
    assert not train & val
    assert len(load(f"coco:{tmp_path}", "test")) == 2
    assert len(load(f"coco:{tmp_path}", "all")) == 32
    shutil.copy(tmp_path / "annotations/crowdpose_test.json", tmp_path / "annotations/train.json")
    with pytest.raises(DataError, match=r"no \*val\*.json"):  # it would overlap with train.json
        load(f"coco:{tmp_path}", "val")
