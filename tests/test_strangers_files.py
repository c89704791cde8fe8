"""Small files that people's tools and cameras make: read whole, or with a word."""

import json
import subprocess
import sys
import warnings

import av
import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import okdhp_edge
from okdhp_edge.artifacts.card import SkeletonSpec
from okdhp_edge.data.image_file import count_images, read_image
from okdhp_edge.data.load import load, read_annotations
from okdhp_edge.data.sample import split_sources
from okdhp_edge.errors import DataError
from okdhp_edge.inference.person_detector import Detection
from okdhp_edge.inference.pose_estimator import PoseEstimator
from okdhp_edge.inference.tracking.detection_scheduler import DetectionScheduler
from okdhp_edge.inference.tracking.multi_person import MultiPersonTracker
from okdhp_edge.inference.tracking.single_person import SinglePersonTracker
from okdhp_edge.system.latency import StageClock
from tests.helpers.fakes import FakeBackend, fake_card
from tests.helpers.made_data import coco_file, picture

_MODEL = ("--model", "lite", "--backend", "openvino", "--threads", "1", "--no-window")


def _run(*words, cwd=None):
    command = [sys.executable, "-m", "okdhp_edge", *map(str, words)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def _summary(done):
    assert done.returncode == 0, done.stderr[-600:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def strangers(real_data):
    return real_data / "strangers"


@pytest.fixture(scope="module")
def lite():
    with okdhp_edge.load("lite", backend="openvino", threads=1) as model:
        yield model


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "frames", "seconds"),
    [("res_aspect.ts", 60, 1.967), ("audiolonger.webm", 90, 2.967), ("offs.mkv", 90, 2.967),
     ("hold.gif", 10, 0.9), ("raw.h264", 90, 2.967)],
)  # fmt: skip
def test_videos_are_run_whole(strangers, tmp_path, name, frames, seconds):
    lines = tmp_path / "poses.jsonl"
    done = _run("run", "--source", strangers / name, *_MODEL, "--json", lines)
    assert _summary(done)["frames"] == frames
    records = [json.loads(line) for line in lines.read_text().splitlines()]
    assert records[-1]["seconds"] == pytest.approx(seconds, abs=0.01)
    if name == "res_aspect.ts":  # people in both halves, each in its own shape
        found = [bool(record["people"]) for record in records]
        assert np.mean(found[:30]) > 0.8 and np.mean(found[30:]) > 0.8


@pytest.mark.slow
def test_a_phones_photo_is_read_whole_everywhere(strangers, tmp_path, lite):
    photo = strangers / "IMG_TILED.HEIC"
    assert read_image(photo).shape == (1608, 1920, 3)
    with okdhp_edge.load("lite", backend="openvino", threads=1, detector="none") as one_person:
        assert len(one_person(photo)) <= 1
    # All 1920 x 1608 pixels, where one tile has 512: boxes are in the whole photo.
    boxes = [pose.box for pose in lite(photo)]
    assert all((box[:2] + box[2:] <= [1921, 1609]).all() for box in boxes)
    done = _run("run", "--source", photo, *_MODEL, "--save", tmp_path / "out.jpg")
    assert _summary(done)["frames"] == 1
    assert cv2.imread(str(tmp_path / "out.jpg")).shape == (1608, 1920, 3)


def test_without_its_package_a_phones_photo_is_refused_with_the_remedy(strangers, monkeypatch):
    monkeypatch.setattr("okdhp_edge.data.image_file.importlib.util.find_spec", lambda _: None)
    with pytest.raises(DataError, match=r"is HEIC, .*okdhp-edge\[heif\]"):
        read_image(strangers / "IMG_TILED.HEIC")


def test_an_animation_is_read_with_a_word_that_it_holds_more(strangers, lite):
    with pytest.warns(UserWarning, match=r"anim.webp holds 10 images: only the first is read"):
        lite(strangers / "anim.webp")
    done = _run("run", "--source", strangers / "anim.webp", *_MODEL)
    assert _summary(done)["frames"] == 1
    assert "anim.webp holds 10 images: only the first is read" in done.stderr


@pytest.mark.parametrize(
    ("place", "samples", "notes", "fatal"),
    [("coco:{}/coco_first_picture_missing", None, "", 1),
     ("yolo:{}/yolo_list_backslashes", None, "", 0),
     ("yolo:{}/yolo_two_classes", None, "rows of class 'racket'", 0)],
)  # fmt: skip
def test_sets_are_checked_right(strangers, place, samples, notes, fatal):
    done = _run("data", "check", "--data", place.format(strangers))
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["samples"] > 0
    assert len({p["sample"].split("#")[0] for p in found["problems"] if p["fatal"]}) == fatal
    assert done.returncode == (1 if fatal else 0)
    assert notes in done.stderr


