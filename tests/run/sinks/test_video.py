import subprocess
import sys

import cv2
import numpy as np
import pytest

from okdhp_edge.errors import OutputError
from okdhp_edge.run.sinks.video import VideoSink, fit_to_size
from tests.conftest import REPOSITORY
from tests.helpers.running import frame_result

IMAGE = np.full((48, 64, 3), 90, np.uint8)


def _playable(path):
    """Seconds at which each frame stands, by a reader that is not the writer."""
    capture = cv2.VideoCapture(str(path))
    times = []
    while capture.read()[0]:
        times.append(capture.get(cv2.CAP_PROP_POS_MSEC) / 1000)
    return times


@pytest.mark.parametrize("name", ["v.mp4", "v.avi", "v.mkv", "v.mov"])
def test_a_video_plays_back_with_its_frames(tmp_path, name):
    sink = VideoSink(tmp_path / name, 25.0)
    for number in range(10):
        sink.write(frame_result(number), IMAGE)
    for _ in range(2):
        sink.close(success=True)
        assert len(_playable(tmp_path / name)) == 10
        assert [p.name for p in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["v.mp4", "v.mkv"])
def test_frames_stand_at_the_times_of_the_source(tmp_path, name):
    times = [0.0, 0.033, 0.1, 0.5, 1.25, 1.3]
    sink = VideoSink(tmp_path / name, 30.0)
    for number, seconds in enumerate(times):
        sink.write(frame_result(number, seconds=seconds), IMAGE)
    sink.close(success=True)
    assert np.allclose(_playable(tmp_path / name), times, atol=0.002)


def test_a_pause_of_half_an_hour_ends_no_avi(tmp_path):
    times = [0.0, 0.04, 2500.0, 2500.04]
    sink = VideoSink(tmp_path / "v.avi", 25.0)
    for number, seconds in enumerate(times):
        sink.write(frame_result(number, seconds=seconds), IMAGE)
    sink.close(success=True)
    capture = cv2.VideoCapture(str(tmp_path / "v.avi"))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == pytest.approx(2500 * 25, abs=5)


def test_times_that_stand_still_or_go_back_break_nothing(tmp_path):
    sink = VideoSink(tmp_path / "v.mp4", 30.0)
    for number, seconds in enumerate([0.0, 0.1, 0.1, 0.05, 0.2]):
        sink.write(frame_result(number, seconds=seconds), IMAGE)
    sink.close(success=True)
    times = _playable(tmp_path / "v.mp4")
    assert len(times) == 5 and (np.diff(times) > 0).all()


@pytest.mark.parametrize("size", [(48, 63), (47, 64), (47, 63)])
def test_odd_sizes_lose_nothing(tmp_path, size):
    sink = VideoSink(tmp_path / "v.mp4", 25.0)
    sink.write(frame_result(0), np.full((*size, 3), 90, np.uint8))
    sink.close(success=True)
    good, picture = cv2.VideoCapture(str(tmp_path / "v.mp4")).read()
    assert good and picture.shape[0] >= size[0] and picture.shape[1] >= size[1]


@pytest.mark.parametrize("name", ["v.mp4", "v.mkv"])
def test_a_killed_run_leaves_a_video_that_plays(tmp_path, name):
    """In a process of its own, which ends without closing anything."""
    code = f"""
import os, numpy as np
from pathlib import Path
from okdhp_edge.run.sinks.video import VideoSink
from tests.conftest import REPOSITORY
from tests.helpers.running import frame_result
rng = np.random.default_rng(0)
sink = VideoSink(Path({str(tmp_path / name)!r}), 25.0)
for number in range(100):
    image = rng.integers(0, 255, (240, 320, 3), np.uint8)
    sink.write(frame_result(number, seconds=number / 25), image)
os.kill(os.getpid(), 9)
"""
    subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=False)
    assert len(_playable(tmp_path / name)) >= 70


def test_a_failed_run_keeps_what_was_recorded(tmp_path):
    sink = VideoSink(tmp_path / "out.mp4", 25.0)
    for number in range(3):
        sink.write(frame_result(number), IMAGE)
    sink.close(success=False)
    assert len(_playable(tmp_path / "out.mp4")) == 3


