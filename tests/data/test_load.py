import copy

import cv2
import numpy as np
import pytest

from okdhp_edge.data.crops import CropOptions, write_crops
from okdhp_edge.data.image_file import decode_image
from okdhp_edge.data.load import load, read_annotations
from okdhp_edge.data.sample import list_kinds
from okdhp_edge.errors import DataError
from okdhp_edge.evaluation.evaluate import score
from tests.helpers.made_data import coco_file, lspet_folder


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"keypoints": [float("nan"), 12, 2, 30, 40, 1, 0, 0, 0]}, "NaN or infinite"),
        ({"bbox": [10, 10, -5, 60]}, "empty box"),
    ],
)
def test_annotations_that_would_poison_training_are_refused_by_name(tmp_path, changes, message):
    file = coco_file(tmp_path, **changes)
    with pytest.raises(DataError, match=rf"{message}.*a\.jpg#1.*data check"):
        load(f"coco:{file}", "all")
    assert len(read_annotations(f"coco:{file}", "all")) == 2


def test_a_missing_picture_is_found_before_training(tmp_path):
    file = coco_file(tmp_path)
    (tmp_path / "images" / "a.jpg").unlink()
    with pytest.raises(DataError, match="missing image"):
        load(f"coco:{file}", "all")


def test_a_truncated_picture_is_named_when_read(tmp_path):
    file = coco_file(tmp_path)
    path = tmp_path / "images" / "a.jpg"
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(DataError, match=r"a\.jpg cannot be decoded"):
        load(f"coco:{file}", "all").samples[0].image.read()


@pytest.mark.parametrize(
    ("source", "split", "message"),
    [
        ("voc:/x", "train", "unknown data format"),
        ("lspet", "train", "has no path"),
        ("synthetic", "dev", "unknown split"),
        ("synthetic:many", "train", "not a number of persons"),
        ("lspet:/nowhere", "train", "does not exist"),
        ("coco:/nowhere", "train", "no annotation file"),
        ("mpii:/nowhere", "train", "no train.json"),
    ],
)
def test_sources_that_cannot_be_read_say_why(source, split, message):
    with pytest.raises(DataError, match=message):
        load(source, split)


def test_an_empty_split_is_an_error(tmp_path):
    (tmp_path / "splits").mkdir()
    (tmp_path / "splits" / "val.txt").write_text("")
    with pytest.raises(DataError, match="no samples"):
        load(f"coco:{coco_file(tmp_path)}", "val")


def test_a_list_with_strangers_is_refused():
    poses = load("synthetic:16", "train")
    assert [s.id for s in poses.select_by_ids(["synthetic-3", "synthetic-1"]).samples] == [
        "synthetic-3",
        "synthetic-1",
    ]
    with pytest.raises(DataError, match="stranger"):
        poses.select_by_ids(["synthetic-3", "stranger"])
    assert np.isfinite(poses.samples[0].xy).all()


def test_parts_and_sums_of_splits():
    whole, val = load("synthetic:40", "train"), load("synthetic:40", "val")

    def ids(split):
        return [s.id for s in load("synthetic:40", split).samples]

    everything = [s.id for s in whole.samples]
    assert ids("train[:30]") == everything[:30]
    assert ids("train[-10:]") == everything[30:]
    assert ids("train[5:8]+val") == everything[5:8] + [s.id for s in val.samples]
    assert load("synthetic:40", "train[5:8]+val").split == "train[5:8]+val"


@pytest.mark.parametrize("split", ["trian", "train[3000]", "train[a:b]", "", "train+"])
def test_other_splits_are_refused(split):
    with pytest.raises(DataError, match="unknown split"):
        read_annotations("synthetic:40", split)


def test_several_sets_are_one_with_the_joints_of_the_first(tmp_path):
    source = f"synthetic:40,lspet:{lspet_folder(tmp_path)}"
    alone, both = load("synthetic:40", "train"), load(source, "train")
    assert both.source == source
    assert list_kinds(both.source) == "synthetic+lspet"
    assert len(both) == len(alone) + 4
    added = both.samples[len(alone) :]
    assert {s.id.split(":")[0] for s in added} == {"lspet"}
    assert all(s.xy.shape == (14, 2) for s in added)
    assert load(source, "val").source == "synthetic:40"
    assert len(load(source, "val")) == len(load("synthetic:40", "val"))
    part = load(source, "train[:10]")
    assert len(part) == 10 + len(added)  # the part is of the first set


def test_joints_that_a_set_lacks_are_unlabelled(tmp_path):
    coco = coco_file(tmp_path)
    with pytest.raises(DataError, match="joints"):
        load(f"synthetic:40,coco:{coco}", "train")


def test_an_empty_part_is_said():
    with pytest.raises(DataError, match="no samples"):
        load("synthetic:40", "train[100:]")


def test_all_and_sums_with_train_take_the_other_sets_in(tmp_path):
    source = f"synthetic:40,lspet:{lspet_folder(tmp_path)}"
    assert len(read_annotations(source, "all")) == 40 + 4
    assert len(read_annotations(source, "train[:5]+val")) == (
        5 + len(load("synthetic:40", "val")) + 4
    )
    with pytest.raises(DataError, match="no annotation file"):
        read_annotations("synthetic:40,coco:/nowhere.json", "all")


def test_an_error_crosses_processes_whole():
    error = copy.copy(DataError("a.jpg is cut short", "get it again"))  # as pickle does it
    assert (error.cause, error.remedy) == ("a.jpg is cut short", "get it again")
    assert isinstance(error, DataError)


def test_data_that_a_card_only_names_by_kind_must_be_given():
    with pytest.raises(DataError, match="--data KIND:PATH"):
        load("coco+coco+lspet", "val")


def _photo(tmp_path, progressive=0):
    image = np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8)
    flags = [cv2.IMWRITE_JPEG_PROGRESSIVE, progressive]
    return cv2.imencode(".jpg", image, flags)[1].tobytes()


@pytest.mark.parametrize("progressive", [0, 1])
def test_a_photo_with_a_video_behind_it_is_read_and_a_truncated_one_is_not(tmp_path, progressive):
    photo = _photo(tmp_path, progressive)
    video = b"\x00\x00\x00\x18ftypmp42" + b"\xff\xda\x00\x08" * 300
    assert decode_image(photo + video, "motion.jpg").shape == (60, 80, 3)
    with pytest.raises(DataError, match="truncated"):
        decode_image(photo[: 2 * len(photo) // 3], "cut.jpg")


def test_places_that_are_no_numbers_count_for_nothing_where_nothing_is_labelled(tmp_path):
    nan = float("nan")
    file = coco_file(tmp_path, keypoints=[12, 12, 2, 30, 40, 1, nan, nan, 0])
    poses = load(f"coco:{file}", "all")
    xy = np.stack([s.xy for s in poses.samples])
    assert np.isfinite(xy).all()
    assert score(poses, xy, "oks").value == pytest.approx(100)
    assert write_crops(poses, tmp_path / "crops", CropOptions(suffix=".jpg"), lambda _: None)


def test_persons_of_every_further_set_have_ids_of_their_own(tmp_path):
    """Corrections find persons by them."""
    places = []
    for name in "abc":
        (tmp_path / name).mkdir()
        places.append(f"coco:{coco_file(tmp_path / name)}@all")
    samples = load(",".join([*places, places[1]]), "all").samples
    ids = [s.id for s in samples]
    assert len(ids) == 8
    assert len(set(ids)) == 6  # one that is named twice is one
