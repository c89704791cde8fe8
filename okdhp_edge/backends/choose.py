"""From the words model, backend, precision and threads to a loaded backend."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import replace
from pathlib import Path

from okdhp_edge import model_store
from okdhp_edge.backends.base import Backend, Request
from okdhp_edge.backends.registry import REGISTRY, entry, installed, open_backend
from okdhp_edge.card import model_folder, read_card
from okdhp_edge.errors import BackendError, ModelError
from okdhp_edge.hardware import usable_cores

Say = Callable[[str], None]
"""Told every automatic choice, in words for people."""

# What `auto` prefers, by what is fastest on a CPU (benchmarks of the shipped model).
_PREFERRED = ("openvino", "onnxruntime", "pytorch")
# PyTorch has one number of threads for the whole process: two of its models cannot be compared.
_TUNED = ("openvino", "onnxruntime")
_TIMED = 20
# More threads take cores from everything around the network: they must be worth it.
_WORTH = 0.95


def chosen_model(model: str | None) -> Path:
    """`--model`, or the newest export, or the shipped model."""
    path = model_store.named(model) if model else model_store.default_model()
    return path if path.is_dir() else model_folder(path)


def open_chosen(
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
    name = _backend(path) if backend == "auto" else backend
    entry(name)
    if engine is not None and name != "tensorrt":
        raise BackendError(f"backend {name} runs no engine", "add --backend tensorrt")
    asked = _precision(path, name, threads, say) if precision == "auto" else precision
    folder = model_store.artefact(path, name, asked)
    card = read_card(folder)
    say(f"model {folder}, backend {name}, precision {asked}; {card.terms}")
    if threads is None and tune_threads and name in _TUNED:
        threads = _threads(name, Request(folder, card, asked), say)
    return open_backend(
        name, Request(folder, card, asked, threads, engine=engine, trust_engine=trust_engine)
    ), asked


def _backend(path: Path) -> str:
    for name in _PREFERRED:
        if installed(name) and model_store.precisions_of(path, name):
            return name
    remedies = "; ".join(REGISTRY[name].install for name in _PREFERRED[:2])
    raise BackendError(f"no installed backend runs {path}", remedies)


def _precision(path: Path, backend: str, threads: int | None, say: Say) -> str:
    """Of what the model has for this backend and what has passed its gate, the fastest here."""
    found = [p for p in model_store.precisions_of(path, backend) if p in entry(backend).precisions]
    if not found:
        raise ModelError(
            f"{path} has nothing for backend {backend}", "run `okdhp-edge export --int8`"
        )
    others = [p for p in ("bf16",) if p in entry(backend).precisions and "fp32" in found]
    if len(found) == 1 or backend == "tensorrt":
        return found[0]
    times = _times(path, backend, [*found, *others], threads)
    best = min(found, key=lambda p: times[p])
    say("timed here: " + ", ".join(f"{p} {ms:.2f} ms" for p, ms in times.items()))
    if times.get("bf16", float("inf")) < times[best]:
        say("bf16 would be faster, but nobody has measured its accuracy: --precision bf16")
    return best


def _times(
    path: Path, backend: str, precisions: list[str], threads: int | None
) -> dict[str, float]:
    """Median milliseconds at batch 1 of each precision that loads, in turns."""
    # Only bf16 is asked for without knowing whether this CPU has it.
    requests = {}
    for precision in precisions:
        folder = model_store.artefact(path, backend, precision)
        requests[precision] = Request(folder, read_card(folder), precision, threads)
    return _timed(backend, requests, optional=("bf16",))


def _threads(backend: str, request: Request, say: Say) -> int:
    """The number of threads that is fastest here; of near equals the smaller."""
    cores = usable_cores()
    numbers = sorted({2**i for i in range(cores.bit_length()) if 2**i <= cores} | {cores})
    if len(numbers) == 1:
        return numbers[0]
    times = _timed(backend, {str(n): replace(request, threads=n) for n in numbers})
    best = numbers[0]
    for number in numbers[1:]:
        if times[str(number)] < _WORTH * times[str(best)]:
            best = number
    told = ", ".join(f"{n} {ms:.2f} ms" for n, ms in times.items())
    say(f"threads timed here: {told}; takes {best}")
    return best


def _timed(
    backend: str, requests: Mapping[str, Request], optional: Sequence[str] = ()
) -> dict[str, float]:
    """Median milliseconds at batch 1 by name, in turns; of the optional those that load."""
    import numpy as np

    from okdhp_edge.backends.timing import interleaved
    from okdhp_edge.latency import LatencyStats

    with ExitStack() as stack:
        loaded: dict[str, Backend] = {}
        for name, request in requests.items():
            with suppress(BackendError) if name in optional else nullcontext():
                loaded[name] = stack.enter_context(open_backend(backend, request))
        spec = next(iter(loaded.values())).card.input
        crop = np.zeros((1, spec.height, spec.width, 3), dtype=np.uint8)
        samples = interleaved(list(loaded.values()), crop, _TIMED)
    return {name: LatencyStats.of(ns).p50 for name, ns in zip(loaded, samples, strict=True)}


def choices(model: Path) -> list[tuple[str, str]]:
    """Backend and precision of everything that is installed here and that the model has."""
    return [
        (backend, precision)
        for backend in REGISTRY
        if installed(backend) and backend != "tensorrt"
        for precision in model_store.precisions_of(model, backend)
        if precision in entry(backend).precisions
    ]
