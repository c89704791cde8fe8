"""Reports of several runs side by side, with intervals."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, ValidationError

from okdhp_edge.errors import DataError, describe_first_fault
from okdhp_edge.system.latency import Interval
from okdhp_edge.system.reading import read_json

# Neighbouring frames are alike; blocks of this many are drawn together.
_BLOCK_FRAMES, _BOOTSTRAP_ROUNDS = 50, 1000
# Fewer, and every resample of a short run would be the run itself.
_MIN_BLOCKS = 20
_REMEDY = "create one with `okdhp-edge run --report FILE.json`"
_MAX_DRAWN_SAMPLES = 20_000_000
_COMPARED_SERIES = ("infer", "frame age")


# Thirteen hours at 30 frames a second.
_MAX_SAMPLES = 1_400_000
_Ms = Annotated[float, Field(allow_inf_nan=False, ge=0)]


class _Backend(BaseModel):
    backend: str
    version: str
    precision: str
    threads: int | None = None


class _Machine(BaseModel):
    cpu: str | None = None
    cores: int | None = None


class _Report(BaseModel):
    """What a comparison reads of a report."""

    samples_ms: dict[str, Annotated[list[_Ms], Field(max_length=_MAX_SAMPLES)]]
    frame_age_ms: dict[str, _Ms]
    backend: _Backend
    machine: _Machine
    fps: _Ms
    frames: int
    dropped: int
    flags: list[Any]


def read_report(path: Path) -> dict[str, Any]:
    """A report that `run --report` wrote, labelled by its file name.

    Raises:
        DataError: it is no such file.
    """
    try:
        report = read_json(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error})", _REMEDY) from error
    if isinstance(report, dict) and isinstance(report.get("sources"), list):
        count = len(report["sources"])
        raise DataError(f"{path} has {count} sources", "compare runs with one source each")
    if isinstance(report, dict) and "frame_age_ms" in report and report["frame_age_ms"] is None:
        raise DataError(f"{path} is of a run of {report.get('frames')} frames, all of them warm-up",
                        "run more frames")  # fmt: skip
    try:
        _Report.model_validate(report)
    except ValidationError as error:
        raise DataError(
            f"{path} is not a report with raw times ({describe_first_fault(error)})", _REMEDY
        ) from error
    return {**report, "label": path.stem}


def read_reports(paths: Sequence[Path]) -> list[dict[str, Any]]:
    """As `read_report`; files of one name are labelled by their folders too."""
    names = Counter(path.stem for path in paths)
    return [
        report if names[path.stem] == 1
        else report | {"label": f"{path.resolve().parent.name}/{path.stem}"}
        for path, report in zip(paths, map(read_report, paths), strict=True)
    ]  # fmt: skip


def bootstrap_medians(samples_ms: Sequence[float], seed: int = 0) -> NDArray[np.float64]:
    """Medians of moving-block resamples (Kuensch, 1989) of a series: a thousand, of hours of frames
    as few as a hundred."""
    series = np.asarray(samples_ms, dtype=np.float64)
    block = max(1, min(_BLOCK_FRAMES, len(series) // _MIN_BLOCKS))
    blocks = -(-len(series) // block)
    rng = np.random.default_rng(seed)
    draws_wanted = max(
        _BOOTSTRAP_ROUNDS // 10, min(_BOOTSTRAP_ROUNDS, _MAX_DRAWN_SAMPLES // len(series))
    )
    starts = rng.integers(0, len(series) - block + 1, (draws_wanted, blocks, 1))
    # One after the other: all together are a thousand times the report.
    draws = (series[start + np.arange(block)].ravel()[: len(series)] for start in starts)
    return np.array([np.median(draw) for draw in draws])


def median(samples_ms: Sequence[float]) -> Interval:
    """Of at least one sample."""
    low, high = np.percentile(bootstrap_medians(samples_ms), [2.5, 97.5])
    return Interval(float(np.median(samples_ms)), float(low), float(high))


def compare_reports(reports: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows `what` and `cells`, a cell for each report."""
    rows = [
        _make_row("frames per second", [f"{r['fps']:.1f}" for r in reports]),
        _make_row("frames (dropped)", [f"{r['frames']} ({r['dropped']})" for r in reports]),
    ]
    for name in _COMPARED_SERIES:
        series = [r["samples_ms"].get(name) for r in reports]
        if name == "infer":  # of the frames with somebody in view
            series = [s and [value for value in s if value] for s in series]
        rows.append(_make_row(f"{name} p50, ms", [str(median(s)) if s else "-" for s in series]))
        rows.append(
            _make_row(f"{name} vs the first", [_format_ratio(series[0], s) for s in series])
        )
    for key in ("p95", "p99"):
        ages = [r["frame_age_ms"] for r in reports]
        rows.append(
            _make_row(f"frame age {key}, ms", [f"{a[key]:.2f}" if key in a else "-" for a in ages])
        )
    rows += [
        _make_row(
            "ran on", [f"{r['backend']['backend']} {r['backend']['version']}" for r in reports]
        ),
        _make_row("precision", [r["backend"]["precision"].split(" (")[0] for r in reports]),
        _make_row("threads", [str(r["backend"].get("threads") or "default") for r in reports]),
        _make_row(
            "machine",
            [f"{r['machine'].get('cpu')}, {r['machine'].get('cores')} cores" for r in reports],
        ),
        _make_row("warnings", [str(len(r["flags"])) for r in reports]),
    ]
    return rows


def _make_row(what: str, cells: Sequence[str]) -> dict[str, Any]:
    return {"what": what, "cells": list(cells)}


def _format_ratio(first: Sequence[float] | None, other: Sequence[float] | None) -> str:
    if not first or not other:
        return "-"
    if first is other:
        return "1"
    ours, theirs = bootstrap_medians(other, seed=1), bootstrap_medians(first, seed=0)
    count = min(len(ours), len(theirs))
    draws = ours[:count] / theirs[:count]
    low, high = np.percentile(draws, [2.5, 97.5])
    return f"{np.median(other) / np.median(first):.2f} ({low:.2f}..{high:.2f})"
