import cv2
import numpy as np
import pytest

from okdhp_edge.errors import OutputError
from okdhp_edge.run.sinks.images import ImageSink
from tests.helpers.running import frame_result

IMAGE = np.full((48, 64, 3), 90, np.uint8)


@pytest.mark.parametrize("name", ["o.png", "o.jpg", "o.webp", "o.bmp"])
def test_one_picture_is_saved_as_its_suffix_says(tmp_path, name):
    sink = ImageSink(tmp_path / name)
    sink.write(frame_result(0, name="a.jpg"), IMAGE)
    sink.close(success=True)
    assert cv2.imread(str(tmp_path / name)).shape == IMAGE.shape


def test_a_folder_gives_a_folder_with_the_same_names(tmp_path):
    sink = ImageSink(tmp_path / "out")
    for number, name in enumerate(["a.jpg", "b.png"]):
        sink.write(frame_result(number, name=name), IMAGE)
    sink.close(success=True)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a.jpg", "b.png"]


def test_a_photo_in_a_format_that_cannot_be_written_becomes_png(tmp_path):
    sink = ImageSink(tmp_path / "out")
    for number, name in enumerate(["a.heic", "b.mpo", "c.jpg"]):
        sink.write(frame_result(number, name=name), IMAGE)
    saved = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert saved == ["a.heic.png", "b.mpo.png", "c.jpg"]


def test_a_panorama_is_saved(tmp_path):
    sink = ImageSink(tmp_path / "o.png")
    sink.write(frame_result(0, name="a.png"), np.zeros((10, 3000, 3), np.uint8))
    assert cv2.imread(str(tmp_path / "o.png")).shape == (10, 3000, 3)


@pytest.mark.parametrize(
    ("name", "says"), [("o.mp4", "use a folder"), ("gone/o.png", "does not exist")]
)
def test_what_cannot_be_saved_is_said_before_the_run(tmp_path, name, says):
    with pytest.raises(OutputError, match=says):
        ImageSink(tmp_path / name)


def test_two_pictures_do_not_fit_into_one(tmp_path):
    sink = ImageSink(tmp_path / "o.png")
    sink.write(frame_result(0, name="a.jpg"), IMAGE)
    with pytest.raises(OutputError, match="the source has more; pass a folder"):
        sink.write(frame_result(1, name="b.jpg"), IMAGE)


def test_a_size_that_a_format_cannot_hold_names_the_remedy(tmp_path):
    sink = ImageSink(tmp_path / "o.jpg")
    with pytest.raises(OutputError, match="66000x4 cannot be written as .jpg; save it as .png"):
        sink.write(frame_result(0, name="a.png"), np.zeros((4, 66000, 3), np.uint8))
    assert not list(tmp_path.iterdir())
