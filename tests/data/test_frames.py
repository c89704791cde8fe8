import cv2
import numpy as np
import pytest

from okdhp_edge.data.frames import VideoFrame, unlabelled
from okdhp_edge.errors import DataError


def test_a_folder_is_read_evenly_with_whole_boxes(tmp_path):
    for number in range(10):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((20, 30, 3), number, np.uint8))
    (tmp_path / "notes.txt").write_text("no picture")
    samples = unlabelled("folder", tmp_path, 4)
    assert [s.id for s in samples] == ["0.png", "3.png", "6.png", "9.png"]
    assert samples[1].box.tolist() == [0, 0, 30, 20]
    assert samples[1].image.read()[0, 0, 0] == 3 and samples[1].labelled.size == 0


def test_a_frame_that_is_not_there_is_said(tmp_path):
    with pytest.raises(DataError, match=r"absent.mp4 cannot be opened"):
        VideoFrame(tmp_path / "absent.mp4", 7).read()
    with pytest.raises(DataError, match=r"absent.mp4 cannot be opened"):
        unlabelled("video", tmp_path / "absent.mp4", 5)
