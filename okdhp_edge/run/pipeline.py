"""Frames to poses in threads of their own, so that reading, estimating and showing overlap.

    source -> FrameReader thread -> Pipeline thread (track, warp, infer, decode) -> whoever iterates

A person's box in a frame comes from the joints in the frame before, so the frames of one source
go through the network one after another; what overlaps is everything around it. In a file the box
may come from the joints before last: then the network need not wait for anything.
"""

import queue
import threading
import time
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import NamedTuple, Self

from okdhp_edge.backends.base import Backend
from okdhp_edge.pose.heatmap import Heatmaps
from okdhp_edge.pose.result import Pose
from okdhp_edge.run.controls import Controls
from okdhp_edge.run.estimate import Cut, Estimator
from okdhp_edge.run.reader import AS_IT_COMES, FrameReader, Pace, Readers, Taken
from okdhp_edge.run.smooth import Smoother
from okdhp_edge.run.sources.base import Frame, Source
from okdhp_edge.run.track import PersonTracker, Tracker

# One result in the hands of whoever shows it, one under way or waiting: more would only age.
_ROOM = 2
# A file's frames do not age: there another is cut ahead, and one more may wait.
_ROOM_IN_FILES = 4
_POLL_S = 0.1

TIME_TO_POSES = ("wait", "detect", "preprocess", "infer", "decode", "track")
"""The stages that add up to a frame's age: from its capture to its poses."""


class Seen(NamedTuple):
    """A frame and who is in it.

    Attributes:
        place: which source gave it.
        stages: nanoseconds by stage; those of `TIME_TO_POSES` add up to `done_ns` less the time
            of capture.
        done_ns: when the poses were there, on the monotonic clock.
    """

    place: int
    frame: Frame
    poses: list[Pose]
    stages: dict[str, int]
    done_ns: int


