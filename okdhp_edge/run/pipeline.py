"""Frames to poses in threads of their own, so that reading, estimating and showing overlap.

    source -> FrameReader thread -> Pipeline thread (track, warp, infer, decode) -> whoever iterates

A person's box in a frame comes from the joints in the frame before, so the frames of one source
go through the network one after another; what overlaps is everything around it.
"""

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import NamedTuple, Self

from okdhp_edge.backends.base import Backend
from okdhp_edge.pose.result import Pose
from okdhp_edge.run.controls import Controls
from okdhp_edge.run.estimate import Estimator
from okdhp_edge.run.reader import FrameReader, Readers, Taken
from okdhp_edge.run.smooth import Smoother
from okdhp_edge.run.sources.base import Frame, Source
from okdhp_edge.run.track import Tracker

# One result in the hands of whoever shows it, one waiting: more would only age.
_ROOM = 2
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


@dataclass(frozen=True, kw_only=True)
class Pace:
    """Which frames are looked at.

    Attributes:
        live: keep the newest frame only (True), every one (False), or as the source is (None).
        stride: every n-th.
        max_fps: no more than so many a second.
    """

    live: bool | None = None
    stride: int = 1
    max_fps: float | None = None


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
        pace: Pace = Pace(),
        smoothers: Sequence[Smoother] = (),
    ) -> None:
        self._sources, self._trackers, self._smoothers = sources, trackers, smoothers
        self._estimator, self._controls, self._pace = estimator, controls, pace
        self._readers = Readers(sources, stride=pace.stride, live=pace.live)
        self._results: queue.SimpleQueue[Seen | BaseException | None] = queue.SimpleQueue()
        self._room = threading.Semaphore(_ROOM)
        self._due_ns = 0
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
            self._room.release()
            yield result

    def _estimate_all(self) -> None:
        try:
            while self._may_go_on() and (taken := self._take()) is not None:
                self._results.put(self._look_at(taken))
        except BaseException as error:
            self._results.put(error)
        finally:
            self._results.put(None)

    def _may_go_on(self) -> bool:
        """Wait until there is room for a result, nobody pauses, and the next frame is due.

        A frame is taken only then, so that it does not age here.
        """
        stop = self._controls.stop
        self._wait_while(lambda: not self._room.acquire(timeout=_POLL_S))
        self._wait_while(lambda: self._controls.paused and not stop.wait(_POLL_S / 5))
        if self._pace.max_fps:
            now = time.perf_counter_ns()
            stop.wait(max(0, self._due_ns - now) / 1e9)
            step = round(1e9 / self._pace.max_fps)
            self._due_ns = max(self._due_ns, now - step) + step
        return not stop.is_set()

    def _wait_while(self, holds: Callable[[], bool]) -> None:
        while not self._controls.stop.is_set() and holds():
            pass

    def _take(self) -> Taken | None:
        return self._readers.take(unless=self._controls.stop)

    def _look_at(self, taken: Taken) -> Seen:
        clock, frame = self._estimator.clock, taken.frame
        started = clock.now()
        if (loaded := self._controls.take_loaded()) is not None:
            self._estimator.backend.close()
            self._estimator.use(loaded)
        tracker = self._trackers[taken.place]
        if not self._sources[taken.place].continuous:
            tracker.forget()
        poses = tracker.find(frame.image)
        if self._smoothers:
            poses = self._smoothers[taken.place](poses, frame.seconds)
        done = clock.now()
        stages = {"capture": frame.read_ns, "wait": started - frame.captured_ns, **clock.take()}
        named = sum(stages.get(name, 0) for name in TIME_TO_POSES)
        stages["track"] = done - frame.captured_ns - named
        return Seen(taken.place, frame, poses, stages, done)
