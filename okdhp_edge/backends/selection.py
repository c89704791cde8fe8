"""Select and load a backend from the options --model, --backend, --precision and --threads."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from okdhp_edge.artifacts import model_store
from okdhp_edge.artifacts.card import ModelCard, find_model_folder, read_card
from okdhp_edge.backends import remembered
from okdhp_edge.backends.base import Backend, BackendConfig
from okdhp_edge.backends.registry import (
    REGISTRY,
    RuntimeChoice,
    get_runtime,
    is_installed,
    list_ranked,
    open_backend,
)
from okdhp_edge.backends.start_time import time_starts
from okdhp_edge.backends.trials import time_runtimes, time_threads
from okdhp_edge.errors import BackendError, ModelError
from okdhp_edge.system.hardware import detect_int8_units, saturates_in_int8

Say = Callable[[str], None]
"""Called with every automatic choice, a line for people each."""

AUTO = "auto"
_BF16_CHOICE = RuntimeChoice("openvino", "bf16")
_MODEL_FILES = (".onnx", ".xml", ".tflite", ".pt", ".pth")


@dataclass(frozen=True)
class Selection:
    """The selected runtime, and how it was selected.

    Attributes:
        threads: CPU threads; None for the runtime's default.
        measured: the trial it rests on, of now or remembered; None where there was nothing to time.
        key: of the remembered selection; None where there was nothing to time.
        is_remembered: whether the trial was made by an earlier command.
    """

    choice: RuntimeChoice
    threads: int | None
    measured: remembered.MeasuredSelection | None = None
    key: str | None = None
    is_remembered: bool = False

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: `how` is `only` where there was nothing to time, `measured` or
        `remembered`; then when, and what each runtime took."""
        if self.measured is None:
            return {"how": "only"}
        how = "remembered" if self.is_remembered else "measured"
        return {"how": how} | self.measured.model_dump(mode="json")

    def check_against(self, infer_ms: float, say: Say) -> None:
        """Forget a trial where a run's own inference takes much longer, or much less: then the
        machine was busy when the trial was made."""
        if self.measured is None or self.key is None or not self.measured.latency_ms:
            return
        ratio = infer_ms / self.measured.latency_ms
        slower = self.is_remembered and ratio > remembered.RATIO_TO_FORGET
        if slower or ratio < 1 / remembered.RATIO_TO_FORGET:
            remembered.forget(self.key)
            say(f"inference took {infer_ms:.2f} ms, but {self.measured.latency_ms:.2f} ms when "
                f"measured {self.measured.age} ago: the next run measures again")  # fmt: skip

    def describe(self) -> str:
        """In words: what runs, and how that is known."""
        threads = "" if self.threads is None else f", threads: {self.threads}"
        what = f"backend {self.choice.backend}, precision {self.choice.precision}{threads}"
        if self.measured is None:
            return what
        when = f"measured {self.measured.age} ago" if self.is_remembered else "measured now"
        start_ms = self.measured.start_ms.get(str(self.choice))
        start = "" if start_ms is None else f", starts in {start_ms:.0f} ms"
        return f"{what} ({self.measured.latency_ms:.2f} ms{start}, {when})"


class _SelectionRequest(NamedTuple):
    """See the arguments of `load_backend`."""

    threads: int | None
    tune_threads: bool
    retime: bool
    images: int | None


class LoadedModel(NamedTuple):
    """A loaded backend, the requested precision, and how it was selected."""

    backend: Backend
    precision: str
    selection: Selection


