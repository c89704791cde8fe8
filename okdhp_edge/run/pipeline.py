"""Pose estimation in its own thread, so that reading, inference and output overlap.

    source -> FrameReader thread -> Pipeline thread (track, warp, infer, decode) -> whoever iterates

A person's box in a frame comes from the joints in the frame before, so the frames of one source
go through the network one after another; what overlaps is everything around it. In a file the box
comes from the joints before last: then the next frame is queued while the network works on this
one, and the network waits for nothing. Which joints a box comes from depends on the frames alone,
not on how fast they came, so that a file gives the same poses each time.

Where the policy asks for no overlap all of this happens in the thread of whoever iterates, with the
same boxes and so the same poses.
"""

import math
import queue
import threading
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Self

from okdhp_edge.backends.base import Backend
from okdhp_edge.inference.pose_estimator import PoseEstimator
from okdhp_edge.inference.tracking.single_person import SinglePersonTracker, Tracker
from okdhp_edge.inference.tracking.smoothing import Smoother
from okdhp_edge.pose.heatmap import Heatmaps
from okdhp_edge.pose.result import Pose
from okdhp_edge.run.controls import Controls
from okdhp_edge.run.in_flight import BoxHistory, InFlightRequest
from okdhp_edge.run.reader import (
    DEFAULT_POLICY,
    FramePolicy,
    FrameReader,
    FrameReaders,
    SourceFrame,
)
from okdhp_edge.run.sources.base import Frame, Source

# One result in the hands of whoever shows it, one under way or waiting: more would only age.
_RESULT_QUEUE_SIZE = 2
# A file's frames do not age: there another is prepared ahead, and one more may wait.
_RESULT_QUEUE_SIZE_FILES = 4
_POLL_S = 0.1

STAGES_TO_POSES = ("wait", "detect", "preprocess", "infer", "decode", "track")
"""The stages that add up to a frame's age: from its capture to its poses."""


