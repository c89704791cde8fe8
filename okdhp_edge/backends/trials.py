"""Short timing trials on this machine for the fastest runtime, precision and thread count."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import TypeVar

from okdhp_edge.backends.base import Backend, BackendConfig
from okdhp_edge.backends.registry import RuntimeChoice, open_backend
from okdhp_edge.errors import BackendError
from okdhp_edge.system.hardware import count_usable_cores

Key = TypeVar("Key", bound=tuple[str, object])
TRIAL_RUNS = 20
# More threads take cores from everything around the network: they must save this share of the time.
_MIN_TIME_SAVED_SHARE = 0.05


def time_runtimes(
    configs: Mapping[RuntimeChoice, BackendConfig],
) -> tuple[dict[RuntimeChoice, float], dict[RuntimeChoice, BackendError]]:
    """Median milliseconds at batch 1 of each that loads, in turns, and why the others do not.

    A runtime may lack a kernel: OpenVINO loads no INT8 on ARM without dot products.
    """
    failed: dict[RuntimeChoice, BackendError] = {}
    return _time(configs, failed), failed


def time_threads(
    backend: str, config: BackendConfig, say: Callable[[str], None]
) -> tuple[int, float]:
    """The number of threads that is fastest here, of near equals the smaller, and its
    milliseconds."""
    cores = count_usable_cores()
    numbers = sorted({2**i for i in range(cores.bit_length()) if 2**i <= cores} | {cores})
    timed = {(backend, n): replace(config, threads=n) for n in numbers}
    times = {n: ms for (_, n), ms in _time(timed).items()}
    best = numbers[0]
    for number in numbers[1:]:
        if times[number] < (1 - _MIN_TIME_SAVED_SHARE) * times[best]:
            best = number
    listed = ", ".join(f"{n} {ms:.2f} ms" for n, ms in times.items())
    say(f"threads timed: {listed}; using {best}")
    return best, times[best]


def _time(
    configs: Mapping[Key, BackendConfig], failed: dict[Key, BackendError] | None = None
) -> dict[Key, float]:
    """Median milliseconds at batch 1 by key, whose first part is the backend, in turns. What does
    not load goes to `failed`, or is raised where there is none."""
    import numpy as np

    from okdhp_edge.backends.timing import time_interleaved
    from okdhp_edge.system.latency import LatencyStats

    with ExitStack() as stack:
        loaded: dict[Key, Backend] = {}
        for key, config in configs.items():
            try:
                loaded[key] = stack.enter_context(open_backend(key[0], config))
            except BackendError as error:
                if failed is None:
                    raise
                failed[key] = error
        if not loaded:
            return {}
        spec = next(iter(loaded.values())).card.input
        crop = np.zeros((1, spec.height, spec.width, 3), dtype=np.uint8)
        samples = time_interleaved(list(loaded.values()), crop, TRIAL_RUNS)
    return {key: LatencyStats.of(ns).p50 for key, ns in zip(loaded, samples, strict=True)}
