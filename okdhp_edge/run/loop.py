"""The main loop: draw the pipeline's poses, pass them to the sinks and record timings."""

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from types import FrameType

import numpy as np

from okdhp_edge.pose.draw import draw_label, draw_skeleton
from okdhp_edge.pose.preprocess import Image
from okdhp_edge.pose.result import Pose
from okdhp_edge.run.controls import Controls
from okdhp_edge.run.pipeline import FrameResult, Pipeline
from okdhp_edge.run.run_statistics import RunStatistics
from okdhp_edge.run.sinks.base import Sink
from okdhp_edge.run.sources.base import Source
from okdhp_edge.system.latency import StageClock


@dataclass
class SourceRun:
    """A source, where its results go, and what was counted on the way."""

    source: Source
    sinks: Sequence[Sink]
    stats: RunStatistics = field(default_factory=RunStatistics)


def run_loop(
    pipeline: Pipeline,
    feeds: Sequence[SourceRun],
    controls: Controls,
    *,
    max_frames: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Run until the sources end, a sink says so, or a signal; sinks are closed in every case.

    Ctrl-C (or SIGTERM) ends a run as its end would: the frame in hand is finished and whatever
    was written is whole. A second Ctrl-C does not wait.

    Args:
        feeds: in the order of the pipeline's sources.
        max_frames: stop after so many frames of all sources together.
        progress: called with the number of frames done.

    Raises:
        OkdhpError: a source, the backend or a sink failed; what was half-written is gone.
    """
    success, going, done = False, True, 0
    try:
        with _stop_on_signals(controls), pipeline:
            for result in pipeline:
                if not going:  # what the pipeline had in hand when the run was ended
                    feeds[result.source_index].stats.unshown += 1
                    continue
                done += 1
                going = _show(feeds[result.source_index], result, controls) and done != max_frames
                if progress:
                    progress(done)
                if not going:
                    controls.stop.set()
        success = True
    finally:
        with ExitStack() as closing:  # one that fails to close does not keep others open
            for feed in feeds:
                for sink in feed.sinks:
                    closing.callback(sink.close, success=success)


def _show(feed: SourceRun, result: FrameResult, controls: Controls) -> bool:
    """Draw, hand on and count; whether to go on."""
    clock = StageClock()
    handoff_ns = clock.now() - result.done_ns
    annotated = result.frame.image
    if any(sink.wants_image for sink in feed.sinks):
        with clock.stage("draw"):
            annotated = draw_overlay(result.frame.image, result.poses, controls.threshold)
    with clock.stage("output"):
        # A list, so that every sink gets the frame even when one asks to stop.
        going = all([sink.write(result, annotated) for sink in feed.sinks])  # noqa: C419
    feed.stats.add(result, {"handoff": handoff_ns, **clock.take()}, clock.now())
    return going


@contextmanager
def _stop_on_signals(controls: Controls) -> Iterator[None]:
    """The first SIGINT, SIGTERM or SIGHUP (a terminal that closes) asks to stop, the next one acts
    as usual."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    names = ("SIGINT", "SIGTERM", "SIGHUP")
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    # Who ignores a signal, as nohup does SIGHUP, wants it ignored.
    before = {n: signal.getsignal(n) for n in numbers if signal.getsignal(n) != signal.SIG_IGN}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def ask(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        controls.stop.set()
        restore()

    for number in before:
        signal.signal(number, ask)
    try:
        yield
    finally:
        restore()


def draw_overlay(image: Image, poses: Sequence[Pose], threshold: float) -> Image:
    """A copy of the frame with skeletons and what there is to say of them."""
    annotated = image.copy()
    for pose in poses:
        draw_skeleton(annotated, pose.skeleton, pose.xy, pose.score >= threshold)
    for pose in poses:
        who = "" if pose.id is None else f"{pose.id}: "
        draw_label(annotated, f"{who}{pose.confidence:.2f}", pose.xy.min(axis=0))
    if not poses:
        draw_label(annotated, "no people found", np.zeros(2))
    return annotated
