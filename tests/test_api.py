import subprocess
import sys

import cv2
import numpy as np
import pytest
from PIL import Image

import okdhp_edge
from okdhp_edge.backends.base import Backend
from okdhp_edge.data.synthetic import SyntheticScene
from okdhp_edge.errors import DataError, OkdhpError
from okdhp_edge.pose.skeleton import LSP14

PICTURE = SyntheticScene((320, 240)).frame(0.0)[0]
BOX = (60, 20, 150, 200)


@pytest.fixture(scope="module")
def model(exported):
    with okdhp_edge.load(str(exported), backend="onnxruntime", threads=1) as loaded:
        yield loaded


def test_each_box_gives_a_pose_in_pixels_of_the_picture(model, tmp_path):
    cv2.imwrite(str(tmp_path / "p.png"), PICTURE)
    for picture in (PICTURE, tmp_path / "p.png", str(tmp_path / "p.png")):
        poses = model(picture, boxes=[BOX, np.array(BOX) + 5])
        assert len(poses) == 2 and poses[0].skeleton.joints == LSP14.joints
        assert (poses[0].xy > -60).all() and (poses[0].xy < 400).all()


def test_without_boxes_somebody_is_found_or_nobody(model):
    assert len(model(PICTURE)) in (0, 1)
    assert model(np.zeros((100, 100, 3), np.uint8)) is not None


def test_it_says_what_it_is(model):
    assert model.skeleton.joints == LSP14.joints
    assert (model.backend, model.precision) == ("onnxruntime", "fp32")


@pytest.mark.parametrize(
    ("picture", "boxes", "says"),
    [
        (np.zeros((10, 10), np.uint8), None, r"\(height, width, 3\), got uint8 \(10, 10\)"),
        (np.zeros((10, 10, 3), np.float32), None, "got float32"),
        (np.zeros((0, 10, 3), np.uint8), None, "got uint8"),
        (Image.fromarray(np.full((9, 9), 20_000, np.uint16)), None, "PIL image of mode I;16"),
        (Image.fromarray(np.full((9, 9), 0.5, np.float32)), None, "PIL image of mode F"),
        (Image.fromarray(PICTURE).crop((5, 0, 5, 9)), None, r"size \(0, 9\)"),
        ("gone.jpg", None, "does not exist"),
        (PICTURE, [(0, 0, 10)], "invalid box"),
        (PICTURE, [(0, 0, 10, -5)], "invalid box"),
    ],
)
def test_what_cannot_be_used_is_one_line(model, picture, boxes, says):
    with pytest.raises(DataError, match=says):
        model(picture, boxes)


def test_the_package_is_light_until_it_is_used():
    heavy = ("cv2", "numpy", "onnxruntime")
    code = f"import okdhp_edge, sys; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    with pytest.raises(AttributeError):
        okdhp_edge.nonsense  # noqa: B018


def test_the_package_runs_as_a_module():
    done = subprocess.run([sys.executable, "-m", "okdhp_edge", "--help"], capture_output=True,
                          text=True, check=False)  # fmt: skip
    assert done.returncode == 0 and "train" in done.stdout


def test_a_model_that_cannot_be_used_is_closed_again(monkeypatch, exported):
    closed = []
    monkeypatch.setattr(Backend, "close", lambda backend: closed.append(backend.name))
    with pytest.raises(OkdhpError, match="gone"):
        okdhp_edge.load(str(exported), backend="onnxruntime", detector="gone.onnx")
    assert closed


def test_a_turned_photo_is_read_upright_from_a_path_and_from_pil(model, tmp_path):
    turned, exif = Image.fromarray(PICTURE[..., ::-1].copy()), Image.Exif()
    exif[0x0112] = 6  # 90 degrees
    turned.save(tmp_path / "t.png", exif=exif)
    box = [(20, 20, 150, 200)]
    for_path = model(tmp_path / "t.png", boxes=box)[0]
    with Image.open(tmp_path / "t.png") as opened:
        for_pil = model(opened, boxes=box)[0]
    np.testing.assert_allclose(for_path.xy, for_pil.xy, atol=1e-3)


def test_a_pace_that_cannot_be_kept_is_refused():
    for wrong in ({"stride": 0}, {"max_fps": 0}, {"max_fps": -1}):
        with pytest.raises(OkdhpError, match="cannot take every"):
            next(okdhp_edge.stream("synthetic:2", **wrong))
