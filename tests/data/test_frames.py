import cv2
import numpy as np
import pytest

from okdhp_edge.data.frames import VideoFrame, unlabelled
from okdhp_edge.data.video import VideoReader
from okdhp_edge.errors import DataError
from tests.data.test_video import write
from tests.label.test_images import write_video


def test_a_folder_is_read_evenly_with_whole_boxes(tmp_path):
    for number in range(10):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((20, 30, 3), number, np.uint8))
    (tmp_path / "notes.txt").write_text("no picture")
    samples = unlabelled("folder", tmp_path, 4)
    assert [s.id for s in samples] == ["0.png", "3.png", "6.png", "9.png"]
    assert samples[1].box.tolist() == [0, 0, 30, 20]
    assert samples[1].image.read()[0, 0, 0] == 3 and samples[1].labelled.size == 0


def test_frames_that_a_video_announces_and_does_not_show_are_left_out(tmp_path, monkeypatch):
    write_video(tmp_path / "v.avi", range(12), 12)
    monkeypatch.setattr(VideoReader, "count_frames", lambda _: 20)
    found = [s.id for s in unlabelled("video", tmp_path / "v.avi", 20)]
    assert found == [f"v.avi#{n}" for n in range(12)]
    monkeypatch.setattr(VideoReader, "read", lambda _: None)
    with pytest.raises(DataError, match="no image of"):
        unlabelled("video", tmp_path / "v.avi", 20)


def test_a_frame_that_is_not_there_is_said(tmp_path):
    with pytest.raises(DataError, match=r"absent.mp4 cannot be opened"):
        VideoFrame(tmp_path / "absent.mp4", 7).read()
    with pytest.raises(DataError, match=r"absent.mp4 cannot be opened"):
        unlabelled("video", tmp_path / "absent.mp4", 5)


def test_a_raw_stream_is_counted(tmp_path):
    """It announces no length, and knows no times to seek by."""
    path = write(tmp_path / "v.m4v", [20 * i for i in range(10)])
    found = unlabelled("video", path, 4)
    shades = [round(sample.image.read().mean()) for sample in found]
    assert shades == pytest.approx([0, 60, 120, 180], abs=4)
