"""Locations of models and recipes: in the working directory and shipped with the package.

models/<name>/best.safetensors      trained
models/<name>/weights.safetensors   the same network in half precision, to ship
models/<name>/fp32/                 exported
models/<name>/int8/<profile>/       quantized
recipes/<group>/<name>.toml         recipes that come without a model
"""

import os
from importlib import resources
from pathlib import Path

import platformdirs

from okdhp_edge.artifacts.card import CARD_NAME, ModelCard, read_card
from okdhp_edge.errors import ModelError, OkdhpError, RecipeError
from okdhp_edge.pose.heatmap import HeatmapKind
from okdhp_edge.system.reading import read_json

MODELS, RECIPES = Path("models"), Path("recipes")
FP32, INT8 = "fp32", "int8"
DEFAULT_RECIPE = "demo"
_PACKAGE = Path(str(resources.files("okdhp_edge")))
_WHEEL_ROOT, _CHECKOUT_ROOT = _PACKAGE / "shipped", _PACKAGE.parent  # of a wheel, of a checkout
BEST_CHECKPOINT_NAME, SHIPPED_WEIGHTS_NAME = "best.safetensors", "weights.safetensors"
SHIPPED_MODELS = ("lite", "full", "large")
"""Those that come with the package; the first is what runs if nothing else is said."""
SHIPPED_FLOAT_MODELS = ("large",)
"""Those of them without INT8."""
SHIPPED_DETECTOR = "person"
"""The person detector that comes with the package as INT8."""


def get_cache_folder(kind: str) -> Path:
    """The user's cache folder for `calibration`, `engines` or `selections`."""
    return platformdirs.user_cache_path("okdhp-edge", appauthor=False) / kind


def find_default_checkpoint() -> Path:
    """The newest trained model below `models/`.

    Raises:
        ModelError: nothing was trained here.
    """
    found = sorted(_list_checkpoints(MODELS), key=lambda p: p.stat().st_mtime_ns)
    if not found:
        raise ModelError("no trained model under models/", "run `okdhp-edge train` first")
    return found[-1]


def mark_newest(file: Path) -> None:
    """Give a checkpoint or card that was just written a later time than every other model's of its
    folder: the default goes by it, and a clock may have been set back in between."""
    others = [p for p in file.parents if p.name == MODELS.name][:1]
    rivals = [
        p
        for root in others
        for p in (*_list_checkpoints(root), *_list_all_cards(root))
        if p != file
    ]
    newest = max((p.stat().st_mtime_ns for p in rivals), default=0)
    if newest >= file.stat().st_mtime_ns:
        os.utime(file, ns=(newest + 1_000_000, newest + 1_000_000))


def _list_checkpoints(models: Path) -> list[Path]:
    return list(models.glob(f"*/{BEST_CHECKPOINT_NAME}"))


def _list_all_cards(models: Path) -> list[Path]:
    return [card for folder in models.glob("*/") for card in list_cards(folder)]


def list_cards(model: Path) -> list[Path]:
    """The cards of what can be run of a model, given as `resolve_model` returns it."""
    if (direct := _find_direct_folder(model)) is not None:
        return [direct / CARD_NAME] if (direct / CARD_NAME).is_file() else []
    return sorted([*model.glob(f"{FP32}/{CARD_NAME}"), *model.glob(f"{INT8}/*/{CARD_NAME}")])


def find_default_model() -> Path:
    """The newest export below `models/`, else the model shipped with the package.

    Raises:
        ModelError: neither exists.
    """
    mine = [card for card in _list_all_cards(MODELS) if not _is_shipped(_find_root(card))]
    newest = sorted(mine, key=lambda p: p.stat().st_mtime_ns, reverse=True)
    chosen = next((card for card in newest if not _is_detector(card)), None)
    return find_shipped_folder(SHIPPED_MODELS[0]) if chosen is None else _find_root(chosen)


def _is_shipped(root: Path) -> bool:
    """Whether a folder of `models/` holds what came with the package, and no export of it."""
    try:
        shipped = find_shipped_folder(root.name)
    except ModelError:
        return False
    if root.resolve() != shipped.resolve():  # another checkout's, or an own one of that name
        return _read_cards(root) == _read_cards(shipped)
    if root.name in SHIPPED_FLOAT_MODELS:
        return not (root / INT8).is_dir()
    return (
        root.name in (*SHIPPED_MODELS, SHIPPED_DETECTOR) and not (root / FP32 / CARD_NAME).is_file()
    )


def _read_cards(root: Path) -> dict[str, bytes]:
    return {card.relative_to(root).as_posix(): card.read_bytes() for card in list_cards(root)}


def _is_detector(card: Path) -> bool:
    """Whether a model finds persons and not joints; one that is damaged is told when it is read."""
    try:
        content = read_json(card)
        return HeatmapKind(content["decoder"]["kind"]).finds_persons
    except (OSError, ValueError, KeyError, TypeError, OkdhpError):
        return False


def _find_root(card: Path) -> Path:
    """models/<name> of a card in its fp32 or int8/<profile> folder, or in that folder itself."""
    folder = card.parent
    if folder.name == FP32:
        return folder.parent
    return folder.parent.parent if folder.parent.name == INT8 else folder


