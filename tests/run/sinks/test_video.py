import cv2
import numpy as np
import pytest

from okdhp_edge.errors import OutputError
from okdhp_edge.run.sinks import video
from okdhp_edge.run.sinks.video import VideoSink, fitted
from tests.helpers.running import seen_frame

IMAGE = np.full((48, 64, 3), 90, np.uint8)


@pytest.mark.parametrize("name", ["v.mp4", "v.avi"])
def test_a_video_plays_back_with_its_frames(tmp_path, name):
    sink = VideoSink(tmp_path / name, 25.0)
    for number in range(10):
        sink.put(seen_frame(number), IMAGE)
    assert not (tmp_path / name).exists()
    for _ in range(2):
        sink.close(good=True)
        capture = cv2.VideoCapture(str(tmp_path / name))
        assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 10
        assert [p.name for p in tmp_path.iterdir()] == [name]


def test_pictures_of_other_sizes_are_fitted_in(tmp_path):
    sink = VideoSink(tmp_path / "v.mp4", 25.0)
    for shape in ((48, 64, 3), (96, 64, 3), (20, 300, 3)):
        sink.put(seen_frame(0), np.full(shape, 200, np.uint8))
    sink.close(good=True)
    assert cv2.VideoCapture(str(tmp_path / "v.mp4")).get(cv2.CAP_PROP_FRAME_COUNT) == 3
    tall = fitted(np.full((96, 64, 3), 200, np.uint8), (64, 48))
    assert tall.shape == (48, 64, 3)
    assert (tall[:, :32] == 200).all() and (tall[:, 32:] == 0).all()


def test_a_failed_run_leaves_nothing(tmp_path):
    sink = VideoSink(tmp_path / "out.mp4", 25.0)
    sink.put(seen_frame(0), IMAGE)
    sink.close(good=False)
    assert not list(tmp_path.iterdir())


def test_a_video_that_cannot_be_read_back_is_an_error(tmp_path, monkeypatch):
    """What a full disk looks like: OpenCV itself reports nothing."""
    sink = VideoSink(tmp_path / "v.mp4", 25.0)
    sink.put(seen_frame(0), IMAGE)
    monkeypatch.setattr(video, "_holds", lambda *_: False)
    with pytest.raises(OutputError, match="could not be completed; check free space"):
        sink.close(good=True)
    assert not list(tmp_path.iterdir())


def test_a_place_that_does_not_exist_is_said_before_the_run(tmp_path):
    with pytest.raises(OutputError, match="does not exist"):
        VideoSink(tmp_path / "gone" / "out.mp4", 25.0)
