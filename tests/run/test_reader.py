import threading
import time
from collections import Counter

import pytest

from okdhp_edge.errors import SourceError
from okdhp_edge.run import reader
from okdhp_edge.run.reader import FramePolicy, FrameReaders
from tests.helpers.fakes import ScriptedSource


def _all(readers):
    taken = []
    while (one := readers.take()) is not None:
        taken.append(one)
    return taken


def test_a_file_loses_no_frame_however_slow_the_reader():
    source = ScriptedSource(30)
    with FrameReaders([source]) as readers:
        numbers = []
        while (taken := readers.take()) is not None:
            numbers.append(taken.frame.number)
            if taken.frame.number < 3:
                time.sleep(0.01)
    assert numbers == list(range(30))
    assert readers.each[0].dropped == 0
    assert source.closed


class _Gated(ScriptedSource):
    """Gives 20 frames at once, then waits."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.gate = threading.Event()

    def _next(self):
        if self._number == 20:
            self.gate.wait(5)
        return super()._next()


def _wait_for(condition):
    end = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def test_a_live_source_keeps_the_newest_and_counts_the_rest():
    source = _Gated(25, live=True)
    with FrameReaders([source]) as readers:
        reader = readers.each[0]
        _wait_for(lambda: reader.captured + reader.dropped >= 39)
        shown = [readers.take().frame.number]
        source.gate.set()
        shown += [t.frame.number for t in _all(readers)]
    assert shown[0] == 19
    assert shown[-1] == 24
    assert reader.captured == len(shown) + reader.dropped == 25


@pytest.mark.parametrize("live", [False, True])
def test_the_policy_can_be_given(live):
    source = _Gated(20, live=not live)
    source.gate.set()
    with FrameReaders([source], FramePolicy(live=live)) as readers:
        _wait_for(lambda: readers.each[0].ended or readers.each[0].captured == 5)
        shown = len(_all(readers))
    assert shown + readers.each[0].dropped == 20
    assert (readers.each[0].dropped > 0) == live


@pytest.mark.parametrize("overlap", [True, False])
def test_a_stride_passes_over_and_counts(overlap):
    policy = FramePolicy(stride=3, overlap=overlap)
    with FrameReaders([ScriptedSource(11)], policy) as readers:
        numbers = [t.frame.number for t in _all(readers)]
    assert numbers == [0, 3, 6, 9]
    reader = readers.each[0]
    assert (reader.captured, reader.skipped, reader.dropped) == (11, 7, 0)


@pytest.mark.parametrize("overlap", [True, False])
@pytest.mark.parametrize("live", [False, True])
def test_an_error_arrives_after_the_frames_before_it(live, overlap):
    source = ScriptedSource(1, live=live, error=SourceError("camera gone", "plug it in"))
    with FrameReaders([source], FramePolicy(overlap=overlap)) as readers:
        assert readers.take().frame.number == 0
        with pytest.raises(SourceError, match="camera gone"):
            readers.take()
    assert source.closed


def test_without_overlap_a_frame_is_read_when_it_is_asked_for():
    source = ScriptedSource(3)
    with FrameReaders([source], FramePolicy(overlap=False)) as readers:
        reader = readers.each[0]
        time.sleep(0.05)
        assert reader.captured == 0
        assert readers.take().frame.number == 0
        assert reader.captured == 1
        assert [t.frame.number for t in _all(readers)] == [1, 2]
    assert source.closed
    assert not reader.thread.is_alive()


def test_several_sources_take_turns_and_all_of_each_is_seen():
    sources = [ScriptedSource(count) for count in (40, 40, 10)]
    with FrameReaders(sources) as readers:
        time.sleep(0.05)
        taken = _all(readers)
    assert Counter(t.source_index for t in taken) == {0: 40, 1: 40, 2: 10}
    for place in range(3):
        numbers = [t.frame.number for t in taken if t.source_index == place]
        assert numbers == sorted(numbers)
    assert {t.source_index for t in taken[:6]} == {0, 1, 2}
    assert all(s.closed for s in sources)


def test_leaving_early_stops_the_threads():
    source = ScriptedSource(10**9)
    with FrameReaders([source]) as readers:
        readers.take()
    assert source.closed
    assert not readers.each[0].thread.is_alive()


def test_waiting_can_be_called_off():
    source, off = _Gated(21), threading.Event()
    with FrameReaders([source]) as readers:
        for _ in range(20):
            readers.take()
        threading.Timer(0.05, off.set).start()
        started = time.monotonic()
        assert readers.take(unless=off) is None
        assert time.monotonic() - started < 1
        source.gate.set()


class _Stalled(ScriptedSource):
    """Blocks in a read, as a network that delivers nothing does."""

    def __init__(self):
        super().__init__(5)
        self.gate = threading.Event()

    def _next(self):
        self.gate.wait(20)


def test_a_source_is_not_closed_under_a_thread_that_reads_from_it(monkeypatch):
    monkeypatch.setattr(reader, "_JOIN_TIMEOUT_S", 0.2)
    stalled, other = _Stalled(), ScriptedSource(3)
    started = time.monotonic()
    with FrameReaders([stalled, other]) as readers:
        assert readers.take().source_index == 1
    assert time.monotonic() - started < 5
    assert other.closed and not stalled.closed
    stalled.gate.set()


class _Endless(ScriptedSource):
    def __init__(self):
        super().__init__(10**9, live=True)


def test_a_lost_camera_is_not_hidden_by_another_that_goes_on():
    lost = ScriptedSource(3, live=True, error=SourceError("lost", "check the cable"))
    with (
        pytest.raises(SourceError, match="lost"),
        FrameReaders([_Endless(), lost]) as readers,
    ):
        for _ in range(2000):
            readers.take()
            time.sleep(0.002)