def find_shipped_folder(name: str) -> Path:
    """The folder of a model or recipe that came with the package.

    Raises:
        ModelError: there is none of that name.
    """
    for folder in (_WHEEL_ROOT / name, _CHECKOUT_ROOT / MODELS / name):
        if folder.is_dir():
            return folder
    shipped = ", ".join((*SHIPPED_MODELS, SHIPPED_DETECTOR))
    raise ModelError(f"no model '{name}'", f"use {shipped}, or the path of an exported model")


def resolve_model(model: str) -> Path:
    """A model given as a path, or by name from `models/` or the package. A folder of that name in
    which there is no model is passed over.

    Raises:
        ModelError: neither exists.
    """
    there = [path for path in (Path(model).expanduser(), MODELS / model) if path.exists()]
    for path in there:
        if path.is_file() or _holds_model(path):
            return path
    try:
        return find_shipped_folder(model)
    except ModelError:
        if there:
            return there[0]  # whoever reads it says what is missing
        raise


def _holds_model(folder: Path) -> bool:
    return bool(list_cards(folder)) or _find_weights(folder) is not None


def _find_weights(folder: Path) -> Path | None:
    files = (folder / name for name in (BEST_CHECKPOINT_NAME, SHIPPED_WEIGHTS_NAME))
    return next((file for file in files if file.is_file()), None)


def resolve_weights(model: str) -> Path:
    """The float weights of a checkpoint given as a path, or of a model by its name.

    Raises:
        ModelError: there are none.
    """
    place = resolve_model(model)
    if place.is_file():
        return place
    if (weights := _find_weights(place)) is not None:
        return weights
    raise ModelError(
        f"no float weights in {place}",
        f"use a folder with {BEST_CHECKPOINT_NAME} or {SHIPPED_WEIGHTS_NAME}",
    )


def resolve_recipe(recipe: str | None) -> Path:
    """A recipe given as a path, or by its name in the package: `demo`, `lite`, `paper/hg4-mpii`.

    Args:
        recipe: None is the demo's.

    Raises:
        RecipeError: there is none of that name.
    """
    name = recipe or DEFAULT_RECIPE
    if recipe is not None and Path(recipe).expanduser().is_file():
        return Path(recipe).expanduser()
    for folder, file in (
        (_WHEEL_ROOT, f"{name}/recipe.toml"), (_CHECKOUT_ROOT / MODELS, f"{name}/recipe.toml"),
        (_WHEEL_ROOT / RECIPES, f"{name}.toml"), (_CHECKOUT_ROOT / RECIPES, f"{name}.toml"),
    ):  # fmt: skip
        path = (folder / file).resolve()
        if folder.resolve() in path.parents and path.is_file():
            return path
    raise RecipeError(f"recipe {name} does not exist", "pass a path or a shipped name to --recipe")


def find_artifact(model: Path, backend: str, precision: str) -> Path:
    """The folder under `model` that this backend runs at this precision.

    Args:
        model: models/<name>, or directly a folder with a card, or a model file in one.
        precision: int8 looks for the backend's own profile, everything else for fp32.

    Raises:
        ModelError: the model has no such artifact, or it was made from an older export than the
            one in `fp32/`.
    """
    direct = _find_direct_folder(model)
    folder = direct or (model / INT8 / backend if precision == "int8" else model / FP32)
    if not (folder / CARD_NAME).is_file():
        remedy = "okdhp-edge export --int8" if precision == "int8" else "okdhp-edge export"
        raise ModelError(f"{model} has no {precision} artifact for {backend}", f"run `{remedy}`")
    card = read_card(folder)
    if (card.precision == "int8") != (precision == "int8"):
        raise ModelError(
            f"{folder} is {card.precision}, not {precision}", "choose another --precision"
        )
    if direct is None and precision == "int8":
        _check_same_export(card, folder, model / FP32)
    return folder


def _check_same_export(card: ModelCard, folder: Path, fp32: Path) -> None:
    """Devices get INT8 alone; where the float model lies beside it, it must be its own."""
    if not (fp32 / CARD_NAME).is_file():
        return
    exported = read_card(fp32)
    if card.float_sha256 != exported.files[exported.model_file]:
        raise ModelError(
            f"{folder} was quantized from an older export than {fp32}",
            "run `okdhp-edge export --int8`, or choose --precision fp32",
        )


def list_precisions(model: Path, backend: str) -> list[str]:
    """What can be run: int8 first where it exists."""
    direct = _find_direct_folder(model)
    if direct is not None:
        card = read_card(direct)
        return [] if card.format == "openvino" and backend != "openvino" else [card.precision]
    found = ["int8"] if (model / INT8 / backend / CARD_NAME).is_file() else []
    return found + (["fp32"] if (model / FP32 / CARD_NAME).is_file() else [])


def _find_direct_folder(model: Path) -> Path | None:
    """The artifact's own folder, where that or a file in it was named."""
    folder = model.parent if model.is_file() else model
    return folder if model.is_file() or (folder / CARD_NAME).is_file() else None