class Pipeline:
    """Iterate for results, in the order of each source. Use as a context manager.

    Args:
        estimator: shared by all sources.
        trackers: one for each source.
        smoothers: likewise; empty where joints stay as they are.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        estimator: Estimator,
        trackers: Sequence[Tracker],
        controls: Controls,
        pace: Pace = AS_IT_COMES,
        smoothers: Sequence[Smoother] = (),
    ) -> None:
        self._sources, self._trackers, self._smoothers = sources, trackers, smoothers
        self._estimator, self._controls, self._pace = estimator, controls, pace
        self._readers = Readers(sources, pace)
        self._results: queue.SimpleQueue[Seen | BaseException | None] = queue.SimpleQueue()
        live = any(pace.drops(source) for source in sources)
        self._room = threading.Semaphore(_ROOM if live else _ROOM_IN_FILES)
        self._has_room = False
        self._due_ns = 0
        self._switch_to: Backend | None = None
        self.switches = 0
        """How often another model was taken up."""
        self._thread = threading.Thread(target=self._estimate_all, name="estimator", daemon=True)

    @property
    def backend(self) -> Backend:
        """What runs the model now."""
        return self._estimator.backend

    @property
    def readers(self) -> Sequence[FrameReader]:
        """What was captured, dropped and skipped, by source."""
        return self._readers.each

    def __enter__(self) -> Self:
        self._readers.__enter__()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._controls.stop.set()
        self._thread.join()
        self._readers.__exit__(kind, error, trace)

    def __iter__(self) -> Iterator[Seen]:
        """Results until all sources have ended or the controls say stop.

        Raises:
            OkdhpError: whatever broke a source, a tracker or the backend, after the results
                before it.
        """
        while (result := self._results.get()) is not None:
            if isinstance(result, BaseException):
                raise result
            yield result
            self._room.release()

    def _estimate_all(self) -> None:
        try:
            for seen in self._estimates():
                self._results.put(seen)
        except BaseException as error:
            self._results.put(error)
        finally:
            self._results.put(None)

    def _estimates(self) -> Iterator[Seen]:
        """Results in order. While the network works on a frame, the next one is cut and the last
        one read: its box is that of the joints before last then."""
        ahead: _Ahead | None = None
        while True:
            if ahead and self._would_wait():
                yield self._read(ahead, ahead.result())
                ahead = None
            if not self._may_go_on():
                break
            taken = self._readers.take(unless=self._controls.stop, wait=ahead is None)
            if taken is None and ahead is None:
                return
            self._has_room &= taken is None
            cut = None if taken is None else self._cut_ahead(taken)
            result = ahead.result() if ahead else None
            following = _Ahead(taken, cut, self._estimator) if taken and cut else None
            if ahead and result is not None:
                yield self._read(ahead, result)
            if taken and not cut:
                yield self._look_at(taken)
            ahead = following
        if ahead:
            yield self._read(ahead, ahead.result())

    def _would_wait(self) -> bool:
        """Whether the next frame cannot be taken at once: then the one under way is not kept."""
        self._has_room = self._has_room or self._room.acquire(blocking=False)
        early = self._pace.max_fps is not None and time.perf_counter_ns() < self._due_ns
        return not self._has_room or self._controls.paused or early

    def _may_go_on(self) -> bool:
        """Wait until there is room for a result, nobody pauses, and the next frame is due.

        A frame is taken only then, so that it does not age here.
        """
        stop = self._controls.stop
        while not (self._has_room or stop.is_set()):
            self._has_room = self._room.acquire(timeout=_POLL_S)
        while self._controls.paused and not stop.is_set():
            stop.wait(_POLL_S / 5)
        if self._pace.max_fps:
            now = time.perf_counter_ns()
            stop.wait(max(0, self._due_ns - now) / 1e9)
            step = round(1e9 / self._pace.max_fps)
            self._due_ns = max(self._due_ns, now - step) + step
        return not stop.is_set()

    def _cut_ahead(self, taken: Taken) -> Cut | None:
        """The crop of a frame whose inference can be begun, if it is of one person in a file: a
        live frame would only age beside the one before it."""
        if (loaded := self._controls.take_loaded()) is not None:
            self._switch_to = loaded
        tracker, source = self._trackers[taken.place], self._sources[taken.place]
        if self._switch_to or self._pace.drops(source) or not source.continuous:
            return None
        if not isinstance(tracker, PersonTracker) or tracker.box is None:
            return None
        return self._estimator.cut(taken.frame.image, tracker.box)

    def _read(self, ahead: "_Ahead", heatmaps: Heatmaps) -> Seen:
        """Finish a frame that was begun."""
        began = self._estimator.clock.now()
        taken, cut = ahead.taken, ahead.cut
        tracker = self._trackers[taken.place]
        assert isinstance(tracker, PersonTracker)
        frame = taken.frame
        # Where the frame before this one led elsewhere, its box counts: else even and odd frames
        # could each go on following somebody else.
        if tracker.still(cut.box):
            poses = tracker.go_on(frame.image, cut.box, self._estimator.read(cut, heatmaps))
        else:
            poses = tracker.find(frame.image)
        queued = cut.begun_ns - frame.captured_ns + ahead.begun_ns - cut.done_ns
        queued += began - ahead.done_ns
        stages = {
            "wait": queued,
            "preprocess": cut.done_ns - cut.begun_ns,
            "infer": ahead.done_ns - ahead.begun_ns,
        }
        return self._seen(taken, poses, stages)

    def _look_at(self, taken: Taken) -> Seen:
        """A frame from the beginning to its end."""
        started = self._estimator.clock.now()
        if self._switch_to is not None:
            self._estimator.backend.close()
            self._estimator.use(self._switch_to)
            self._switch_to = None
            self.switches += 1
        tracker = self._trackers[taken.place]
        if not self._sources[taken.place].continuous:
            tracker.forget()
        poses = tracker.find(taken.frame.image)
        return self._seen(taken, poses, {"wait": started - taken.frame.captured_ns})

    def _seen(self, taken: Taken, poses: list[Pose], stages: dict[str, int]) -> Seen:
        """With all times; what no stage has taken is the tracker's."""
        clock, frame = self._estimator.clock, taken.frame
        if self._smoothers:
            poses = self._smoothers[taken.place](poses, frame.seconds)
        for name, ns in clock.take().items():
            stages[name] = stages.get(name, 0) + ns
        done = clock.now()
        named = sum(stages.get(name, 0) for name in TIME_TO_POSES)
        stages |= {"capture": frame.read_ns, "track": done - frame.captured_ns - named}
        return Seen(taken.place, frame, poses, stages, done)


class _Ahead:
    """A frame whose inference is under way."""

    def __init__(self, taken: Taken, cut: Cut, estimator: Estimator) -> None:
        self.taken, self.cut = taken, cut
        self._clock = estimator.clock
        self.begun_ns = self.done_ns = estimator.clock.now()
        self._wait = estimator.backend.start(cut.crop)

    def result(self) -> Heatmaps:
        """Wait for it."""
        heatmaps = self._wait()
        self.done_ns = self._clock.now()
        return heatmaps