def choose_model(model: str | None) -> Path:
    """`--model`, or the newest export, or the shipped model."""
    path = model_store.resolve_model(model) if model else model_store.find_default_model()
    return path if path.is_dir() else find_model_folder(path)


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
    retime: bool = False,
    images: int | None = None,
    detail: Say = lambda _: None,
) -> LoadedModel:
    """Load a model in the runtime, precision and threads that fit the words.

    Args:
        say: called with what is chosen, and with warnings.
        tune_threads: where none are given, time a few numbers and take the fastest.
        retime: time anew, whatever is remembered.
        images: how many still images are read, so that the time to start counts; None: a stream.
        detail: called with the times of all candidates.

    Raises:
        OkdhpError: no such model, runtime, device or precision; nothing falls back.
    """
    path = choose_model(model)
    if backend != AUTO:
        get_runtime(backend)
    known = dict.fromkeys([AUTO, *(p for runtime in REGISTRY.values() for p in runtime.precisions)])
    if precision not in known:
        raise BackendError(f"unknown precision '{precision}'", f"use {', '.join(known)}")
    if engine is not None and (backend == AUTO or not get_runtime(backend).runs_engines):
        raise BackendError(f"backend {backend} cannot load engines", "add --backend tensorrt")
    if trust_engine and engine is None:
        raise BackendError("--trust-engine needs the engine's path", "add --engine FILE")
    found = _select_accurate(path, candidates(path, backend, precision), detail)
    request = _SelectionRequest(threads, tune_threads, retime, images)
    selection = _select(path, found, request, detail)
    try:
        loaded = _open(path, selection, engine, trust_engine)
    except BackendError:
        if not selection.is_remembered:
            raise
        selection = _select(path, found, request._replace(retime=True), detail)
        loaded = _open(path, selection, engine, trust_engine)
    card = loaded.card
    say(f"model {model_store.find_artifact(path, *selection.choice)}, {selection.describe()}; "
        f"{card.terms}")  # fmt: skip
    if not _is_accurate_here(selection.choice, card):
        say(f"INT8 sums may saturate on this CPU ({detect_int8_units()}): accuracy may differ from "
            "the measured one; export the model again with this version")  # fmt: skip
    return LoadedModel(loaded, selection.choice.precision, selection)


def _open(path: Path, selection: Selection, engine: Path | None, trust_engine: bool) -> Backend:
    folder = model_store.find_artifact(path, *selection.choice)
    config = BackendConfig(
        folder, read_card(folder), selection.choice.precision, selection.threads,
        engine=engine, trust_engine=trust_engine,
    )  # fmt: skip
    return open_backend(selection.choice.backend, config)


def candidates(path: Path, backend: str, precision: str) -> list[RuntimeChoice]:
    """What fits the words that were given, the preferred first.

    Raises:
        BackendError: no runtime that is installed runs the model.
        ModelError: the model has nothing for the backend that was asked for.
    """
    names = [backend] if backend != AUTO else [n for n in list_ranked() if is_installed(n)]
    found = [
        RuntimeChoice(name, one)
        for name in names
        for one in model_store.list_precisions(path, name)
        if one in get_runtime(name).precisions and precision in (AUTO, one)
    ]
    if backend == AUTO:
        found = [c for c in found if not get_runtime(c.backend).last_resort] or found
    if not found:
        _refuse_foreign(path)
    if not found and precision != AUTO:
        # A precision that only this backend can refuse or run: bf16 of the float file, or an error.
        return [RuntimeChoice(names[0] if names else list_ranked()[0], precision)]
    if not found and not model_store.list_cards(path):
        raise ModelError(f"{path} contains no exported model", "check --model")
    if not found and backend == AUTO:
        usual = [n for n in list_ranked() if not get_runtime(n).last_resort]
        remedies = "; ".join(REGISTRY[n].install for n in usual)
        raise BackendError(f"no installed backend runs {path}", remedies)
    if not found:
        has_int8 = "int8" in get_runtime(backend).precisions
        remedy = f"run `okdhp-edge export{' --int8' if has_int8 else ''}`"
        raise ModelError(f"{path} has no artifact for backend {backend}", remedy)
    return found


def _refuse_foreign(path: Path) -> None:
    """Raise ModelError for a folder whose model files were not exported by this project."""
    files = sorted(p.name for suffix in _MODEL_FILES for p in path.glob(f"*{suffix}"))
    cards = any(path.glob("**/card.json"))
    if files and not cards:
        raise ModelError(
            f"{path} has {files[0]} and no card.json: not an okdhp-edge model",
            "other pose models can only be teachers (`data label --teacher`)",
        )


def _select_accurate(path: Path, found: list[RuntimeChoice], say: Say) -> list[RuntimeChoice]:
    """The candidates that compute what was measured; all of them where none does."""
    if len(found) == 1:
        return found
    accurate = [c for c in found if _is_accurate_here(c, _read_choice_card(path, c))]
    for choice in found if accurate else ():
        if choice not in accurate:
            say(f"{choice} is left out: its sums may saturate on this CPU ({detect_int8_units()})")
    return accurate or found


