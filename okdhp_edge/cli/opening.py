"""From the words `--model --backend --precision` to a loaded backend."""

from pathlib import Path

from okdhp_edge import model_store
from okdhp_edge.backends.base import Backend, Request
from okdhp_edge.backends.registry import REGISTRY, entry, installed, open_backend
from okdhp_edge.card import model_folder, read_card
from okdhp_edge.cli.show import say
from okdhp_edge.errors import BackendError, ModelError

# What `auto` prefers, by what is fastest on a CPU (benchmarks of the shipped model).
_PREFERRED = ("openvino", "onnxruntime", "pytorch")


def chosen_model(model: str | None) -> Path:
    """`--model`, or the newest export, or the shipped model."""
    path = model_store.named(model) if model else model_store.default_model()
    return path if path.is_dir() else model_folder(path)


def open_chosen(
    model: str | None,
    backend: str,
    precision: str,
    threads: int | None,
    *,
    engine: Path | None = None,
    trust_engine: bool = False,
) -> tuple[Backend, str]:
    """A loaded backend and the precision asked of it. Every automatic choice is said aloud.

    Raises:
        OkdhpError: no such model, runtime, device or precision; nothing falls back.
    """
    path = chosen_model(model)
    name = _backend(path) if backend == "auto" else backend
    entry(name)
    asked = _precision(path, name) if precision == "auto" else precision
    folder = model_store.artefact(path, name, asked)
    card = read_card(folder)
    if (card.precision == "int8") != (asked == "int8"):
        raise ModelError(f"{folder} is {card.precision}, not {asked}", "choose another --precision")
    say(f"model {folder}, backend {name}, precision {asked}; {card.terms}")
    return open_backend(
        name, Request(folder, card, asked, threads, engine=engine, trust_engine=trust_engine)
    ), asked


def _backend(path: Path) -> str:
    for name in _PREFERRED:
        if installed(name) and model_store.precisions_of(path, name):
            return name
    remedies = "; ".join(REGISTRY[name].install for name in _PREFERRED[:2])
    raise BackendError(f"no installed backend runs {path}", remedies)


def _precision(path: Path, backend: str) -> str:
    found = [p for p in model_store.precisions_of(path, backend) if p in entry(backend).precisions]
    if not found:
        raise ModelError(
            f"{path} has nothing for backend {backend}", "run `okdhp-edge export --int8`"
        )
    return found[0]
