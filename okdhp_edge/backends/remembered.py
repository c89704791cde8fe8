"""Remembered runtime selections in the user's cache folder, so that a second start skips timing.

What a trial found holds for the same model files, machine, runtime versions and words. A cache that
cannot be read or written costs a new trial and is no error.
"""

import hashlib
import importlib.metadata
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from okdhp_edge.artifacts.card import ModelCard
from okdhp_edge.artifacts.model_store import get_cache_folder
from okdhp_edge.backends.registry import RuntimeChoice, get_runtime
from okdhp_edge.errors import OkdhpError
from okdhp_edge.system.files import write_text
from okdhp_edge.system.hardware import describe_machine, read_cpu_flags
from okdhp_edge.system.reading import MAX_CONFIG_BYTES, read_file

_CACHE_FOLDER = "selections"
_MAX_AGE = timedelta(days=30)
RATIO_TO_FORGET = 1.5
"""A run whose inference is so many times slower or faster than remembered forgets it."""
# One person more or less changes little: a detection and two or three people.
_INFERENCES_PER_IMAGE = 4
_Milliseconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class MeasuredSelection(BaseModel):
    """The result of a trial.

    Attributes:
        latency_ms: median of the selected one at batch 1.
        times_ms: of every runtime that was timed, by its name and precision.
        start_ms: in which a process loads each of them and ends; empty where only streams were
            asked for.
        threads: CPU threads; None for the runtime's default.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    backend: str
    precision: str
    threads: Annotated[int, Field(ge=1, le=4096)] | None
    latency_ms: _Milliseconds
    times_ms: dict[str, _Milliseconds]
    start_ms: dict[str, _Milliseconds] = {}
    measured_at: AwareDatetime

    @classmethod
    def now(
        cls,
        choice: RuntimeChoice,
        threads: int | None,
        latency_ms: float,
        times: Mapping[RuntimeChoice, float],
        starts: Mapping[RuntimeChoice, float],
    ) -> Self:
        """A trial that has just been made."""
        return cls(
            backend=choice.backend, precision=choice.precision, threads=threads,
            latency_ms=latency_ms, times_ms={str(c): ms for c, ms in times.items()},
            start_ms={str(c): ms for c, ms in starts.items()}, measured_at=datetime.now(UTC),
        )  # fmt: skip

    def select_for_images(self, images: int, choices: Sequence[RuntimeChoice]) -> Self:
        """The same trial with the runtime that is done first with so many images, its start
        included; the fastest one where its start was not timed."""
        costs = {
            choice: self.start_ms[name] + images * _INFERENCES_PER_IMAGE * self.times_ms[name]
            for choice in choices
            if (name := str(choice)) in self.start_ms and name in self.times_ms
        }
        best = min(costs, key=lambda choice: costs[choice], default=self.choice)
        if best == self.choice or self.choice not in costs:
            return self
        changes = {
            "backend": best.backend, "precision": best.precision, "threads": None,
            "latency_ms": self.times_ms[str(best)],
        }  # fmt: skip
        return self.model_copy(update=changes)

    @property
    def choice(self) -> RuntimeChoice:
        """The runtime and precision."""
        return RuntimeChoice(self.backend, self.precision)

    @property
    def age(self) -> str:
        """How long ago it was measured, in its largest unit."""
        seconds = max(0.0, (datetime.now(UTC) - self.measured_at).total_seconds())
        for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
            if seconds >= size:
                return f"{seconds / size:.0f} {unit}"
        return f"{seconds:.0f} s"

    def describe(self) -> str:
        """The times, in words."""
        listed = ", ".join(f"{name} {ms:.2f} ms" for name, ms in self.times_ms.items())
        return f"{listed or f'{self.latency_ms:.2f} ms'}, measured {self.age} ago"


def make_key(
    cards: Sequence[ModelCard],
    choices: Sequence[RuntimeChoice],
    threads: int | None,
    tune_threads: bool,
    time_starts: bool,
) -> str:
    """Tells a trial from every other: model files, machine, versions, and what was asked."""
    machine = describe_machine()
    packages = {package for c in choices for package in get_runtime(c.backend).packages}
    facts = {
        "files": [sorted(card.files.items()) for card in cards], "choices": choices,
        "threads": threads, "tune": tune_threads, "starts": time_starts,
        "cpu": machine["cpu"], "flags": sorted(read_cpu_flags()), "cores": machine["cores"],
        "packages": [(name, _find_version(name)) for name in sorted({*packages, "okdhp-edge"})],
    }  # fmt: skip
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _find_version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _get_file(key: str) -> Path:
    return get_cache_folder(_CACHE_FOLDER) / f"{key}.json"


def recall(key: str) -> MeasuredSelection | None:
    """The trial of that key; None where there is none, or none that can be read and is recent."""
    try:
        found = MeasuredSelection.model_validate_json(read_file(_get_file(key), MAX_CONFIG_BYTES))
    except (OSError, ValueError):
        return None
    return found if datetime.now(UTC) - found.measured_at < _MAX_AGE else None


def remember(key: str, measured: MeasuredSelection) -> None:
    """Keep a trial, where the cache can be written."""
    with suppress(OSError, OkdhpError):
        file = _get_file(key)
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, measured.model_dump_json() + "\n")


def forget(key: str) -> None:
    """The next command times anew."""
    with suppress(OSError):
        _get_file(key).unlink(missing_ok=True)