@pytest.mark.parametrize("name", ["v.mp4", "v.mkv", "v.mov"])
def test_a_video_appears_when_it_plays(tmp_path, name):
    """Before that no player opens it; an old one stays."""
    (tmp_path / name).write_bytes(b"old")
    sink = VideoSink(tmp_path / name, 5.0)
    for number in range(5):
        sink.write(frame_result(number, seconds=number / 5), np.zeros((48, 64, 3), np.uint8))
    assert (tmp_path / name).read_bytes() == b"old"
    for number in range(5, 15):
        sink.write(frame_result(number, seconds=number / 5), np.zeros((48, 64, 3), np.uint8))
    assert cv2.VideoCapture(str(tmp_path / name)).read()[0]
    sink.close(success=True)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_an_old_video_stays_where_no_frame_came(tmp_path):
    (tmp_path / "v.mp4").write_bytes(b"old")
    VideoSink(tmp_path / "v.mp4", 25.0).close(success=False)
    assert (tmp_path / "v.mp4").read_bytes() == b"old"


def test_an_old_video_stays_where_none_could_be_written(tmp_path):
    """On a full disk, for one: a header alone does not replace it."""
    (tmp_path / "v.mp4").write_bytes(b"old")
    sink = VideoSink(tmp_path / "v.mp4", 25.0)
    sink._open((64, 48))
    sink.close(success=False)
    assert (tmp_path / "v.mp4").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["v.mp4"]


def test_slow_frames_make_short_fragments_too(tmp_path):
    sink = VideoSink(tmp_path / "v.mp4", 30.0)
    for number in range(6):
        sink.write(frame_result(number, seconds=number * 2.0), IMAGE)
    assert len(_playable(tmp_path / "v.mp4")) >= 3  # though the run goes on
    sink.close(success=True)


def test_pictures_of_other_sizes_are_fitted_in(tmp_path):
    sink = VideoSink(tmp_path / "v.mp4", 25.0)
    for shape in ((48, 64, 3), (96, 64, 3), (20, 300, 3)):
        sink.write(frame_result(0), np.full(shape, 200, np.uint8))
    sink.close(success=True)
    assert cv2.VideoCapture(str(tmp_path / "v.mp4")).get(cv2.CAP_PROP_FRAME_COUNT) == 3
    tall = fit_to_size(np.full((96, 64, 3), 200, np.uint8), (64, 48))
    assert tall.shape == (48, 64, 3)
    assert (tall[:, :32] == 200).all() and (tall[:, 32:] == 0).all()


def test_a_suffix_that_is_no_video_is_said_before_the_run(tmp_path):
    with pytest.raises(OutputError, match="no video suffix; use one of .mp4"):
        VideoSink(tmp_path / "v.gifx", 25.0)


def test_a_place_that_does_not_exist_is_said_before_the_run(tmp_path):
    with pytest.raises(OutputError, match="does not exist"):
        VideoSink(tmp_path / "gone" / "out.mp4", 25.0)


def test_frames_too_large_for_the_codec_name_another(tmp_path):
    sink = VideoSink(tmp_path / "v.mp4", 30.0)
    with pytest.raises(OutputError, match=r"at most 8191 pixels per side, not 8192x16; save it as"):
        sink.write(frame_result(0), np.zeros((16, 8192, 3), np.uint8))


@pytest.mark.parametrize("fps", [1e-5, 1e6])
def test_any_rate_can_be_saved(tmp_path, fps):
    sink = VideoSink(tmp_path / "v.mp4", fps)
    for number in range(3):
        sink.write(frame_result(number), IMAGE)
    sink.close(success=True)
    assert len(_playable(tmp_path / "v.mp4")) == 3


def test_an_input_of_the_hidden_files_kind_of_name_is_not_written_over(tmp_path):
    (tmp_path / ".v.mp4").write_bytes(b"input")
    sink = VideoSink(tmp_path / "v.mp4", 25.0)
    sink.write(frame_result(0), np.zeros((48, 64, 3), np.uint8))
    sink.close(success=True)
    assert (tmp_path / ".v.mp4").read_bytes() == b"input"
