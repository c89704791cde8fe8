"""Time what a runtime needs to start: in a process of its own, since a library is imported once.

`python -m okdhp_edge.backends.start_time FOLDER BACKEND PRECISION` loads a model and ends.
"""

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from okdhp_edge.artifacts import model_store
from okdhp_edge.backends.registry import RuntimeChoice
from okdhp_edge.system.child import run_module

_TIMEOUT_S = 60
_RUNS = 2


def time_starts(
    model: Path, choices: Sequence[RuntimeChoice], say: Callable[[str], None]
) -> dict[RuntimeChoice, float]:
    """Milliseconds in which a process loads each candidate, of those that can be timed."""
    timed = {c: time_start(model_store.find_artifact(model, *c), c) for c in choices}
    starts = {choice: ms for choice, ms in timed.items() if ms is not None}
    say("started: " + ", ".join(f"{choice} {ms:.0f} ms" for choice, ms in starts.items()))
    return starts


def time_start(folder: Path, choice: RuntimeChoice) -> float | None:
    """Milliseconds in which a new process loads a model and ends, the shorter of two runs.

    Args:
        folder: of the model; one that was loaded before is in the cache of compiled models.

    Returns:
        None where no process can be started or the model does not load in it.
    """
    times = []
    for _ in range(_RUNS):
        start = time.perf_counter()
        try:
            child = run_module(__name__, str(folder), *choice, timeout_s=_TIMEOUT_S)
        except (OSError, subprocess.SubprocessError):
            return None
        if child.returncode:
            return None
        times.append(1e3 * (time.perf_counter() - start))
    return min(times)


def _load(folder: str, backend: str, precision: str) -> None:
    from okdhp_edge.artifacts.card import read_card
    from okdhp_edge.backends.base import BackendConfig
    from okdhp_edge.backends.registry import open_backend

    path = Path(folder)
    open_backend(backend, BackendConfig(path, read_card(path), precision)).close()


if __name__ == "__main__":
    _load(*sys.argv[1:])