def test_rackets_are_no_persons(strangers):
    poses = load(f"yolo:{strangers}/yolo_two_classes", "all")
    for sample in poses.samples:
        assert sample.labelled.sum() > 2


# The kinds, with files made here.


def test_images_in_a_file_are_counted(tmp_path):
    image = np.zeros((8, 8, 3), np.uint8)
    for name in ("a.png", "a.jpg", "a.webp", "a.tif", "a.bmp"):
        cv2.imwrite(str(tmp_path / name), image)
        assert count_images((tmp_path / name).read_bytes()) == 1
    cv2.imwritemulti(str(tmp_path / "pages.tif"), [image, image, image])
    assert count_images((tmp_path / "pages.tif").read_bytes()) == 3


@given(st.binary(max_size=60), st.sampled_from([b"RIFF\0\0\0\0WEBP", b"\x89PNG", b"II*\0", b"MM\0*",
                                                b"\xff\xd8MPF\0II*\0"]))  # fmt: skip
def test_counting_never_fails(tail, head):
    assert count_images(head + tail) >= 1


def test_colours_of_other_libraries_are_turned(lite):
    image = np.zeros((64, 48, 3), np.uint8)
    image[..., 2] = 200  # red, in BGR
    seen = []
    lite._search.update, before = lambda frame: seen.append(frame) or [], lite._search.update
    try:
        from PIL import Image

        lite(image)
        lite(Image.fromarray(image[..., ::-1].copy()))
        lite(av.VideoFrame.from_ndarray(image, format="bgr24"))
    finally:
        lite._search.update = before
    for frame in seen:
        np.testing.assert_array_equal(frame, image)


def test_a_tensor_says_no_order_of_colours(lite):
    import torch

    with pytest.raises(DataError, match=r"color order of an image of type torch.Tensor"):
        lite(torch.zeros(64, 48, 3, dtype=torch.uint8))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_annotations_of_windows_are_read(tmp_path, encoding):
    file = coco_file(tmp_path)
    file.write_bytes(file.read_text().encode(encoding))
    assert len(load(f"coco:{file}", "all")) == 2


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("slash", ["/", "\\"])
def test_yolo_lists_of_windows_lose_no_picture(tmp_path, encoding, slash):
    for name in ("a", "b"):
        picture(tmp_path / "images" / f"{name}.jpg")
        (tmp_path / "labels").mkdir(exist_ok=True)
        (tmp_path / "labels" / f"{name}.txt").write_text("0 .5 .5 .6 .6 .4 .4 .6 .6\n")
    (tmp_path / "train.txt").write_bytes(
        f"images{slash}a.jpg\r\nimages{slash}b.jpg\r\n".encode(encoding)
    )
    (tmp_path / "data.yaml").write_text("train: train.txt\nkpt_shape: [2, 2]\nnames: [person]\n")
    assert len(load(f"yolo:{tmp_path}", "all")) == 2


def test_an_empty_set_is_a_failed_check(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "data.yaml").write_text("train: images\nkpt_shape: [2, 2]\nnames: [person]\n")
    done = _run("data", "check", "--data", f"yolo:{tmp_path}")
    assert done.returncode == 1 and "contains no usable person" in done.stderr


def test_one_missing_picture_of_a_yolo_set_is_counted(tmp_path):
    picture(tmp_path / "images" / "a.jpg")
    (tmp_path / "labels").mkdir()
    for name in ("a", "b"):
        (tmp_path / "labels" / f"{name}.txt").write_text("0 .5 .5 .6 .6 .4 .4 .6 .6\n")
    (tmp_path / "train.txt").write_text("images/a.jpg\nimages/b.jpg\n")
    (tmp_path / "data.yaml").write_text("train: train.txt\nkpt_shape: [2, 2]\nnames: [person]\n")
    poses = read_annotations(f"yolo:{tmp_path}", "all")
    assert len(poses) == 1 and "missing images, such as b.jpg" in " ".join(poses.notes)


@pytest.mark.parametrize("split", ["train", "val", "all"])
def test_a_set_of_one_coco_file_is_divided_by_every_reader(tmp_path, split):
    content = json.loads(coco_file(tmp_path).read_text())
    content["images"] = [{"id": i, "file_name": f"{i}.jpg"} for i in range(20)]
    content["annotations"] = [
        {**content["annotations"][0], "id": i, "image_id": i} for i in range(20)
    ]
    for i in range(20):
        picture(tmp_path / "set" / "images" / f"{i}.jpg")
    folder = tmp_path / "set" / "annotations"
    folder.mkdir()
    (folder / "person_keypoints_train2017.json").write_text(json.dumps(content))
    assert 0 < len(load(f"coco:{tmp_path / 'set'}", split)) <= 20


