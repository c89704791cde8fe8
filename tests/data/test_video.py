"""What the stream says is believed: shapes, rates, ends, and nothing larger than 8K."""

import struct
import subprocess
import sys
from contextlib import closing
from fractions import Fraction

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from okdhp_edge.data.video import VideoReader
from okdhp_edge.errors import DataError
from okdhp_edge.run.sources.videos import VideoSource


def write(path, shades, *, size=(64, 48), times=None, rate=30, codec="mpeg4"):
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for number, shade in enumerate(shades):
            frame = av.VideoFrame.from_ndarray(
                np.full((size[1], size[0], 3), shade, np.uint8), format="bgr24"
            )
            seconds = number / rate if times is None else times[number]
            frame.pts, frame.time_base = round(1000 * seconds), Fraction(1, 1000)
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def test_an_uncompressed_avi_from_the_bottom_up_is_upright(tmp_path):
    file, shown = tmp_path / "a.avi", np.zeros((8, 16, 3), np.uint8)
    shown[0], shown[1, :4] = 200, 50
    with av.open(str(file), "w") as container:
        stream = container.add_stream("rawvideo", rate=10)
        stream.width, stream.height, stream.pix_fmt = 16, 8, "bgr24"
        # Stored from the bottom up, the first row is the lowest.
        lowest_first = av.VideoFrame.from_ndarray(shown[::-1].copy(), format="bgr24")
        for packet in stream.encode(lowest_first):
            container.mux(packet)
    content = bytearray(file.read_bytes())
    height = content.index(b"strf") + 16
    content[height : height + 4] = struct.pack("<i", 8)  # negative: from the top down
    file.write_bytes(content)
    with closing(VideoReader(file)) as reader:
        image = reader.read().image
    np.testing.assert_array_equal(image, shown)
    assert image.flags.c_contiguous


def read_all(reader):
    frames = []
    while (frame := reader.read()) is not None:
        frames.append(frame)
    return frames


@pytest.mark.parametrize(
    ("name", "frames", "last"),
    [("res_aspect.ts", 60, 1.967), ("audiolonger.webm", 90, 2.967), ("offs.mkv", 90, 2.967),
     ("hold.gif", 10, 0.9), ("raw.h264", 90, 2.967)],
)  # fmt: skip
def test_strangers_videos_are_whole(real_data, name, frames, last):
    reader = VideoReader(real_data / "strangers" / name)
    found = read_all(reader)
    assert len(found) == frames and not reader.is_cut_off and not reader.error
    assert found[-1].seconds == pytest.approx(last, abs=0.01)


def test_each_frame_has_its_own_shape(real_data):
    shapes = [f.image.shape for f in read_all(VideoReader(real_data / "strangers/res_aspect.ts"))]
    assert shapes == [(360, 640, 3)] * 30 + [(640, 360, 3)] * 30


@settings(max_examples=20)
@given(st.lists(st.integers(1, 400), min_size=2, max_size=12), st.integers(0, 100_000))
def test_times_are_the_streams_own_from_its_first_frame(tmp_path_factory, steps, start):
    times = start / 1000 + np.cumsum([0, *steps]) / 1000
    path = tmp_path_factory.mktemp("v") / "v.mkv"
    write(path, range(len(times)), times=times)
    found = [frame.seconds for frame in read_all(VideoReader(path))]
    np.testing.assert_allclose(found, times - times[0], atol=2e-3)


def test_a_clock_that_jumps_is_noted_and_time_goes_on(tmp_path):
    times = [0, 0.03, 0.07, 90_000, 90_000.03]
    source = VideoSource(write(tmp_path / "v.mkv", range(5), times=times))
    seconds = []
    while (frame := source.read()) is not None:
        seconds.append(frame.seconds)
    assert seconds[-1] < 0.2 and np.all(np.diff(seconds) > 0)
    assert any("jump by 90000 s at frame 3" in note for note in source.notes)


@pytest.mark.parametrize("at", [0.0, 0.5, 1.0, 1.9])
def test_a_frame_is_found_by_its_time(tmp_path, at):
    reader = VideoReader(write(tmp_path / "v.mp4", [4 * i for i in range(60)]))
    reader.seek(at)
    frame = reader.read()
    assert int(frame.image.mean()) == pytest.approx(4 * round(at * 30), abs=3)
    assert frame.seconds == reader.seconds == pytest.approx(at, abs=2e-3)


