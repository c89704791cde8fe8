"""Shares the latest frame and statistics between the loop and viewers, without a queue.

The loop only puts a reference down. Scaling and JPEG happen for the first viewer who asks, once for
all of them, and no oftener than viewers can use.
"""

import statistics
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

import cv2

from okdhp_edge.pose.preprocess import Image, resize_within
from okdhp_edge.run.controls import Controls
from okdhp_edge.run.loop import SourceRun
from okdhp_edge.run.pipeline import FrameResult, Pipeline
from okdhp_edge.system.hardware import read_sensors
from okdhp_edge.system.latency import LatencyStats

_MAX_SIDE_PX, _JPEG_QUALITY = 720, 75
_MAX_IMAGES_PER_S, _MIN_IMAGES_PER_S, _TOTAL_IMAGES_PER_S = 15.0, 4.0, 100.0
_MAX_RECENT_FRAMES = 240
_STATISTICS_WINDOW_S = 2.0
_MAX_HEALTHY_AGE_S = 5.0
_STATISTICS_INTERVAL_S = 0.25


class _RecentFrame(NamedTuple):
    at_ns: int
    age_ns: int
    stages: dict[str, int]
    people: int


class Channel:
    """One source's part of the hub; the loop's sink for it."""

    def __init__(self, hub: "Hub") -> None:
        self._hub = hub
        self._image: tuple[int, Image] | None = None
        self._jpeg: tuple[int, bytes] = (-1, b"")
        self._drawn_ns = 0
        self._lock = threading.Lock()
        self.recent: deque[_RecentFrame] = deque(maxlen=_MAX_RECENT_FRAMES)

    @property
    def wants_image(self) -> bool:
        """Only while somebody watches, and as often as they are shown one."""
        passed = time.perf_counter_ns() - self._drawn_ns
        return self._hub.viewers > 0 and passed >= 1e9 / self._hub.images_per_s

    def write(self, result: FrameResult, annotated: Image) -> bool:
        """Keep the newest frame for viewers; True: the run goes on."""
        now = time.perf_counter_ns()
        if annotated is not result.frame.image and self.wants_image:
            self._image, self._drawn_ns = (result.frame.number, annotated), now
        elif not self._hub.viewers:
            self._image = None  # the next viewer is shown nothing that was long ago
        age = result.done_ns - result.frame.captured_ns
        self.recent.append(_RecentFrame(now, age, result.stages, len(result.poses)))
        return True

    def close(self, *, success: bool) -> None:
        """Nothing was written."""

    def encode_latest(self, after: int) -> tuple[int, bytes] | None:
        """The latest image's number and its JPEG, if it is another than `after`."""
        with self._lock:
            image = self._image
            if image is None or image[0] == after:
                return None
            if self._jpeg[0] != image[0]:
                self._jpeg = (image[0], _encode_jpeg(image[1]))
            return self._jpeg


