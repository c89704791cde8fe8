"""From what a person asks for to a run that is ready to go."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from okdhp_edge.artifacts.card import ModelCard
from okdhp_edge.backends.base import Backend
from okdhp_edge.errors import ModelError, OutputError
from okdhp_edge.inference.person_detector import PersonDetector
from okdhp_edge.inference.pose_estimator import MOST_AT_ONCE, PoseEstimator
from okdhp_edge.inference.tracking.detection_scheduler import DetectionScheduler
from okdhp_edge.inference.tracking.multi_person import EVERY, MultiPersonTracker
from okdhp_edge.inference.tracking.single_person import SinglePersonTracker, Tracker
from okdhp_edge.inference.tracking.smoothing import Smoother
from okdhp_edge.run.controls import Controls
from okdhp_edge.run.loop import Feed
from okdhp_edge.run.pipeline import Pipeline
from okdhp_edge.run.reader import FramePolicy
from okdhp_edge.run.sinks.base import Sink
from okdhp_edge.run.sinks.images import ImageSink
from okdhp_edge.run.sinks.records import STDOUT, CocoSink, CsvSink, JsonSink
from okdhp_edge.run.sinks.systemd import Watchdog, WatchdogSink
from okdhp_edge.run.sinks.video import VideoSink
from okdhp_edge.run.sinks.window import WindowSink, window_possible
from okdhp_edge.run.sources.base import Source
from okdhp_edge.run.sources.camera import CameraSettings
from okdhp_edge.run.sources.open import open_source
from okdhp_edge.system.latency import StageClock


@dataclass(frozen=True, kw_only=True)
class People:
    """Who is looked for.

    Attributes:
        how_many: one person, followed by the joints; or many, found by a detector.
        detector: its ONNX file; needed for many.
        every: frames from one detection to the next.
        smooth: whether joints are filtered over time.
    """

    how_many: Literal["one", "many"] = "one"
    detector: Path | None = None
    every: int = EVERY
    smooth: bool = False


@dataclass(frozen=True)
class Outputs:
    """Files and screens that results go to; with several sources each file gets a number."""

    save: Path | None = None
    json: Path | None = None
    coco: Path | None = None
    csv: Path | None = None
    window: bool | None = None
    """None opens one where it can."""
    watchdog: bool = False
    """Whether systemd is told that frames come."""

    def files(self, place: int | None) -> dict[str, Path]:
        """By kind; `place` numbers them, None leaves the names as they are."""
        asked = {"save": self.save, "json": self.json, "coco": self.coco, "csv": self.csv}
        return {kind: numbered(path, place) for kind, path in asked.items() if path}


def numbered(path: Path, place: int | None) -> Path:
    """`poses.json`, or `poses-0.json` of the first of several sources."""
    if place is None or str(path) == STDOUT:
        return path
    return path.with_stem(f"{path.stem}-{place}")


def open_sources(texts: Sequence[str], wanted: CameraSettings, closing: ExitStack) -> list[Source]:
    """All sources, opened in turn.

    Raises:
        SourceError: one cannot be opened; those before it are closed with `closing`.
    """
    sources = []
    for text in texts:
        sources.append(open_source(text, wanted))
        closing.callback(sources[-1].close)
    return sources


def feeds_for(
    sources: Sequence[Source], outputs: Outputs, card: ModelCard, stride: int, closing: ExitStack
) -> list[Feed]:
    """Each source with its sinks.

    Args:
        stride: every how many frames are looked at: a saved video has so many fewer a second.
        closing: what is not finished when it closes leaves nothing behind.

    Raises:
        OutputError: one of them cannot be written or shown.
    """
    feeds: list[Feed] = []
    for place, source in enumerate(sources):
        sinks: list[Sink] = []
        for kind, path in outputs.files(place if len(sources) > 1 else None).items():
            sinks.append(_file_sink(kind, path, source, card, stride))
            closing.callback(sinks[-1].close, good=False)
        if _window_wanted(outputs.window):
            sinks.append(WindowSink(f"okdhp-edge: {source.name}"))
        feeds.append(Feed(source, sinks))
    if outputs.watchdog:
        watchdog = Watchdog(len(feeds))
        closing.callback(watchdog.end)
        for place, feed in enumerate(feeds):
            feed.sinks = [*feed.sinks, WatchdogSink(watchdog, place)]
    return feeds


def _file_sink(kind: str, path: Path, source: Source, card: ModelCard, stride: int) -> Sink:
    if kind == "save":
        if source.continuous:
            return VideoSink(path, (source.fps or 30.0) / stride)
        return ImageSink(path)
    if kind == "csv":
        return CsvSink(path, card.skeleton.skeleton())
    return JsonSink(path) if kind == "json" else CocoSink(path)


def _window_wanted(asked: bool | None) -> bool:
    possible = window_possible()
    if asked and not possible:
        raise OutputError(
            "no window can be opened here (no display, or OpenCV without windows)",
            "pip install opencv-python in place of opencv-python-headless, or use --save or --web",
        )
    return possible and asked is not False


def assemble(
    sources: Sequence[Source],
    backend: Backend,
    people: People,
    policy: FramePolicy,
    controls: Controls,
    closing: ExitStack,
) -> Pipeline:
    """A pipeline over all sources with one model.

    Args:
        closing: what is opened here is closed with it.

    Raises:
        OkdhpError: a detector is missing or cannot be used.
    """
    estimator = PoseEstimator(backend, StageClock())
    estimator.warm_up(MOST_AT_ONCE)  # a search looks at many boxes at once too
    trackers = [_tracker(source, estimator, people, policy, closing) for source in sources]
    smoothers = [Smoother() for _ in sources] if people.smooth else []
    return Pipeline(sources, estimator, trackers, controls, policy, smoothers)


def _tracker(
    source: Source,
    estimator: PoseEstimator,
    people: People,
    policy: FramePolicy,
    closing: ExitStack,
) -> Tracker:
    if people.how_many == "one":
        return SinglePersonTracker(estimator)
    if people.detector is None:
        raise ModelError(
            "many people need a person detector", "give its ONNX file: --detector yolox_nano.onnx"
        )
    # One thread: beside the loop it must not take the cores that the pose network runs on.
    live = policy.drops(source)
    detector = PersonDetector(people.detector, threads=1 if live else None)
    scheduler = DetectionScheduler(detector, background=live)
    closing.callback(scheduler.close)
    return MultiPersonTracker(estimator, scheduler, people.every)
