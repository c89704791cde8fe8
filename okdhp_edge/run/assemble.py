"""Build a pipeline from the command's options."""

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from okdhp_edge.artifacts.card import ModelCard
from okdhp_edge.artifacts.model_store import SHIPPED_DETECTOR
from okdhp_edge.backends.base import Backend
from okdhp_edge.backends.selection import Say
from okdhp_edge.errors import ModelError, OutputError
from okdhp_edge.inference.open_detector import (
    NO_DETECTOR,
    Detector,
    check_pose_model,
    choose_detector,
    open_detector,
)
from okdhp_edge.inference.pose_estimator import MAX_WARMUP_BATCH_SIZE, PoseEstimator
from okdhp_edge.inference.tracking.detection_scheduler import DetectionScheduler
from okdhp_edge.inference.tracking.multi_person import (
    DETECTION_INTERVAL_FRAMES,
    MAX_PEOPLE,
    MultiPersonTracker,
)
from okdhp_edge.inference.tracking.single_person import SinglePersonTracker, Tracker
from okdhp_edge.inference.tracking.smoothing import Smoother
from okdhp_edge.run.controls import Controls
from okdhp_edge.run.loop import SourceRun
from okdhp_edge.run.pipeline import Pipeline
from okdhp_edge.run.reader import FramePolicy
from okdhp_edge.run.sinks.base import Sink
from okdhp_edge.run.sinks.records import STDOUT_PATH
from okdhp_edge.run.sinks.registry import SINKS, OutputRequest
from okdhp_edge.run.sinks.systemd import Watchdog, WatchdogSink
from okdhp_edge.run.sinks.window import WindowSink, is_window_possible
from okdhp_edge.run.sources.base import DEFAULT_FPS, Source
from okdhp_edge.run.sources.camera import CameraSettings
from okdhp_edge.run.sources.open import open_source
from okdhp_edge.system.latency import StageClock


@dataclass(frozen=True, kw_only=True)
class TrackingConfig:
    """Which people to track, and how.

    Attributes:
        mode: one person, followed by the joints; or many, found by a detector; `auto`: everybody,
            where a detector fits the model.
        detector: its name or file; None: the shipped one where it fits; `none`: none.
        every: frames from one detection to the next.
        max_people: of one frame; the nearest of more.
        smooth: whether joints are filtered over time.
    """

    mode: Literal["auto", "one", "many"] = "auto"
    detector: str | Path | None = None
    every: int = DETECTION_INTERVAL_FRAMES
    max_people: int = MAX_PEOPLE
    smooth: bool = False

    def resolve(self, card: ModelCard) -> "TrackingConfig":
        """What `auto` stands for with a model.

        Raises:
            ModelError: the model is no pose model, or many are to be found without a detector.
        """
        check_pose_model(card)
        detector = choose_detector(self.detector, card)
        mode = self.mode
        if mode == "auto":
            mode = "one" if detector is None else "many"
        if mode == "many" and detector is None:
            raise ModelError(
                "--people many needs a person detector",
                f"none is known to fit {card.name}: use --detector {SHIPPED_DETECTOR}, or an ONNX "
                "file",
            )
        return replace(self, mode=mode, detector=detector or NO_DETECTOR)


@dataclass(frozen=True)
class Outputs:
    """Files and screens that results go to; with several sources each file gets a number.

    Attributes:
        files: by kind, one of `sinks.registry.SINKS`.
        window: None opens one where it can.
        watchdog: whether frames are reported to systemd.
    """

    files: Mapping[str, Path] = field(default_factory=dict)
    window: bool | None = None
    watchdog: bool = False

    def get_files(self, index: int | None) -> dict[str, Path]:
        """The files of one of several sources; None leaves the names as they are."""
        return {kind: add_number(path, index) for kind, path in self.files.items()}


def add_number(path: Path, place: int | None) -> Path:
    """`poses.json`, or `poses-0.json` of the first of several sources."""
    if place is None or str(path) == STDOUT_PATH:
        return path
    path = path if path.name else path.resolve()  # `.`
    if not path.name:
        raise OutputError(f"{path} has no file name to append a number to", "name another folder")
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


