import threading
import time

import pytest

from okdhp_edge.errors import SourceError
from okdhp_edge.run.reader import FrameReader
from tests.helpers.fakes import ScriptedSource


def test_a_file_loses_no_frame_however_slow_the_reader():
    source = ScriptedSource(30)
    with FrameReader(source) as reader:
        numbers = []
        while (frame := reader.next()) is not None:
            numbers.append(frame.number)
            if frame.number < 3:
                time.sleep(0.01)
    assert numbers == list(range(30))
    assert reader.dropped == 0
    assert source.closed


def test_a_live_source_keeps_the_newest_and_counts_the_rest():
    class Gated(ScriptedSource):
        """Gives 20 frames at once, then waits."""

        gate = threading.Event()

        def _next(self):
            if self._number == 20:
                self.gate.wait(5)
            return super()._next()

    source = Gated(25, live=True)
    with FrameReader(source) as reader:
        while reader.captured < 20:
            time.sleep(0.001)
        shown = [reader.next().number]
        source.gate.set()
        while (frame := reader.next()) is not None:
            shown.append(frame.number)
    assert shown[0] == 19
    assert shown[-1] == 24
    assert reader.captured == len(shown) + reader.dropped == 25


@pytest.mark.parametrize("live", [False, True])
def test_an_error_arrives_after_the_frames_before_it(live):
    source = ScriptedSource(1, live=live, error=SourceError("camera gone", "plug it in"))
    with FrameReader(source) as reader:
        assert reader.next().number == 0
        with pytest.raises(SourceError, match="camera gone"):
            reader.next()
    assert source.closed


def test_leaving_early_stops_the_thread():
    source = ScriptedSource(10**9)
    with FrameReader(source) as reader:
        reader.next()
    assert source.closed
    assert not reader._thread.is_alive()
