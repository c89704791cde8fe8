"""Latency to be believed: monotonic clock, all samples kept, percentiles that occurred."""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Protocol

_NS_PER_MS = 1e6


class Clock(Protocol):
    """Nanoseconds that never run backwards."""

    def __call__(self) -> int: ...


@dataclass(frozen=True)
class LatencyStats:
    """Times in milliseconds; percentiles are nearest-rank: values that really occurred."""

    n: int
    mean: float
    p50: float
    p90: float
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
        p50, p90, p99 = (nearest_rank(ordered, share) / _NS_PER_MS for share in (0.5, 0.9, 0.99))
        mean = sum(ordered) / len(ordered) / _NS_PER_MS
        return cls(len(ordered), mean, p50, p90, p99, ordered[-1] / _NS_PER_MS)

    def to_dict(self) -> dict[str, float]:
        return {k: round(v, 4) for k, v in asdict(self).items()}


def nearest_rank(ordered: Sequence[int], share: float) -> int:
    """The smallest sample that at least `share` of all samples do not exceed."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


class StageClock:
    """Times named stages; a stage entered several times in one frame adds up in that frame."""

    def __init__(self, clock: Clock = time.perf_counter_ns) -> None:
        self.now = clock
        self._frame: dict[str, int] = {}
        self._frames: list[dict[str, int]] = []

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time the block as part of the current frame."""
        start = self.now()
        try:
            yield
        finally:
            self._frame[name] = self._frame.get(name, 0) + self.now() - start

    def end_frame(self, *, counted: bool = True) -> None:
        """Close the frame; one that is not counted (warm-up, end of stream) is forgotten."""
        if counted:
            self._frames.append(self._frame)
        self._frame = {}

    @property
    def frames(self) -> int:
        return len(self._frames)

    def stats(self) -> dict[str, LatencyStats]:
        """Per stage over the counted frames, a frame without the stage counting as zero."""
        names = dict.fromkeys(name for frame in self._frames for name in frame)
        return {n: LatencyStats.of([f.get(n, 0) for f in self._frames]) for n in names}