@pytest.mark.parametrize("codec", ["mpeg4", "mpeg2video", "libx264"])
@pytest.mark.parametrize("at", [0.5, 3.0, 8.0, 13.0, 19.0])
def test_a_transport_stream_with_few_key_frames_is_entered_anywhere(tmp_path, codec, at):
    """FFmpeg finds its packets by searching, and some decoders show what they cannot decode."""
    path = tmp_path / "v.ts"
    shades = [(37 * number) % 200 + 20 for number in range(200)]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.gop_size = 120
        for number, shade in enumerate(shades):
            frame = av.VideoFrame.from_ndarray(
                np.full((48, 64, 3), shade, np.uint8), format="bgr24"
            )
            frame.pts, frame.time_base = number, Fraction(1, 10)
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    with closing(VideoReader(path)) as reader:
        expected = read_all(reader)[round(10 * at) :]
    with closing(VideoReader(path)) as reader:
        reader.seek(at)
        found = read_all(reader)
    assert found[0].seconds == pytest.approx(at, abs=1e-3)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours.image, theirs.image)


@pytest.mark.parametrize("container", ["v.mp4", "v.mkv"])
@pytest.mark.parametrize("at", [0.0, 2.0, 3.9])
def test_after_a_jump_within_the_file_times_go_on_to_its_end(tmp_path, container, at):
    whole = [
        frame.seconds for frame in read_all(VideoReader(write(tmp_path / container, [9] * 120)))
    ]
    reader = VideoReader(tmp_path / container)
    reader.seek(at)
    rest = [frame.seconds for frame in read_all(reader)]
    np.testing.assert_allclose(rest, whole[-len(rest) :], atol=2e-3)
    assert len(rest) == 120 - round(30 * at)
    assert not reader.is_cut_off and not reader.jumps


@pytest.mark.parametrize("at", [0.0, 50.0])
def test_in_a_part_of_a_file_its_clock_leaps_as_it_does(tmp_path, at):
    times = [0, 0.03, 0.07, 90_000, 90_000.03]
    reader = VideoReader(write(tmp_path / "v.mkv", range(5), times=times))
    reader.seek(at)
    seconds = [frame.seconds for frame in read_all(reader)]
    np.testing.assert_allclose(seconds, [t for t in times if t >= at], atol=2e-3)


def test_a_name_that_is_not_utf8_is_refused_and_ends_nothing(tmp_path):
    path = write(tmp_path / "v.mp4", range(3))
    strange = tmp_path / "bad\udcff.mp4"
    path.rename(strange)
    with pytest.raises(DataError, match="not valid UTF-8"):
        VideoReader(strange)


BOMB = """
import sys
from okdhp_edge.data.video import VideoReader
from okdhp_edge.errors import DataError
try:
    reader = VideoReader(sys.argv[1])
    assert reader.read() is None and reader.error
except DataError:
    pass
# Of this program alone; getrusage counts what the process was before it.
lines = open("/proc/self/status").read().splitlines()
print(next(int(x.split()[1]) // 1024 for x in lines if x.startswith("VmHWM")))
"""


def _large_h264(path):
    write(path, [0] * 4, size=(8192, 8192), codec="libx264")


def _large_mjpeg(path):
    with av.open(str(path), "w", format="avi") as container:
        stream = container.add_stream("mjpeg", rate=30)
        stream.width, stream.height, stream.pix_fmt = 12000, 12000, "yuvj420p"
        frame = av.VideoFrame(12000, 12000, "yuvj420p")
        for packet in [*stream.encode(frame), *stream.encode()]:
            container.mux(packet)


def _large_gif(path):
    frame = struct.pack("<HHHHB", 0, 0, 16000, 16000, 0)
    head = struct.pack("<HHBBB", 16000, 16000, 0, 0, 0)
    path.write_bytes(b"GIF89a" + head + b"," + frame + b"\2\2L\1\0;")


@pytest.mark.slow
@pytest.mark.parametrize("make", [_large_h264, _large_mjpeg, _large_gif])
def test_a_small_file_of_huge_frames_takes_little_memory(tmp_path, make):
    make(tmp_path / "v.mp4")
    run = [sys.executable, "-c", BOMB, str(tmp_path / "v.mp4")]
    done = subprocess.run(run, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 500


def test_frames_before_an_edit_lists_start_are_not_missing(tmp_path):
    """They are stored and counted, and FFmpeg does not show them."""
    reader = VideoReader(write(tmp_path / "v.mp4", [90] * 60))
    reader.frame_count = 120
    assert len(read_all(reader)) == 60 and not reader.is_cut_off
