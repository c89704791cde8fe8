"""Open a person detector: the shipped one, another of this project, or any ONNX file."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from okdhp_edge.artifacts import model_store
from okdhp_edge.artifacts.card import CARD_NAME, ModelCard, compute_sha256, read_card
from okdhp_edge.artifacts.model_store import SHIPPED_DETECTOR
from okdhp_edge.backends.selection import AUTO, load_backend
from okdhp_edge.errors import ModelError
from okdhp_edge.inference.backend_detector import MIN_DETECTION_SCORE, BackendDetector
from okdhp_edge.inference.person_detector import Detection, PersonDetector
from okdhp_edge.pose.preprocess import Image
from okdhp_edge.pose.skeleton import Skeleton

NO_DETECTOR = "none"
"""In place of a detector's name: none is used."""
_SYNTHETIC_DATA = "synthetic"
_TORSO_JOINTS = {"left_shoulder", "left_hip"}
_HUMAN_LIMB_JOINTS = {"left_wrist", "left_ankle"}


class Detector(Protocol):
    """What finds persons in an image."""

    def __call__(self, frame: Image) -> list[Detection]:
        """Persons, the surest first."""
        ...

    def close(self) -> None:
        """Release the model; safe to call twice."""
        ...


def open_detector(
    model: str | Path,
    *,
    backend: str = AUTO,
    threads: int | None = None,
    min_score: float | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Detector:
    """A detector by name or path.

    Args:
        model: `person`, the name or folder of another detector of this project, or an ONNX file
            that others made.
        backend: runtime to prefer, that of the pose model; where the detector has no file for it,
            another is chosen, and said.
        min_score: of the boxes it returns; None: as is useful in a loop.
        say: called where another runtime is chosen.

    Raises:
        ModelError: there is no such detector, or it is a pose model.
        BackendError: no runtime can run it.
    """
    if _is_foreign(Path(model)):
        foreign = PersonDetector(Path(model), threads)
        if min_score is not None:
            foreign.spec = foreign.spec.model_copy(update={"min_score": min_score})
        return foreign
    folder = model_store.resolve_model(str(model))
    has_file = backend == AUTO or bool(model_store.list_precisions(folder, backend))
    if not has_file:
        say(f"detector {folder.name} has no file for {backend}: another runtime is chosen")
    wanted = backend if has_file else AUTO
    loaded = load_backend(str(folder), wanted, AUTO, threads, lambda _: None).backend
    if not has_file:
        say(f"detector {folder.name} runs on {loaded.name}")
    try:
        _check_detector(loaded.card)
    except ModelError:
        loaded.close()
        raise
    return BackendDetector(loaded, MIN_DETECTION_SCORE if min_score is None else min_score)


def choose_detector_backend(
    model: str, backend: str, threads: int | None, say: Callable[[str], None]
) -> str:
    """The runtime in which `open_detector` would open it, for processes that are not to choose each
    for itself."""
    if model == NO_DETECTOR:
        return backend
    if _is_foreign(Path(model)):
        if not Path(model).is_file():
            raise ModelError(f"detector {model} does not exist", "check --detector")
        return backend
    folder = model_store.resolve_model(model)
    if precisions := model_store.list_precisions(folder, backend):
        _check_detector(read_card(model_store.find_artifact(folder, backend, precisions[0])))
        return backend
    detector = open_detector(model, backend=backend, threads=threads, say=say)
    detector.close()
    return detector.backend_name if isinstance(detector, BackendDetector) else backend


def identify_detector(detector: str) -> str:
    """By the content of its file and its description, or of its cards: results of another one are
    not gone on with. `none` stays."""
    path = Path(detector)
    if _is_foreign(path):
        files = [path, path.with_suffix(".toml")]
    else:
        files = [] if detector == NO_DETECTOR else _list_cards(detector)
    return ":".join(compute_sha256(file) for file in files if file.is_file()) or detector


def _list_cards(detector: str) -> list[Path]:
    with suppress(ModelError):  # said where it is opened
        return model_store.list_cards(model_store.resolve_model(detector))
    return []


def _is_foreign(path: Path) -> bool:
    """Whether it is a file without a card of this project."""
    return path.suffix == ".onnx" and not (path.parent / CARD_NAME).is_file()


def _check_detector(card: ModelCard) -> None:
    if card.kind != "detector":
        raise ModelError(
            f"{card.name} is a pose model, not a person detector",
            f"use --detector {SHIPPED_DETECTOR}, or an ONNX detector",
        )


def check_pose_model(card: ModelCard) -> None:
    """Raise ModelError where a detector was given as the pose model."""
    if card.kind == "detector":
        raise ModelError(
            f"{card.name} is a person detector, not a pose model",
            f"use --model lite --detector {card.name}",
        )


def choose_detector(asked: str | Path | None, card: ModelCard) -> str | Path | None:
    """The detector that a pose model is used with.

    Args:
        asked: its name or path; `none`, or None for the shipped one where it fits.

    Returns:
        None where none is to be used: so it was asked for, the model's joints are no person's, or
        it has only ever met drawn figures, which no detector of photographs finds.
    """
    if asked is not None:
        return None if str(asked) == NO_DETECTOR else asked
    drawn = card.training_data.split("+")[0] == _SYNTHETIC_DATA
    fits = is_human(card.skeleton.skeleton()) and not drawn
    return SHIPPED_DETECTOR if fits and _has_shipped_detector() else None


def _has_shipped_detector() -> bool:
    try:
        folder = model_store.find_shipped_folder(SHIPPED_DETECTOR)
    except ModelError:
        return False
    return any(folder.glob(f"{model_store.INT8}/*/{CARD_NAME}"))


def is_human(skeleton: Skeleton) -> bool:
    """Whether the joints are a person's body."""
    names = set(skeleton.joints)
    return bool(names & _TORSO_JOINTS) and bool(names & _HUMAN_LIMB_JOINTS)
