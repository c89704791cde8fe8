"""The loop on fakes, put together as the command does."""

from contextlib import ExitStack

from okdhp_edge.inference.open_detector import NO_DETECTOR
from okdhp_edge.run.assemble import TrackingConfig, assemble
from okdhp_edge.run.controls import Controls
from okdhp_edge.run.loop import SourceRun, run_loop
from okdhp_edge.run.pipeline import FrameResult
from okdhp_edge.run.reader import FramePolicy
from okdhp_edge.run.report import build_report
from okdhp_edge.run.sources.base import Frame
from okdhp_edge.system.hardware import read_sensors
from tests.helpers.fakes import FakeBackend


def run_on(sources, backend=None, sinks=(), *, policy=None, people=None, controls=None, **options):
    """Reports by source."""
    backend, controls = backend or FakeBackend(), controls or Controls()
    with ExitStack() as closing:
        feeds = [SourceRun(source, list(sinks)) for source in sources]
        people = people or TrackingConfig(detector=NO_DETECTOR)
        pipeline = assemble(sources, backend, people, policy or FramePolicy(), controls, closing)
        run_loop(pipeline, feeds, controls, **options)
    state = read_sensors()
    return [
        build_report(feed.source, reader, feed.stats, pipeline.backend, "fp32", (state, state),
                  switches=pipeline.switches)
        for feed, reader in zip(feeds, pipeline.readers, strict=True)
    ]  # fmt: skip


class Picturing:
    """A sink that wants the picture and keeps what it gets."""

    wants_image = True

    def __init__(self, until=None):
        self.seen, self.drawn, self.closed, self._until = [], [], [], until

    def write(self, result, annotated):
        self.seen.append(result)
        self.drawn.append(annotated)
        return self._until is None or len(self.seen) < self._until

    def close(self, *, success):
        self.closed.append(success)


def frame_result(number, poses=(), image=None, **changes):
    frame = Frame(number, image, 0, 0, number / 30)._replace(**changes)
    return FrameResult(0, frame, list(poses), {}, 0)