def make_source_runs(
    sources: Sequence[Source], outputs: Outputs, card: ModelCard, policy: FramePolicy,
    controls: Controls, closing: ExitStack,
) -> list[SourceRun]:  # fmt: skip
    """Each source with its sinks. Files are opened last, once nothing else can fail.

    Args:
        policy: with a stride, a saved video has so many fewer frames a second.
        closing: what is not finished when it closes leaves nothing behind.

    Raises:
        OutputError: one of them cannot be written or shown.
    """
    show = _should_open_window(outputs.window)
    # A file beside cameras ends: from then on only they can say that the run is alive.
    watched = [i for i, source in enumerate(sources) if source.live] or list(range(len(sources)))
    watchdog = Watchdog(len(watched)) if outputs.watchdog else None
    if watchdog:
        closing.callback(watchdog.end)
        controls.while_paused.append(lambda: watchdog.mark_paused(time.monotonic()))
    feeds: list[SourceRun] = []
    for place, source in enumerate(sources):
        sinks: list[Sink] = []
        for kind, path in outputs.get_files(place if len(sources) > 1 else None).items():
            fps = (source.fps or DEFAULT_FPS) / policy.stride
            request = OutputRequest(path, source, card.skeleton.skeleton(), fps)
            sinks.append(SINKS[kind](request))
            closing.callback(sinks[-1].close, success=False)
        if show:
            number = f" ({place + 1})" if len(sources) > 1 else ""  # names need not differ
            window = WindowSink(f"okdhp-edge: {source.name}{number}")
            controls.while_idle.append(window.handle_events)
            sinks.append(window)
        if watchdog and place in watched:
            sinks.append(WatchdogSink(watchdog, watched.index(place)))
        feeds.append(SourceRun(source, sinks))
    return feeds


def _should_open_window(asked: bool | None) -> bool:
    possible = is_window_possible()
    if asked and not possible:
        raise OutputError(
            "cannot open a window (no display, or OpenCV built without GUI support)",
            "install opencv-python instead of opencv-python-headless, or use --save or --web",
        )
    return possible and asked is not False


def assemble(
    sources: Sequence[Source],
    backend: Backend,
    people: TrackingConfig,
    policy: FramePolicy,
    controls: Controls,
    closing: ExitStack,
    detector: Detector | None = None,
    say: Say = lambda _: None,
) -> Pipeline:
    """A pipeline over all sources with one model.

    Args:
        closing: what is opened here is closed with it.
        detector: an open one, for one source, that stays open; None: those that are needed are
            opened here.
        say: called with what is chosen for the detector.

    Raises:
        OkdhpError: a detector is missing or cannot be used.
    """
    people = people.resolve(backend.card)
    estimator = PoseEstimator(backend, StageClock())
    # Of a camera no frame should wait until a batch size is compiled. A file can, and saves the
    # time and memory of sizes that it does not need.
    live = any(policy.drops_frames(source) for source in sources)
    estimator.warm_up(MAX_WARMUP_BATCH_SIZE if live else 1)
    trackers = []
    for source in sources:
        # A detection in the background answers for a later frame of the same scene.
        live = policy.drops_frames(source) and source.continuous
        found = detector or _open_detector(people, estimator.backend, live, say, closing)
        still = not source.continuous
        trackers.append(_make_tracker(estimator, people, found, closing, live=live, still=still))
    smoothers = [Smoother() for _ in sources] if people.smooth else []
    return Pipeline(sources, estimator, trackers, controls, policy, smoothers)


def _open_detector(
    people: TrackingConfig, backend: Backend, live: bool, say: Say, closing: ExitStack
) -> Detector | None:
    if people.detector in (None, NO_DETECTOR):
        return None
    # One thread: beside the loop it must not take the cores that the pose network runs on.
    threads = 1 if live else backend.threads
    detector = open_detector(people.detector, backend=backend.name, threads=threads, say=say)
    closing.callback(detector.close)
    return detector


def _make_tracker(
    estimator: PoseEstimator,
    people: TrackingConfig,
    detector: Detector | None,
    closing: ExitStack,
    *,
    live: bool,
    still: bool,
) -> Tracker:
    if detector is None or people.mode == "one":
        return SinglePersonTracker(estimator, detector)
    scheduler = DetectionScheduler(detector, background=live)
    closing.callback(scheduler.close)
    return MultiPersonTracker(estimator, scheduler, people.every, people.max_people, still=still)
