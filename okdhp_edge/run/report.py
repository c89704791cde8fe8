"""The report of a run: measurements with machine and software information."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np

from okdhp_edge import __version__
from okdhp_edge.backends.base import Backend, BackendInfo
from okdhp_edge.backends.selection import Selection
from okdhp_edge.run.pipeline import STAGES_TO_POSES
from okdhp_edge.run.reader import FrameReader
from okdhp_edge.run.run_statistics import STAGES_AFTER_POSES, WARMUP_FRAMES, RunStatistics
from okdhp_edge.run.sources.base import Source
from okdhp_edge.system.hardware import describe_machine
from okdhp_edge.system.latency import LatencyStats, Series, drift

# How much of what is measured may vary, and wander from the first half to the second, before a
# reader is warned (deployment's conventions: 10 % on CPUs).
_MAX_STEADY_CV, _MAX_STEADY_DRIFT = 0.10, 0.05
_MIN_CLOCK_RATIO = 0.9
_MIN_P99_FRAMES = 1000
_MIN_SOURCE_RATE_RATIO = 0.97
_MAX_REPORTED_SAMPLES = 5000


@dataclass(frozen=True, kw_only=True)
class RunReport:
    """Latency of every stage and of the whole, and what it was measured on.

    Attributes:
        frames: frames shown, warm-up included.
        frames_with_people: frames with at least one person.
        max_people: the most in one frame.
        dropped: frames a live source gave that were never looked at.
        skipped: frames passed over by the stride.
        unprocessed: frames that had been read when the run was ended; captured = frames + dropped +
            skipped + unprocessed.
        warmup: frames left out of every statistic.
        fps: counted frames / wall seconds between the first and the last of them.
        first_frame_ms: age of the very first frame: what loading lazily and warming up cost.
        stages: by name; those of `pipeline.STAGES_TO_POSES` add up to the age, `capture` comes
            before it and those of `run_statistics.STAGES_AFTER_POSES` after.
        frame_age: capture to poses; None when no frame was counted.
        end_to_end: capture to the end of the last sink.
        drift: median age of the second half over that of the first, less one.
        flags: what a reader should be warned of.
        sensors: before and after, where the machine tells.
        selection: on what grounds runtime and threads were selected, see `Selection.to_dict`.
        detector: of the persons; None where there was none.
        left_out: people found in one frame beyond those whose poses were estimated.
        samples_ms: raw times by stage, evenly thinned.
    """

    source: str
    source_facts: dict[str, Any]
    live: bool
    frames: int
    frames_with_people: int
    max_people: int
    captured: int
    dropped: int
    skipped: int
    unprocessed: int
    warmup: int
    seconds: float
    fps: float
    first_frame_ms: float | None
    stages: dict[str, LatencyStats]
    frame_age: LatencyStats | None
    end_to_end: LatencyStats | None
    drift: float | None
    flags: tuple[str, ...]
    backend: BackendInfo
    precision_asked: str
    selection: dict[str, Any] | None
    detector: str | None
    left_out: int
    model: str
    model_sha256: str
    input_size: tuple[int, int]
    sensors: tuple[dict[str, float | int], dict[str, float | int]]
    samples_ms: dict[str, list[float]]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, with machine and software facts."""
        apart = ("stages", "frame_age", "end_to_end", "samples_ms", "sensors")
        record = {k: v for k, v in asdict(self).items() if k not in apart}
        record["seconds"], record["fps"] = round(self.seconds, 4), round(self.fps, 2)
        record["stages_ms"] = {name: s.to_dict() for name, s in self.stages.items()}
        record["frame_age_ms"] = self.frame_age.to_dict() if self.frame_age else None
        record["end_to_end_ms"] = self.end_to_end.to_dict() if self.end_to_end else None
        record["sensors"] = dict(zip(("before", "after"), self.sensors, strict=True))
        record["machine"] = describe_machine()
        record["software"] = {
            "okdhp-edge": __version__, "opencv": cv2.__version__, "numpy": np.__version__,
            "opencv_threads": cv2.getNumThreads(),
        }  # fmt: skip
        record["percentiles"] = "nearest rank"
        return record

    def with_samples(self) -> dict[str, Any]:
        """The same and the raw times, for pages and comparisons."""
        return self.to_dict() | {"samples_ms": self.samples_ms}