class Hub:
    """What viewers are shown; made before the run, told of it by `attach`."""

    def __init__(self, controls: Controls, names: Sequence[str]) -> None:
        self.controls, self.names = controls, names
        self.channels = [Channel(self) for _ in names]
        self.viewers = 0
        self.closed = False
        """Whether the server ends, and with it every stream."""
        self._pipeline: Pipeline | None = None
        self._feeds: Sequence[SourceRun] = ()
        self._started = time.monotonic()
        self._resumed_ns = 0
        self._numbers: tuple[float, dict[str, Any]] = (float("-inf"), {})

    def attach(self, pipeline: Pipeline, feeds: Sequence[SourceRun]) -> None:
        """From now on tell of this run."""
        self._pipeline, self._feeds = pipeline, feeds

    @property
    def images_per_s(self) -> float:
        """For each viewer; fewer where there are many, so that all together cost the same."""
        each = _TOTAL_IMAGES_PER_S / max(self.viewers, 1)
        return min(_MAX_IMAGES_PER_S, max(_MIN_IMAGES_PER_S, each))

    @property
    def healthy(self) -> bool:
        """Whether a frame came lately, or the run is paused, or was until lately."""
        lasts = [channel.recent[-1].at_ns for channel in self.channels if channel.recent]
        if self.controls.paused or not lasts:
            return self.controls.paused or time.monotonic() - self._started < _MAX_HEALTHY_AGE_S
        interval_s = self._pipeline.frame_interval_s if self._pipeline else 0.0
        age_s = (time.perf_counter_ns() - max(*lasts, self._resumed_ns)) / 1e9
        return age_s < max(_MAX_HEALTHY_AGE_S, 2 * interval_s)

    def set_paused(self, paused: bool) -> None:
        """Pause the run, or let it go on."""
        if self.controls.paused and not paused:
            self._resumed_ns = time.perf_counter_ns()
        self.controls.paused = paused

    def get_numbers(self) -> dict[str, Any]:
        """What page and metrics show, JSON-ready; collected once for all who ask at a time."""
        at, numbers = self._numbers
        if time.monotonic() - at >= _STATISTICS_INTERVAL_S:
            numbers = self._collect_numbers()
            self._numbers = (time.monotonic(), numbers)
        return numbers | {"controls": self._describe_controls()}

    def _collect_numbers(self) -> dict[str, Any]:
        return {
            "sources": [self._describe_source(place) for place in range(len(self.names))],
            "viewers": self.viewers,
            "sensors": read_sensors(),
        }

    def _describe_controls(self) -> dict[str, Any]:
        controls = self.controls
        return {
            "paused": controls.paused,
            "threshold": controls.threshold,
            "choices": [list(choice) for choice in controls.choices],
            "current": list(controls.current) if controls.current else None,
            "trouble": controls.trouble,
        }

    def _describe_source(self, place: int) -> dict[str, Any]:
        numbers: dict[str, Any] = {"name": self.names[place]}
        if self._pipeline is not None:
            reader, stats = (
                self._pipeline.readers[place],
                self._feeds[place].stats,
            )
            numbers |= {
                "captured": reader.captured, "dropped": reader.dropped, "frames": stats.frames,
                "found": stats.found,
            }  # fmt: skip
        return numbers | _summarize(list(self.channels[place].recent))


def _summarize(recent: list[_RecentFrame]) -> dict[str, Any]:
    """Rate, age and stages of the last two seconds; of a slower source, of its last two frames,
    as long as the next one is not overdue."""
    now = time.perf_counter_ns()
    within = [frame for frame in recent if frame.at_ns >= now - _STATISTICS_WINDOW_S * 1e9]
    if len(within) < 2 and len(recent) >= 2:
        pause_ns = recent[-1].at_ns - recent[-2].at_ns
        is_overdue = now - recent[-1].at_ns > 2 * max(pause_ns, _STATISTICS_WINDOW_S * 1e9)
        within = [] if is_overdue else recent[-2:]
    recent = within
    if len(recent) < 2:
        return {"fps": 0.0, "people": 0, "age_ms": None, "stages_ms": {}}
    span = (recent[-1].at_ns - recent[0].at_ns) / 1e9
    age = LatencyStats.of([recent_frame.age_ns for recent_frame in recent])
    names = dict.fromkeys(name for recent_frame in recent for name in recent_frame.stages)
    stages = {n: statistics.fmean(g.stages.get(n, 0) for g in recent) / 1e6 for n in names}
    return {
        "fps": round((len(recent) - 1) / span, 2) if span else 0.0,
        "people": recent[-1].people,
        "age_ms": {"p50": round(age.p50, 3), "p95": round(age.p95, 3), "max": round(age.max, 3)},
        "stages_ms": {name: round(ms, 3) for name, ms in stages.items()},
    }


def _encode_jpeg(image: Image) -> bytes:
    if max(image.shape[:2]) > _MAX_SIDE_PX:
        image = resize_within(image, (_MAX_SIDE_PX, _MAX_SIDE_PX))
    good, jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    assert good
    return jpeg.tobytes()