def _is_accurate_here(choice: RuntimeChoice, card: ModelCard) -> bool:
    """Whether this CPU computes what was measured. ONNX Runtime is told to, at half the speed."""
    saturates = get_runtime(choice.backend).saturates and saturates_in_int8()
    exact = card.saturation_free or not saturates
    return choice.precision != "int8" or card.profile == "float" or exact


def _read_choice_card(path: Path, choice: RuntimeChoice) -> ModelCard:
    return read_card(model_store.find_artifact(path, *choice))


def _select(
    path: Path, found: list[RuntimeChoice], request: _SelectionRequest, say: Say
) -> Selection:
    """The fastest of the candidates and of a few numbers of threads: remembered, or timed now."""
    first = get_runtime(found[0].backend)
    several = len(found) > 1 and first.rank is not None
    tune_threads = request.tune_threads and request.threads is None and first.per_model_threads
    if not several and not tune_threads:
        return Selection(found[0], request.threads)
    with_starts = several and request.images is not None
    cards = [_read_choice_card(path, choice) for choice in found]
    key = remembered.make_key(cards, found, request.threads, tune_threads, with_starts)
    measured = None if request.retime else remembered.recall(key)
    is_remembered = measured is not None and measured.choice in found
    if measured is None or not is_remembered:
        timed = found if several else found[:1]
        measured = _measure(path, timed, request.threads, tune_threads, with_starts, say)
        remembered.remember(key, measured)
    else:
        say(f"remembered: {measured.describe()}")
    if request.images is not None:
        measured = measured.select_for_images(request.images, found)
    return Selection(
        measured.choice, request.threads or measured.threads, measured, key, is_remembered
    )


def _measure(
    path: Path,
    found: Sequence[RuntimeChoice],
    threads: int | None,
    tune_threads: bool,
    with_starts: bool,
    say: Say,
) -> remembered.MeasuredSelection:
    times = _time_runtimes(path, found, threads, say) if len(found) > 1 else {}
    starts = time_starts(path, [c for c in found if c in times], say) if with_starts else {}
    choice = min((c for c in found if c in times), key=lambda c: times[c], default=found[0])
    latency_ms = times.get(choice)
    if tune_threads and get_runtime(choice.backend).per_model_threads:
        folder = model_store.find_artifact(path, *choice)
        config = BackendConfig(folder, read_card(folder), choice.precision)
        threads, latency_ms = time_threads(choice.backend, config, say)
    return remembered.MeasuredSelection.now(choice, threads, latency_ms or 0.0, times, starts)


def _time_runtimes(
    path: Path, found: Sequence[RuntimeChoice], threads: int | None, say: Say
) -> dict[RuntimeChoice, float]:
    """Milliseconds of each candidate that loads, bf16's beside them to be spoken of.

    Raises:
        BackendError: a precision that no other runtime takes does not load.
    """
    others = [_BF16_CHOICE] if RuntimeChoice("openvino", "fp32") in found else []
    say(f"timing {', '.join(map(str, found))}")
    configs = {}
    for choice in (*found, *others):
        folder = model_store.find_artifact(path, *choice)
        configs[choice] = BackendConfig(folder, read_card(folder), choice.precision, threads)
    times, failed = time_runtimes(configs)
    loaded = {c.precision for c in times if c in found}
    for choice, error in failed.items():
        if choice == _BF16_CHOICE:
            continue
        # Another runtime may take its place, another precision not.
        if choice.precision not in loaded:
            raise error
        say(f"{choice} is left out: {error}")
    say("timed: " + ", ".join(f"{c} {ms:.2f} ms" for c, ms in times.items()))
    if times.get(_BF16_CHOICE, float("inf")) < min(ms for c, ms in times.items() if c in found):
        say("bf16 would be faster, but its accuracy has not been measured; use --precision bf16")
    return times


def list_available_choices(model: Path) -> list[RuntimeChoice]:
    """Everything that is installed here and that the model has."""
    return [
        RuntimeChoice(backend, precision)
        for backend in REGISTRY
        if is_installed(backend) and not get_runtime(backend).needs_gpu
        for precision in model_store.list_precisions(model, backend)
        if precision in get_runtime(backend).precisions
    ]
