"""Load all candidates, time them alternately and evaluate them on the same samples."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from okdhp_edge.artifacts.card import ModelCard, read_card
from okdhp_edge.artifacts.model_store import find_artifact
from okdhp_edge.backends.base import Backend, BackendConfig, BackendInfo, predict_with
from okdhp_edge.backends.registry import REGISTRY, get_backend_class, is_installed, open_backend
from okdhp_edge.backends.timing import time_interleaved
from okdhp_edge.data.sample import PoseDataset
from okdhp_edge.errors import BackendError, ModelError
from okdhp_edge.evaluation.evaluate import evaluate, make_inference_crop
from okdhp_edge.pose.metrics import Score
from okdhp_edge.system.latency import LatencyStats
from okdhp_edge.system.progress import Report, counter

_NUM_CROPS = 16


@dataclass(frozen=True)
class Candidate:
    """One backend at one precision."""

    backend: str
    precision: str
    folder: Path
    card: ModelCard


@dataclass(frozen=True)
class Row:
    """Measurements of one candidate; `score` is None without data."""

    candidate: Candidate
    description: BackendInfo
    latency: LatencyStats
    load_ms: float
    size_mb: float
    score: Score | None

    def to_dict(self) -> dict[str, Any]:
        """The row as JSON-ready values; latency in ms, size in MB."""
        return {
            "backend": self.candidate.backend, "precision": self.candidate.precision,
            "runs": self.description.to_dict(), "latency_ms": self.latency.to_dict(),
            "fps": round(1e3 / self.latency.mean, 1), "load_ms": round(self.load_ms, 1),
            "size_mb": round(self.size_mb, 3),
            "score": None if self.score is None else {
                "value": round(self.score.value, 2), "low": round(self.score.low, 2),
                "high": round(self.score.high, 2), "persons": self.score.persons,
            },
        }  # fmt: skip


def candidates(model: Path) -> tuple[list[Candidate], list[str]]:
    """Everything that can be tried on this machine, and why the rest cannot."""
    found, left_out = [], []
    for name, entry in REGISTRY.items():
        if not is_installed(name):
            left_out.append(f"{name}: not installed ({entry.install})")
            continue
        for precision in entry.precisions:
            try:
                folder = find_artifact(model, name, precision)
                found.append(Candidate(name, precision, folder, read_card(folder)))
            except ModelError as error:
                left_out.append(f"{name} {precision}: {error}")
    return found, left_out


def measure(
    tried: Sequence[Candidate],
    poses: PoseDataset | None,
    metric: str,
    *,
    runs: int,
    threads: int | None,
    report: Report,
) -> tuple[list[Row], list[str]]:
    """Time and evaluate every candidate; also those that this machine cannot load, with the reason.

    Timing goes round the candidates in blocks, so that heat and neighbours hit all alike.
    """
    loaded, left_out = _load(tried, threads)
    try:
        crops = _make_crops(tried[0].card, poses)
        samples = time_interleaved(
            [backend for _, backend, _ in loaded], crops, runs,
            counter(report, "time", runs),
        )  # fmt: skip
        rows = [
            Row(
                candidate, backend.describe(), LatencyStats.of(samples[number]), load_ms,
                _measure_size_mb(candidate), _score(backend, poses, metric, report),
            )
            for number, (candidate, backend, load_ms) in enumerate(loaded)
        ]  # fmt: skip
    finally:
        for _, backend, _ in loaded:
            backend.close()
    return rows, left_out


def recommend(rows: Sequence[Row], max_drop: float) -> Row | None:
    """What to run here: the fastest of those that lose at most `max_drop` points of the best FP32.

    None without scores, by which alone a precision can be trusted.
    """
    evaluated = [(row, row.score.value) for row in rows if row.score is not None]
    reference = [value for row, value in evaluated if row.candidate.precision == "fp32"]
    good = [row for row, value in evaluated if reference and value >= max(reference) - max_drop]
    return min(good, key=lambda row: row.latency.p50, default=None)


def slower_than_float(rows: Sequence[Row]) -> list[tuple[Row, Row]]:
    """INT8 rows that their own runtime's FP32 or BF16 beats, with the faster row."""
    found = []
    for row in rows:
        if row.candidate.precision != "int8":
            continue
        others = [
            r for r in rows
            if r.candidate.backend == row.candidate.backend and r.candidate.precision != "int8"
        ]  # fmt: skip
        best = min(others, key=lambda r: r.latency.p50, default=None)
        if best is not None and best.latency.p50 <= row.latency.p50:
            found.append((row, best))
    return found


_Loaded = list[tuple[Candidate, Backend, float]]


def _load(tried: Sequence[Candidate], threads: int | None) -> tuple[_Loaded, list[str]]:
    loaded: _Loaded = []
    left_out = []
    for candidate in tried:
        request = BackendConfig(candidate.folder, candidate.card, candidate.precision, threads)
        try:
            get_backend_class(candidate.backend)  # its import is no part of loading a model
            start = time.perf_counter_ns()
            backend = open_backend(candidate.backend, request)
        except BackendError as error:
            left_out.append(f"{candidate.backend} {candidate.precision}: {error}")
            continue
        loaded.append((candidate, backend, (time.perf_counter_ns() - start) / 1e6))
    if not loaded:
        raise BackendError("no backend here can run this model", "see `okdhp-edge doctor`")
    return loaded, left_out


def _make_crops(card: ModelCard, poses: PoseDataset | None) -> NDArray[np.uint8]:
    """Real crops where there are data; a network's speed does not depend on them."""
    if poses is not None:
        chosen = poses.samples[:_NUM_CROPS]
        images = [make_inference_crop(s, card.input, card.decoder.stride).image for s in chosen]
        return np.stack(images)
    shape = (_NUM_CROPS, card.input.height, card.input.width, 3)
    return np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)


def _score(
    backend: Backend, poses: PoseDataset | None, metric: str, report: Report
) -> Score | None:
    if poses is None:
        return None
    card, count = backend.card, len(poses)
    found = evaluate(
        poses, card.input, card.decoder, predict_with(backend), metric,
        progress=counter(report, "evaluate", count, backend.name),
    )  # fmt: skip
    return found["model"]


def _measure_size_mb(candidate: Candidate) -> float:
    """The files this candidate needs; torch weights lie next to the ONNX and count for torch."""
    names = set(candidate.card.files)
    torch_weights = {n for n in names if n.endswith(".safetensors")}
    used = torch_weights if candidate.backend == "pytorch" else names - torch_weights
    return sum((candidate.folder / name).stat().st_size for name in used) / 1e6
