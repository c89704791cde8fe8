import os
import sys
import threading
import time
import types

import numpy as np
import pytest

from okdhp_edge.errors import SourceError
from okdhp_edge.run.sources import raw
from okdhp_edge.run.sources.open import open_source
from okdhp_edge.run.sources.raw import RawSource


def _pipe():
    reading, writing = os.pipe()
    return os.fdopen(reading, "rb", buffering=0), os.fdopen(writing, "wb", buffering=0)


def _frames(count):
    return np.random.default_rng(0).integers(0, 256, (count, 6, 8, 3), dtype=np.uint8)


def test_frames_come_through_a_pipe_however_they_are_cut():
    reading, writing = _pipe()
    sent = _frames(5)

    def write():
        data = sent.tobytes()
        for start in range(0, len(data), 37):
            writing.write(data[start : start + 37])
        writing.close()

    threading.Thread(target=write).start()
    source = RawSource(reading, (8, 6), None)
    for frame in sent:
        np.testing.assert_array_equal(source.read().image, frame)
    assert source.read() is None
    assert not source.live


def test_frames_come_from_a_file(tmp_path):
    (tmp_path / "raw").write_bytes(_frames(3).tobytes())
    with open(tmp_path / "raw", "rb", buffering=0) as file:
        source = RawSource(file, (8, 6), 25.0)
        assert sum(1 for _ in iter(source.read, None)) == 3
    assert source.live and source.fps == 25


def test_without_a_rate_frames_are_a_thirtieth_of_a_second_apart(tmp_path):
    file = tmp_path / "raw"
    file.write_bytes(bytes(3 * 2 * 2 * 3))
    with file.open("rb", buffering=0) as stream:
        source = raw.RawSource(stream, (2, 2), None)
        times = [source.read().seconds for _ in range(3)]
    assert times == pytest.approx([0, 1 / 30, 2 / 30])


def test_a_screen_that_goes_away_ends_the_run_in_one_line(monkeypatch):
    screen = _Screen()
    monkeypatch.setitem(sys.modules, "mss", types.SimpleNamespace(mss=lambda: screen))
    source = open_source("screen@200")
    monkeypatch.setattr(_Screen, "grab", lambda *_: 1 / 0)
    with pytest.raises(SourceError, match="cannot be read any more"):
        source.read()


def test_an_end_inside_a_frame_is_said():
    reading, writing = _pipe()
    writing.write(b"\x00" * 200)
    writing.close()
    source = RawSource(reading, (8, 6), None)
    assert source.read() is not None
    with pytest.raises(SourceError, match="ended 88 bytes before the end of a 8x6 frame"):
        source.read()


def test_a_silent_pipe_can_be_left():
    reading, _writing = _pipe()
    source = RawSource(reading, (8, 6), None)
    threading.Timer(0.1, source.stop).start()
    started = time.monotonic()
    assert source.read() is None
    assert time.monotonic() - started < 2


class _Screen:
    monitors = ({"left": 0, "top": 0, "width": 20, "height": 10},)
    closed = False

    def grab(self, region):
        shot = np.zeros((region["height"], region["width"], 4), np.uint8)
        shot[..., 0], shot[..., 3] = 7, 255
        return shot

    def close(self):
        self.closed = True


@pytest.mark.parametrize(
    ("text", "shape"), [("screen@200", (10, 20)), ("screen:1,2,6,4@200", (4, 6))]
)
def test_the_screen_or_a_part_of_it(monkeypatch, text, shape):
    screen = _Screen()
    monkeypatch.setitem(sys.modules, "mss", types.SimpleNamespace(mss=lambda: screen))
    source = open_source(text)
    started = time.perf_counter()
    frames = [source.read() for _ in range(10)]
    assert time.perf_counter() - started > 0.03
    assert frames[0].image.shape == (*shape, 3)
    assert (frames[0].image == [7, 0, 0]).all()
    source.close()
    assert screen.closed


def test_a_screen_that_cannot_be_read_says_why(monkeypatch):
    def broken():
        raise RuntimeError("no display")

    monkeypatch.setitem(sys.modules, "mss", types.SimpleNamespace(mss=broken))
    with pytest.raises(SourceError, match="no display.*desktop"):
        raw.ScreenSource(None, None)
    monkeypatch.setitem(sys.modules, "mss", None)
    with pytest.raises(SourceError, match=r"pip install okdhp-edge\[screen\]"):
        raw.ScreenSource(None, None)


def test_an_empty_input_is_an_error_and_nothing_stays_open(tmp_path):
    reading, writing = _pipe()
    writing.close()
    source = RawSource(reading, (8, 6), None)
    with pytest.raises(SourceError, match="the input is empty"):
        source.read()
    source.close()
    with pytest.raises(ValueError, match="closed"):
        source._ready.select(0)
