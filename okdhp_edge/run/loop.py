"""The loop: read, find the person, draw, hand on, measure."""

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from okdhp_edge.backends.base import Backend
from okdhp_edge.latency import LatencyStats, StageClock
from okdhp_edge.pose.draw import draw_lines_of_text, draw_skeleton
from okdhp_edge.pose.preprocess import Image
from okdhp_edge.pose.result import Pose
from okdhp_edge.run.estimate import Estimator
from okdhp_edge.run.reader import FrameReader
from okdhp_edge.run.report import RunReport, model_facts
from okdhp_edge.run.sink import Sink
from okdhp_edge.run.source import Source
from okdhp_edge.run.track import JOINT_SEEN, PersonTracker

WARMUP = 5
"""Frames left out of the statistics: first runs allocate and compile."""


@dataclass
class _Tally:
    frames: int = 0
    found: int = 0
    ages_ns: list[int] = field(default_factory=list)
    first_ns: int = 0
    last_ns: int = 0


def run_loop(
    source: Source,
    backend: Backend,
    sinks: Sequence[Sink],
    *,
    draw: bool,
    precision_asked: str,
    max_frames: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> RunReport:
    """Run until the source ends, a sink says so, or Ctrl-C; sinks are closed in every case.

    Args:
        draw: whether any sink needs the picture with the skeleton in it.
        max_frames: stop after so many frames.
        progress: told how many frames are done.

    Raises:
        OkdhpError: source, backend or sink failed; what was half-written is gone.
    """
    clock, tally = StageClock(), _Tally()
    good = False
    try:
        with FrameReader(source) as reader:
            # A run that a person ends is a whole run.
            with contextlib.suppress(KeyboardInterrupt):
                _process(source, reader, backend, sinks, clock, tally, draw, max_frames, progress)
            captured, dropped = reader.captured, reader.dropped
        good = True
    finally:
        for sink in sinks:
            sink.close(good=good)
    return _report(source, backend, clock, tally, captured, dropped, precision_asked)


def _process(
    source: Source,
    reader: FrameReader,
    backend: Backend,
    sinks: Sequence[Sink],
    clock: StageClock,
    tally: _Tally,
    draw: bool,
    max_frames: int | None,
    progress: Callable[[int], None] | None,
) -> None:
    tracker = PersonTracker(Estimator(backend, clock))
    going = True
    while going and (max_frames is None or tally.frames < max_frames):
        with clock.stage("capture"):
            frame = reader.next()
        if frame is None:
            break
        if not source.continuous:
            tracker.forget()
        pose = tracker.find(frame.image)
        age = clock.now() - frame.captured_ns
        drawn = frame.image
        if draw:
            with clock.stage("draw"):
                drawn = overlay(frame.image, pose)
        with clock.stage("output"):
            # A list, so that every sink gets the frame even when one asks to stop.
            going = all([sink.put(frame, drawn, pose) for sink in sinks])  # noqa: C419
        _count(tally, clock, age, found=pose is not None)
        if progress:
            progress(tally.frames)


def _count(tally: _Tally, clock: StageClock, age_ns: int, *, found: bool) -> None:
    warm = tally.frames >= WARMUP
    clock.end_frame(counted=warm)
    now = time.perf_counter_ns()
    if warm:
        tally.ages_ns.append(age_ns)
        tally.last_ns = now
    else:
        tally.first_ns = now  # the wall clock of the statistics starts where warm-up ends
    tally.frames += 1
    tally.found += found


def overlay(image: Image, pose: Pose | None) -> Image:
    """A copy of the frame with the skeleton and a line of facts."""
    drawn = image.copy()
    if pose is None:
        draw_lines_of_text(drawn, ["nobody found"])
        return drawn
    shown: np.ndarray[tuple[int], np.dtype[np.bool_]] = pose.score >= JOINT_SEEN
    draw_skeleton(drawn, pose.skeleton, pose.xy, shown)
    draw_lines_of_text(drawn, [f"score {pose.mean_score:.2f}"])
    return drawn


def _report(
    source: Source,
    backend: Backend,
    clock: StageClock,
    tally: _Tally,
    captured: int,
    dropped: int,
    precision_asked: str,
) -> RunReport:
    seconds = max(tally.last_ns - tally.first_ns, 0) / 1e9
    return RunReport(
        source=source.name, live=source.live, frames=tally.frames, found=tally.found,
        captured=captured, dropped=dropped, warmup=min(WARMUP, tally.frames), seconds=seconds,
        fps=clock.frames / seconds if seconds else 0.0, stages=clock.stats(),
        frame_age=LatencyStats.of(tally.ages_ns) if tally.ages_ns else None,
        backend=backend.describe(), precision_asked=precision_asked, **model_facts(backend.card),
    )  # fmt: skip
