"""From the words model, backend, precision and threads to a loaded backend."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, TypeVar

from okdhp_edge.artifacts import model_store
from okdhp_edge.artifacts.card import ModelCard, model_folder, read_card
from okdhp_edge.backends.base import Backend, BackendConfig
from okdhp_edge.backends.registry import REGISTRY, entry, installed, open_backend
from okdhp_edge.errors import BackendError, ModelError
from okdhp_edge.system.hardware import int8_units, saturates_in_int8, usable_cores

Key = TypeVar("Key", bound=tuple[str, object])
Say = Callable[[str], None]
"""Told every automatic choice, in words for people."""

AUTO = "auto"
# Among equals `auto` takes the first.
_PREFERRED = ("openvino", "onnxruntime", "pytorch")
_LAST = "pytorch"
# PyTorch has one number of threads for the whole process: two of its models cannot be compared.
_TUNED = ("openvino", "onnxruntime")
_TIMED = 20
# More threads take cores from everything around the network: they must be worth it.
_WORTH = 0.95


def chosen_model(model: str | None) -> Path:
    """`--model`, or the newest export, or the shipped model."""
    path = model_store.resolve_model(model) if model else model_store.default_model()
    return path if path.is_dir() else model_folder(path)


def load_backend(
    model: str | None,
    backend: str,
    precision: str,
    threads: int | None,
    say: Say,
    *,
    engine: Path | None = None,
    trust_engine: bool = False,
    tune_threads: bool = False,
) -> tuple[Backend, str]:
    """A loaded backend and the precision asked of it. Every automatic choice is said aloud.

    Args:
        tune_threads: where none are asked for, time a few numbers here and take the best.

    Raises:
        OkdhpError: no such model, runtime, device or precision; nothing falls back.
    """
    path = chosen_model(model)
    if backend != AUTO:
        entry(backend)
    if engine is not None and backend != "tensorrt":
        raise BackendError(f"backend {backend} runs no engine", "add --backend tensorrt")
    chosen = _chosen(path, candidates(path, backend, precision), threads, say)
    folder = model_store.artefact(path, *chosen)
    card = read_card(folder)
    say(f"model {folder}, backend {chosen.backend}, precision {chosen.precision}; {card.terms}")
    if not _accurate_here(chosen, card):
        say(
            f"its INT8 sums may saturate on this CPU ({int8_units()}): joints can lie elsewhere "
            "than where they were measured; export it again with this version"
        )
    if threads is None and tune_threads and chosen.backend in _TUNED:
        request = BackendConfig(folder, card, chosen.precision)
        threads = _threads(chosen.backend, request, say)
    request = BackendConfig(
        folder, card, chosen.precision, threads, engine=engine, trust_engine=trust_engine
    )
    return open_backend(chosen.backend, request), chosen.precision


_MODEL_FILES = (".onnx", ".xml", ".tflite", ".pt", ".pth")


class Candidate(NamedTuple):
    """What a model could be run with here."""

    backend: str
    precision: str

    def __str__(self) -> str:
        return f"{self.backend} {self.precision}"


def candidates(path: Path, backend: str, precision: str) -> list[Candidate]:
    """What fits the words that were given, the preferred first.

    Raises:
        BackendError: no runtime that is installed runs the model.
        ModelError: the model has nothing for the backend that was asked for.
    """
    names = [backend] if backend != AUTO else [n for n in _PREFERRED if installed(n)]
    found = [
        Candidate(name, one)
        for name in names
        for one in model_store.precisions_of(path, name)
        if one in entry(name).precisions and precision in (AUTO, one)
    ]
    if backend == AUTO:
        # Whoever has PyTorch beside a runtime has it for training.
        found = [c for c in found if c.backend != _LAST] or found
    if not found:
        _refuse_foreign(path)
    if not found and precision != AUTO:
        # A precision that only this backend can refuse or run: bf16 of the float file, or an error.
        return [Candidate(names[0] if names else _PREFERRED[0], precision)]
    if not found and backend == AUTO:
        remedies = "; ".join(REGISTRY[name].install for name in _PREFERRED[:2])
        raise BackendError(f"no installed backend runs {path}", remedies)
    if not found:
        raise ModelError(
            f"{path} has nothing for backend {backend}", "run `okdhp-edge export --int8`"
        )
    return found


def _refuse_foreign(path: Path) -> None:
    """Raise ModelError for a folder whose model files nobody exported."""
    files = sorted(p.name for suffix in _MODEL_FILES for p in path.glob(f"*{suffix}"))
    cards = any(path.glob("**/card.json"))
    if files and not cards:
        raise ModelError(
            f"{path} has {files[0]} and no card.json: no model of okdhp-edge",
            "foreign pose models can teach (`data label --teacher`), not run",
        )


def _chosen(path: Path, found: list[Candidate], threads: int | None, say: Say) -> Candidate:
    """The fastest here of what is right here."""
    if len(found) == 1:
        return found[0]
    right = [c for c in found if _accurate_here(c, read_card(model_store.artefact(path, *c)))]
    for candidate in found if right else ():
        if candidate not in right:
            say(f"{candidate} is left out: its sums may saturate on this CPU ({int8_units()})")
    right = right or found
    if len(right) == 1 or right[0].backend == "tensorrt":
        return right[0]
    bf16 = Candidate("openvino", "bf16")
    others = [bf16] if Candidate("openvino", "fp32") in right else []
    say(f"timing {', '.join(map(str, right))} here")
    times, failed = _times(path, [*right, *others], threads)
    right = [c for c in right if c in times]
    for candidate, error in failed.items():
        if candidate == bf16:
            continue
        # Another runtime may take its place, another precision not.
        if candidate.precision not in {c.precision for c in right}:
            raise error
        say(f"{candidate} is left out: {error}")
    best = min(right, key=lambda c: times[c])
    say("timed here: " + ", ".join(f"{c} {ms:.2f} ms" for c, ms in times.items()))
    if times.get(bf16, float("inf")) < times[best]:
        say("bf16 would be faster, but nobody has measured its accuracy: --precision bf16")
    return best


def _accurate_here(candidate: Candidate, card: ModelCard) -> bool:
    """Whether this CPU computes what was measured. ONNX Runtime is told to, at half the speed."""
    exact = card.saturation_free or candidate.backend != "openvino" or not saturates_in_int8()
    return candidate.precision != "int8" or card.profile == "float" or exact


def _times(
    path: Path, found: Sequence[Candidate], threads: int | None
) -> tuple[dict[Candidate, float], dict[Candidate, BackendError]]:
    """Median milliseconds at batch 1 of each that loads, in turns, and why the others do not.

    A runtime may lack a kernel: OpenVINO loads no INT8 on ARM without dot products.
    """
    requests = {}
    for candidate in found:
        folder = model_store.artefact(path, *candidate)
        requests[candidate] = BackendConfig(folder, read_card(folder), candidate.precision, threads)
    failed: dict[Candidate, BackendError] = {}
    return _timed(requests, failed), failed


def _threads(backend: str, request: BackendConfig, say: Say) -> int:
    """The number of threads that is fastest here; of near equals the smaller."""
    cores = usable_cores()
    numbers = sorted({2**i for i in range(cores.bit_length()) if 2**i <= cores} | {cores})
    if len(numbers) == 1:
        return numbers[0]
    timed = {(backend, n): replace(request, threads=n) for n in numbers}
    times = {n: ms for (_, n), ms in _timed(timed).items()}
    best = numbers[0]
    for number in numbers[1:]:
        if times[number] < _WORTH * times[best]:
            best = number
    told = ", ".join(f"{n} {ms:.2f} ms" for n, ms in times.items())
    say(f"threads timed here: {told}; takes {best}")
    return best


def _timed(
    requests: Mapping[Key, BackendConfig], failed: dict[Key, BackendError] | None = None
) -> dict[Key, float]:
    """Median milliseconds at batch 1 by key, whose first part is the backend, in turns. What does
    not load goes to `failed`, or is raised where there is none."""
    import numpy as np

    from okdhp_edge.backends.timing import time_interleaved
    from okdhp_edge.system.latency import LatencyStats

    with ExitStack() as stack:
        loaded: dict[Key, Backend] = {}
        for key, request in requests.items():
            try:
                loaded[key] = stack.enter_context(open_backend(key[0], request))
            except BackendError as error:
                if failed is None:
                    raise
                failed[key] = error
        if not loaded:
            return {}
        spec = next(iter(loaded.values())).card.input
        crop = np.zeros((1, spec.height, spec.width, 3), dtype=np.uint8)
        samples = time_interleaved(list(loaded.values()), crop, _TIMED)
    return {key: LatencyStats.of(ns).p50 for key, ns in zip(loaded, samples, strict=True)}


def available_choices(model: Path) -> list[tuple[str, str]]:
    """Backend and precision of everything that is installed here and that the model has."""
    return [
        (backend, precision)
        for backend in REGISTRY
        if installed(backend) and backend != "tensorrt"
        for precision in model_store.precisions_of(model, backend)
        if precision in entry(backend).precisions
    ]