class FrameResult(NamedTuple):
    """A frame and the poses in it.

    Attributes:
        source_index: which source gave it.
        stages: nanoseconds by stage; those of `STAGES_TO_POSES` add up to `done_ns` less the time
            of capture.
        done_ns: when the poses were there, on the monotonic clock.
    """

    source_index: int
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
        estimator: PoseEstimator,
        trackers: Sequence[Tracker],
        controls: Controls,
        policy: FramePolicy = DEFAULT_POLICY,
        smoothers: Sequence[Smoother] = (),
    ) -> None:
        self._sources, self._trackers, self._smoothers = sources, trackers, smoothers
        self._estimator, self._controls, self._policy = estimator, controls, policy
        self._readers = FrameReaders(sources, policy)
        self._results: queue.SimpleQueue[FrameResult | BaseException | None] = queue.SimpleQueue()
        live = any(policy.drops_frames(source) for source in sources)
        self._boxes = [BoxHistory() for _ in sources]
        self._room = threading.Semaphore(_RESULT_QUEUE_SIZE if live else _RESULT_QUEUE_SIZE_FILES)
        self._has_room = False
        self._due_ns = 0
        self._last_pause_ns = (0, 0)
        self.paused_s = 0.0
        """How long the run was paused in all."""
        self._switch_to: Backend | None = None
        self.switches = 0
        """How often another model was taken up."""
        self._thread = threading.Thread(target=self._estimate_all, name="estimator", daemon=True)

    @property
    def backend(self) -> Backend:
        """What runs the model now."""
        return self._estimator.backend

    @property
    def left_out(self) -> list[int]:
        """Of each source, most people found in one frame beyond those whose poses are estimated."""
        return [tracker.most_left_out for tracker in self._trackers]

    @property
    def frame_interval_s(self) -> float:
        """Seconds between frames that are asked for, of the slowest source that says its rate."""
        intervals = [self._policy.stride / source.fps for source in self._sources if source.fps]
        return max(1 / (self._policy.max_fps or math.inf), *intervals, 0.0)

    @property
    def readers(self) -> Sequence[FrameReader]:
        """What was captured, dropped and skipped, by source."""
        return self._readers.each

    def __enter__(self) -> Self:
        self._readers.__enter__()
        if self._policy.overlap:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._controls.stop.set()
        if self._policy.overlap:
            self._thread.join()
        self._readers.__exit__()

    def __iter__(self) -> Iterator[FrameResult]:
        """Results until all sources have ended or the controls say stop.

        Raises:
            OkdhpError: whatever broke a source, a tracker or the backend, after the results
                before it.
        """
        for result in self._receive() if self._policy.overlap else self._estimate_in_order():
            yield result
            self._room.release()

    def _receive(self) -> Iterator[FrameResult]:
        """What the estimator's thread hands over."""
        while True:
            try:
                result = self._results.get(timeout=_POLL_S)
            except queue.Empty:
                self._controls.handle_idle()
                continue
            if result is None:
                return
            if isinstance(result, BaseException):
                raise result
            yield result

    def _estimate_all(self) -> None:
        try:
            for result in self._estimate_in_order():
                self._results.put(result)
        except BaseException as error:
            self._results.put(error)
        finally:
            self._results.put(None)

    def _estimate_in_order(self) -> Iterator[FrameResult]:
        """Results in order. While the network works on a frame, the one before it is decoded, and
        the next one is prepared and queued."""
        in_flight: InFlightRequest | None = None
        while True:
            if in_flight and self._would_wait():
                yield self._finish(in_flight, in_flight.result(None))
                in_flight = None
            if not self._wait_for_turn():
                break
            source_frame = self._readers.take(unless=self._controls.stop, wait=in_flight is None)
            if source_frame is None and in_flight is None:
                return
            self._has_room &= source_frame is None
            source_frame = source_frame and self._leave_out_pause(source_frame)
            following = None if source_frame is None else self._begin(source_frame)
            if in_flight:
                yield self._finish(in_flight, in_flight.result(following))
            if source_frame and not following:
                yield self._process(source_frame)
            in_flight = following
        if in_flight:
            yield self._finish(in_flight, in_flight.result(None))

    def _would_wait(self) -> bool:
        """Whether the next frame cannot be taken at once: then no request stays in flight."""
        self._has_room = self._has_room or self._room.acquire(blocking=False)
        early = self._policy.max_fps is not None and time.perf_counter_ns() < self._due_ns
        return not self._has_room or self._controls.paused or early

    def _wait_for_turn(self) -> bool:
        """Wait until there is room for a result, nobody pauses, and the next frame is due.

        A frame is taken only then, so that it does not age here.
        """
        stop = self._controls.stop
        while not (self._has_room or stop.is_set()):
            self._has_room = self._room.acquire(timeout=_POLL_S)
        if self._controls.paused:
            began = self._estimator.clock.now()
            self._controls.wait_while_paused(_POLL_S / 5)
            self._last_pause_ns = began, self._estimator.clock.now()
            self.paused_s += (self._last_pause_ns[1] - began) / 1e9
        if self._policy.max_fps:
            now = time.perf_counter_ns()
            stop.wait(max(0, self._due_ns - now) / 1e9)
            step = round(1e9 / self._policy.max_fps)
            self._due_ns = max(self._due_ns, now - step) + step
        return not stop.is_set()

    def _leave_out_pause(self, source_frame: SourceFrame) -> SourceFrame:
        """A frame that was read before a pause has not aged during it."""
        frame, (began, ended) = source_frame.frame, self._last_pause_ns
        paused_ns = max(0, ended - max(began, frame.captured_ns))
        return source_frame._replace(
            frame=frame._replace(captured_ns=frame.captured_ns + paused_ns)
        )

    def _begin(self, source_frame: SourceFrame) -> InFlightRequest | None:
        """Queue the inference of a frame, if it is of one person in a file: a live frame would only
        age beside the one before it."""
        if (loaded := self._controls.take_loaded()) is not None:
            self._switch_to = loaded
        index = source_frame.source_index
        tracker, source = self._trackers[index], self._sources[index]
        if self._switch_to or self._policy.drops_frames(source) or not source.continuous:
            return None
        box = self._boxes[index].next_box
        if not isinstance(tracker, SinglePersonTracker) or box is None:
            return None
        self._boxes[index].begin()
        prepared = self._estimator.prepare(source_frame.frame.image, box)
        return InFlightRequest(
            source_frame, prepared, self._estimator, overlap=self._policy.overlap
        )

    def _finish(self, in_flight: "InFlightRequest", heatmaps: Heatmaps) -> FrameResult:
        """Finish a frame that was begun."""
        began = self._estimator.clock.now()
        source_frame, prepared = in_flight.source_frame, in_flight.prepared
        index = source_frame.source_index
        tracker = self._trackers[index]
        assert isinstance(tracker, SinglePersonTracker)
        frame = source_frame.frame
        # Where the frame before this one led elsewhere, its box counts: else even and odd frames
        # could each go on following somebody else.
        if tracker.is_near(prepared.box):
            poses = tracker.update_from(
                frame.image, prepared.box, self._estimator.decode(prepared, heatmaps)
            )
        else:
            poses = tracker.update(frame.image)
        self._boxes[index].add(tracker.box, was_queued=True)
        queued = prepared.begun_ns - frame.captured_ns + in_flight.begun_ns - prepared.done_ns
        queued += began - in_flight.done_ns
        stages = {
            "wait": queued,
            "preprocess": prepared.done_ns - prepared.begun_ns,
            "infer": in_flight.done_ns - in_flight.begun_ns,
        }
        return self._make_result(source_frame, poses, stages)

    def _process(self, source_frame: SourceFrame) -> FrameResult:
        """A frame from the beginning to its end."""
        started = self._estimator.clock.now()
        if self._switch_to is not None:
            self._estimator.backend.close()
            self._estimator.set_backend(self._switch_to)
            self._switch_to = None
            self.switches += 1
        index = source_frame.source_index
        tracker = self._trackers[index]
        if not self._sources[index].continuous:
            tracker.reset()
        poses = tracker.update(source_frame.frame.image)
        if isinstance(tracker, SinglePersonTracker):
            self._boxes[index].add(tracker.box, was_queued=False)
        return self._make_result(
            source_frame, poses, {"wait": started - source_frame.frame.captured_ns}
        )

    def _make_result(
        self, source_frame: SourceFrame, poses: list[Pose], stages: dict[str, int]
    ) -> FrameResult:
        """With all times; what no stage has taken is the tracker's."""
        clock, frame = self._estimator.clock, source_frame.frame
        # Images that have nothing to do with each other are not smoothed.
        if self._smoothers and self._sources[source_frame.source_index].continuous:
            poses = self._smoothers[source_frame.source_index](poses, frame.seconds)
        for name, ns in clock.take().items():
            stages[name] = stages.get(name, 0) + ns
        done = clock.now()
        named = sum(stages.get(name, 0) for name in STAGES_TO_POSES)
        stages |= {"capture": frame.read_ns, "track": done - frame.captured_ns - named}
        return FrameResult(source_frame.source_index, frame, poses, stages, done)
