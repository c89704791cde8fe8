"""Time loaded models alternately, so that heat and other processes affect all of them equally."""

import time
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from okdhp_edge.backends.base import Backend

ROUND = 10
"""Runs of one model before it is the next one's turn."""
_WARMUP_RUNS = 10
# A runtime's idle threads spin for a while and would slow the next candidate down.
_SETTLE_S, _REWARM_RUNS = 0.05, 3


def time_interleaved(
    loaded: Sequence[Backend],
    crops: NDArray[np.uint8],
    runs: int,
    done: Callable[[int], None] = lambda _: None,
) -> list[list[int]]:
    """Nanoseconds of each run of one crop, by backend, in rounds of ten.

    Args:
        crops: real ones if possible; they are gone through one by one.
        done: called after each round with the number of runs done per backend.
    """
    samples: list[list[int]] = [[] for _ in loaded]
    for start in range(0, runs, ROUND):
        for number, backend in enumerate(loaded):
            samples[number].extend(
                _time_block(backend, crops, _REWARM_RUNS if start else _WARMUP_RUNS)
            )
        done(start + ROUND)
    return samples


def _time_block(backend: Backend, crops: NDArray[np.uint8], warmup: int) -> list[int]:
    time.sleep(_SETTLE_S)
    for _ in range(warmup):
        backend.infer_all(crops[:1])
    times = []
    for i in range(ROUND):
        crop = crops[i % len(crops)][None]
        start = time.perf_counter_ns()
        backend.infer_all(crop)
        times.append(time.perf_counter_ns() - start)
    return times
