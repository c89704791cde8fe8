import json

import cv2
import numpy as np
import pytest

from okdhp_edge.errors import OutputError
from okdhp_edge.pose.result import Pose
from okdhp_edge.pose.skeleton import LSP14
from okdhp_edge.run import sink as sinks
from okdhp_edge.run.sink import JsonSink, VideoSink
from okdhp_edge.run.source import Frame

IMAGE = np.full((48, 64, 3), 90, np.uint8)
POSE = Pose(LSP14, np.ones((14, 2), np.float32), np.ones(14, np.float32))


def _frame(number):
    return Frame(number, IMAGE, 0, number / 30)


def test_poses_are_one_object_a_line(tmp_path):
    sink = JsonSink(tmp_path / "p.jsonl")
    sink.put(_frame(0), IMAGE, POSE)
    sink.put(_frame(1), IMAGE, None)
    assert not (tmp_path / "p.jsonl").exists()
    sink.close(good=True)
    lines = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text().splitlines()]
    assert [len(line["people"]) for line in lines] == [1, 0]
    assert lines[0]["people"][0]["joints"]["neck"] == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("name", ["v.mp4", "v.avi"])
def test_a_video_plays_back_with_its_frames(tmp_path, name):
    sink = VideoSink(tmp_path / name, 25.0)
    for number in range(10):
        sink.put(_frame(number), IMAGE, None)
    assert not (tmp_path / name).exists()
    sink.close(good=True)
    capture = cv2.VideoCapture(str(tmp_path / name))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 10
    assert [p.name for p in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("kind", [JsonSink, lambda p: VideoSink(p, 25.0)])
def test_a_failed_run_leaves_nothing(tmp_path, kind):
    sink = kind(tmp_path / "out.mp4")
    sink.put(_frame(0), IMAGE, POSE)
    sink.close(good=False)
    assert not list(tmp_path.iterdir())


def test_a_video_that_cannot_be_read_back_is_an_error(tmp_path, monkeypatch):
    """What a full disk looks like: OpenCV itself reports nothing."""
    sink = VideoSink(tmp_path / "v.mp4", 25.0)
    sink.put(_frame(0), IMAGE, None)
    monkeypatch.setattr(sinks, "_holds", lambda *_: False)
    with pytest.raises(OutputError, match="could not be completed; check free space"):
        sink.close(good=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", [JsonSink, lambda p: VideoSink(p, 25.0)])
def test_a_place_that_does_not_exist_is_said_before_the_run(tmp_path, kind):
    with pytest.raises(OutputError, match="does not exist"):
        kind(tmp_path / "gone" / "out.mp4")


def test_a_full_disk_while_writing_poses_is_one_line(tmp_path):
    sink = JsonSink(tmp_path / "p.jsonl")
    sink._file.close()
    sink._file = open("/dev/full", "w")  # noqa: SIM115
    sink.put(_frame(0), IMAGE, POSE)
    with pytest.raises(OutputError, match="No space left"):
        sink.close(good=True)
    assert not (tmp_path / "p.jsonl").exists()
