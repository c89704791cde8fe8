"""Latency statistics: monotonic clock, nearest-rank percentiles."""

import math
import statistics
import time
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import NamedTuple

_NS_PER_MS = 1e6


Clock = Callable[[], int]
"""Nanoseconds that never run backwards."""


@dataclass(frozen=True)
class LatencyStats:
    """Times in milliseconds; percentiles are nearest-rank: values that really occurred."""

    n: int
    mean: float
    sd: float
    p50: float
    p90: float
    p95: float
    p99: float
    max: float

    @classmethod
    def of(cls, samples_ns: Sequence[int]) -> "LatencyStats":
        """Summarise at least one sample.

        Raises:
            ValueError: no sample.
        """
        if not samples_ns:
            raise ValueError("no latency samples")
        ordered = sorted(samples_ns)
        mean = statistics.fmean(ordered)
        sd = statistics.pstdev(ordered, mean)
        shares = (0.5, 0.9, 0.95, 0.99, 1.0)
        p50, p90, p95, p99, most = (nearest_rank(ordered, s) / _NS_PER_MS for s in shares)
        return cls(
            len(ordered), mean / _NS_PER_MS, sd / _NS_PER_MS, p50, p90, p95, p99, most
        )  # fmt: skip

    @property
    def cv(self) -> float:
        """Coefficient of variation: standard deviation over mean; 0 where nothing took time."""
        return self.sd / self.mean if self.mean else 0.0

    def to_dict(self) -> dict[str, float]:
        """The fields as JSON-ready values, in ms."""
        return {k: round(v, 4) for k, v in asdict(self).items()}


class Interval(NamedTuple):
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} ({self.low:.2f}..{self.high:.2f})"


def nearest_rank(ordered: Sequence[int], share: float) -> int:
    """The smallest sample that at least `share` of all samples do not exceed."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def drift(samples_ns: Sequence[int]) -> float | None:
    """Median of the second half over that of the first, less one; None below two samples."""
    half = len(samples_ns) // 2
    if not half:
        return None
    first = statistics.median(samples_ns[:half])
    return statistics.median(samples_ns[half:]) / first - 1 if first else None


class StageClock:
    """Times named stages; a stage entered several times in one frame adds up in that frame."""

    def __init__(self, clock: Clock = time.perf_counter_ns) -> None:
        self.now = clock
        self._frame: dict[str, int] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time the block as part of the current frame."""
        start = self.now()
        try:
            yield
        finally:
            self._frame[name] = self._frame.get(name, 0) + self.now() - start

    def take(self) -> dict[str, int]:
        """Nanoseconds of each stage of the frame that ends here."""
        frame, self._frame = self._frame, {}
        return frame


class Series:
    """Samples of one quantity, in memory that stays bounded however long a run lasts.

    Number, mean, deviation and maximum are those of all samples. Percentiles are of all up to
    `limit`; beyond it of every second, fourth, ... sample, evenly over the whole run.
    """

    def __init__(self, limit: int = 50_000) -> None:
        self._limit, self._stride = limit, 1
        self._kept = array("q")
        self._n = self._total = self._squares = self._max = 0

    def add(self, ns: int) -> None:
        """Append one duration in nanoseconds."""
        if self._n % self._stride == 0:
            if len(self._kept) >= self._limit:
                self._kept = self._kept[::2]
                self._stride *= 2
            if self._n % self._stride == 0:
                self._kept.append(ns)
        self._n += 1
        self._total += ns
        self._squares += ns * ns
        self._max = max(self._max, ns)

    def fill_zeros(self, count: int) -> None:
        """An empty series as `count` durations of zero leave it, at once."""
        self._n = count
        while -(-count // self._stride) > self._limit:
            self._stride *= 2
        self._kept = array("q", [0]) * -(-count // self._stride)

    def __len__(self) -> int:
        return self._n

    @property
    def samples(self) -> Sequence[int]:
        """Those that are kept, in order."""
        return self._kept

    def stats(self) -> LatencyStats:
        """See `LatencyStats.of`."""
        mean = self._total / self._n
        sd = math.sqrt(max(self._squares / self._n - mean * mean, 0.0))
        return replace(
            LatencyStats.of(self._kept), n=self._n, mean=mean / _NS_PER_MS, sd=sd / _NS_PER_MS,
            max=self._max / _NS_PER_MS,
        )  # fmt: skip


class StageLog:
    """Series of every stage over frames; a frame without a stage counts as zero there."""

    def __init__(self) -> None:
        self.frames = 0
        self.series: dict[str, Series] = {}

    def add(self, stages: Mapping[str, int]) -> None:
        """The stages of one frame."""
        for name in stages.keys() - self.series.keys():
            self.series[name] = Series()
            self.series[name].fill_zeros(self.frames)
        for name, series in self.series.items():
            series.add(stages.get(name, 0))
        self.frames += 1