def build_report(
    source: Source,
    reader: FrameReader,
    stats: RunStatistics,
    backend: Backend,
    precision_asked: str,
    sensors: tuple[dict[str, float | int], dict[str, float | int]],
    *,
    switches: int = 0,
    selection: Selection | None = None,
    detector: str | None = None,
    left_out: int = 0,
    paused_s: float = 0.0,
) -> RunReport:
    """Everything that is known of one source's run.

    Args:
        selection: how the first backend was selected.
        backend: the last of them, where a viewer switched.
        switches: how often another model was taken up.
        detector: its name or file.
        left_out: people of one frame that were found and not estimated.
        paused_s: how long the run was paused.
    """
    counted = stats.stages.frames > 0
    series = {name: stats.stages.series[name] for name in _order_stages(stats.stages.series)}
    card = backend.card
    return RunReport(
        source=source.name, source_facts=_collect_facts(source), live=source.live,
        frames=stats.frames, frames_with_people=stats.found, max_people=stats.people,
        captured=reader.captured,
        dropped=reader.dropped, skipped=reader.skipped,
        unprocessed=reader.unprocessed + stats.unshown,
        warmup=min(WARMUP_FRAMES, stats.frames), seconds=stats.seconds, fps=stats.fps,
        first_frame_ms=round(stats.first_age_ns / 1e6, 3) if stats.frames else None,
        stages={name: s.stats() for name, s in series.items()},
        frame_age=stats.age.stats() if counted else None,
        end_to_end=stats.shown.stats() if counted else None,
        drift=drift(stats.age.samples) if counted else None,
        flags=tuple(_find_flags(source, stats, sensors, switches, reader.stride, paused_s))
        if counted else (),
        backend=backend.describe(), precision_asked=precision_asked,
        selection=selection.to_dict() if selection else None, detector=detector,
        left_out=left_out,
        model=f"{card.name} branch {card.branch} {card.profile} {card.precision}",
        model_sha256=card.files[card.model_file], input_size=card.input.size, sensors=sensors,
        samples_ms={n: _thin_samples(s) for n, s in (series | {"frame age": stats.age}).items()}
        if counted else {},
    )  # fmt: skip


def _collect_facts(source: Source) -> dict[str, Any]:
    return source.facts | ({"notes": source.notes} if source.notes else {})


def _order_stages(names: Mapping[str, Any]) -> list[str]:
    """As a frame goes through them."""
    order = ("capture", *STAGES_TO_POSES, *STAGES_AFTER_POSES)
    return [name for name in order if name in names]


def _find_flags(
    source: Source,
    stats: RunStatistics,
    sensors: tuple[dict[str, float | int], dict[str, float | int]],
    switches: int = 0,
    stride: int = 1,
    paused_s: float = 0.0,
) -> Sequence[str]:
    flags = []
    if paused_s:
        flags.append(f"paused: for {paused_s:.1f} s, which the frame rate includes")
    if switches:
        flags.append(f"mixed: the model was switched during the run ({switches}x); times cover all")
    infer = stats.stages.series.get("infer")
    inferred = [ns for ns in _choose_comparable(stats, infer) if ns] if infer else []
    if inferred and (varies := LatencyStats.of(inferred).cv) > _MAX_STEADY_CV:
        flags.append(f"unstable: inference varies by {varies:.0%} (std/mean)")
    wandered = drift(_choose_comparable(stats, stats.age))
    if wandered is not None and abs(wandered) > _MAX_STEADY_DRIFT:
        flags.append(f"drift: frame age changed by {wandered:+.0%} from first to second half")
    before, after = sensors
    if after.get("throttled", 0) > before.get("throttled", 0):
        flags.append("throttled: the CPU reported thermal events during the run")
    if after.get("mhz", math.inf) < _MIN_CLOCK_RATIO * before.get("mhz", 0):
        flags.append(f"throttled: the clock dropped from {before['mhz']} to {after['mhz']} MHz")
    if stats.stages.frames < _MIN_P99_FRAMES:
        flags.append(f"few frames: p99 of {stats.stages.frames} is close to the maximum")
    if source.live and source.fps and stats.fps * stride >= _MIN_SOURCE_RATE_RATIO * source.fps:
        flags.append("source-limited: the frame rate is limited by the source, not by the machine")
    return flags


def _choose_comparable(stats: RunStatistics, series: Series) -> list[int]:
    """The samples of frames with as many people as most frames with people had: of a scene that
    people enter and leave, times differ though the machine is steady."""
    usual = Counter(count for count in stats.people_counts if count).most_common(1)
    if not usual:
        return list(series.samples)
    counts = stats.people_counts
    return [ns for ns, count in zip(series.samples, counts, strict=True) if count == usual[0][0]]


def _thin_samples(series: Series) -> list[float]:
    step = -(-len(series.samples) // _MAX_REPORTED_SAMPLES)
    return [round(ns / 1e6, 4) for ns in series.samples[::step]]