def test_cocos_own_layout_has_an_all(tmp_path):
    content = json.loads(coco_file(tmp_path).read_text())
    for part in ("train2017", "val2017"):
        picture(tmp_path / "set" / part / "a.jpg")
        folder = tmp_path / "set" / "annotations"
        folder.mkdir(exist_ok=True)
        (folder / f"person_keypoints_{part}.json").write_text(json.dumps(content))
    assert len(load(f"coco:{tmp_path / 'set'}", "all")) == 4
    assert len(load(f"coco:{tmp_path / 'set'}", "val")) == 2


@settings(max_examples=15)
@given(st.text("ab:,;=@# é'", min_size=1, max_size=12).filter(lambda s: s.strip(" .") == s))
def test_any_name_can_be_written(tmp_path_factory, name):
    folder = tmp_path_factory.mktemp("n") / name
    file = coco_file(folder)
    source = f"coco:{file}".replace(",", "\\,")
    assert len(load(source, "all")) == 2
    assert split_sources(f"{source},synthetic") == [f"coco:{file}", "synthetic"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a:b.mp4", "a,b c.mp4", "-x.mp4"])
def test_strange_names_are_read_and_written(strangers, tmp_path, name):
    (tmp_path / name).write_bytes((strangers / "hold.gif").read_bytes())
    done = _run("run", "--source", f"./{name}", *_MODEL, "--save", f"./o{name}", cwd=tmp_path)
    assert _summary(done)["frames"] == 10
    assert cv2.VideoCapture(str(tmp_path / f"o{name}")).read()[0]


def test_points_without_boxes_get_one_that_can_be_seen(tmp_path):
    file = coco_file(tmp_path, bbox=[12, 12, 0, 0], keypoints=[12, 12, 2, 0, 0, 0, 0, 0, 0])
    box = load(f"coco:{file}", "all").samples[0].box
    np.testing.assert_allclose(box, [4, 4, 16, 16])


def _few(joints, score=0.9):
    """A backend whose model has so many joints."""
    spec = SkeletonSpec(name="few", joints=tuple(f"k{i}" for i in range(joints)), limbs=())
    spread = np.array([[2.0, 2.0], [13.0, 3.0], [7.0, 13.0]])[:joints]
    return FakeBackend(score, spread, fake_card(skeleton=spec))


@pytest.mark.parametrize("score", [0.9, 0.1])
@pytest.mark.parametrize("joints", [1, 2, 3])
@pytest.mark.parametrize("people", ["one", "many"])
def test_a_model_of_few_joints_finds_somebody_who_is_there(joints, people, score):
    estimator = PoseEstimator(_few(joints, score), StageClock())
    if people == "one":
        tracker = SinglePersonTracker(estimator)
    else:
        box = Detection(np.array([40.0, 40, 200, 300]), 0.9)
        scheduler = DetectionScheduler(lambda _: [box], background=False)
        tracker = MultiPersonTracker(estimator, scheduler, 5)
    frame = np.zeros((480, 640, 3), np.uint8)
    found = [len(tracker.update(frame)) for _ in range(12)]
    assert found == [1] * 12 if score > 0.5 else not any(found)


def test_no_warning_is_given_of_ordinary_pictures(lite, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lite(picture(tmp_path / "a.jpg"))


@pytest.mark.skipif(not cv2.haveImageWriter("x.avif"), reason="this OpenCV writes no AVIF")
def test_avif_is_an_image(tmp_path, lite):
    picture(tmp_path / "a.png")
    cv2.imwrite(str(tmp_path / "a.avif"), cv2.imread(str(tmp_path / "a.png")))
    assert lite(tmp_path / "a.avif") == []
    done = _run("run", "--source", tmp_path / "a.avif", *_MODEL)
    assert _summary(done)["frames"] == 1


def test_label_studios_export_without_a_yaml_says_what_to_write(tmp_path):
    (tmp_path / "notes.json").write_text("{}")
    with pytest.raises(DataError, match=r"write it: .path: \.., .*notes.json has the names"):
        load(f"yolo:{tmp_path}", "all")


def test_apng_and_mpo_are_counted():
    chunk = b"\0\0\0\x08acTL" + (7).to_bytes(4, "big") + bytes(8)
    assert count_images(b"\x89PNG\r\n\x1a\n" + chunk + b"\0\0\0\0IDAT") == 7
    entry = (0xB001).to_bytes(2, "little") + (4).to_bytes(2, "little") + (1).to_bytes(4, "little")
    index = b"II*\0" + (8).to_bytes(4, "little") + (1).to_bytes(2, "little") + entry
    assert count_images(b"\xff\xd8\xff\xe2\0\x30MPF\0" + index + (2).to_bytes(4, "little")) == 2
