"""The training recipe: a strictly validated TOML file."""

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError, model_validator

from okdhp_edge.artifacts.card import DecoderSpec, InputSpec, count_channels
from okdhp_edge.data.augment import Augmentation
from okdhp_edge.errors import RecipeError
from okdhp_edge.network.config import (
    STRIDE,
    HourglassConfig,
    MobilePoseConfig,
    NetworkConfig,
    OnnxConfig,
    get_normalization,
)
from okdhp_edge.pose.heatmap import HeatmapKind
from okdhp_edge.recipe.distillation import (
    METHODS,
    DistillationTable,
    OkdhpTable,
    QuantizationTable,
    TeacherTable,
)
from okdhp_edge.recipe.tables import (
    DetectionTable,
    FreezeTable,
    HeatmapTable,
    InputTable,
    OptimizerTable,
    SkeletonTable,
    StrictTable,
)
from okdhp_edge.system.reading import read_toml

# An hourglass halves its quarter-size maps four times. Encoders halve five times; a neck joins maps
# whose sizes were rounded up at the last halving.
_HOURGLASS_MULTIPLE, _ENCODER_MULTIPLE, _NECK_MULTIPLE = 64, 32, 16
# Sixteen times what an H200 trains on at once.
_MAX_STEP_PIXELS = 1 << 28


class Recipe(StrictTable):
    """All settings that determine the result of a training run."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    kind: Literal["pose", "detector"] = "pose"
    """What is trained: joints in a person's crop, or a detector of persons in whole images."""
    data: str = "synthetic"
    """KIND:PATH; `--data` overrides it."""
    train_split: str = "train"
    """What is trained on; a part of it, such as `train[:3000]`, too."""
    corrections: str | None = None
    """A file of `okdhp-edge data relabel` with corrected labels for the training split."""
    skeleton: SkeletonTable = SkeletonTable()
    metric: str | None = None
    """Evaluated and selected by this; None takes the data set's own."""
    terms: str = "no restriction known"
    """What may be done with the weights."""
    seed: Annotated[int, Field(ge=0)] = 0
    network: NetworkConfig
    input: InputTable = InputTable()
    heatmap: HeatmapTable = HeatmapTable()
    detection: DetectionTable = DetectionTable()
    distillation: DistillationTable = OkdhpTable(method="okdhp")
    augmentation: Augmentation = Augmentation()
    optimizer: OptimizerTable = OptimizerTable()
    start: str | None = None
    """A checkpoint of the same network to begin with, or the name of a model with float weights
    (`lite`); joints are matched by name. FPD's published gain needs one."""
    freeze: FreezeTable = FreezeTable()
    quantization: QuantizationTable | None = None

    @model_validator(mode="before")
    @classmethod
    def _rename_keys(cls, content: Any) -> Any:
        return rename_old_keys(content) if isinstance(content, dict) else content

    @model_validator(mode="after")
    def _check_consistency(self) -> "Recipe":
        branches, sigmas = len(self.network.branches), self.heatmap.branch_sigmas
        if sigmas and (len(sigmas) != branches or sigmas[0] != self.heatmap.sigma):
            raise ValueError("heatmap.branch_sigmas needs one sigma per branch, the first = sigma")
        self._check_size()
        self._check_cost()
        if self.freeze.to_stride and self.network.kind == "onnx":
            raise ValueError("freeze.to_stride needs an encoder or an hourglass")
        self._check_detector()
        self.distillation.check(branches, self.augmentation.views, self.input.size)
        if self.quantization and self.quantization.branch not in self.deployable:
            raise ValueError(f"quantization.branch must be one of {list(self.deployable)}")
        if self.quantization and self.network.mask:
            raise ValueError("network.mask and [quantization] are mutually exclusive")
        if self.quantization and self.optimizer.average:
            # An average of weights is no INT8 network that any step has trained.
            raise ValueError("optimizer.average and [quantization] are mutually exclusive")
        return self

    def _check_detector(self) -> None:
        if not self.is_detector:
            if self.keeps_boxes:
                raise ValueError("network.boxes needs kind = 'detector'")
            return
        if self.network.kind == "hourglass" or self.network.mask:
            raise ValueError("a detector needs another network.kind than hourglass, and no mask")
        if getattr(self.network, "decoder", None) == "duc":
            raise ValueError("a detector needs another network.decoder than duc")
        table = self.distillation
        plain = table.method == "supervised" or (
            isinstance(table, OkdhpTable)
            and not (table.teacher or table.peer_size or table.own_view)
        )
        if not plain or self.augmentation.views > 1:
            raise ValueError("a detector is trained by supervised or okdhp, with one view")
        if self.network.kind == "onnx" and not (self.network.boxes or self.network.features):
            raise ValueError(
                "a detector from a pose network needs network.features, where new branches start"
            )
        if self.keeps_boxes and (self.optimizer.epochs or len(self.network.branches) > 1):
            raise ValueError(
                "network.boxes keeps a file's own output: set branches = [1], epochs = 0"
            )

    def _check_size(self) -> None:
        network = self.network
        has_neck = network.kind == "mobilepose" and network.neck is not None
        multiple, owner = (
            (_HOURGLASS_MULTIPLE, "an hourglass") if network.kind == "hourglass"
            else (_NECK_MULTIPLE, "a neck") if has_neck
            else (_ENCODER_MULTIPLE, "a network without neck")
        )  # fmt: skip
        if any(side % multiple for side in self.input.size):
            raise ValueError(f"{owner} needs input.size in multiples of {multiple}")
        peer = getattr(self.distillation, "peer_size", None) or ()
        if any(side % multiple for side in peer):
            raise ValueError(f"{owner} needs distillation.peer_size in multiples of {multiple}")

    def _check_cost(self) -> None:
        """Refuse, by arithmetic alone, what no machine could build."""
        width, height = self.input.size
        pixels = self.optimizer.batch_size * self.augmentation.views * width * height
        if pixels > _MAX_STEP_PIXELS:
            raise ValueError(
                f"a step of {pixels / 1e6:.0f} million pixels (batch_size x views x input.size) is "
                f"more than {_MAX_STEP_PIXELS / 1e6:.0f} million"
            )

    @property
    def is_detector(self) -> bool:
        """Whether a person detector is trained, and not a pose model."""
        return self.kind == "detector"

    @property
    def keeps_boxes(self) -> bool:
        """Whether the network is a detector's file with the output that it has."""
        return self.network.kind == "onnx" and self.network.boxes

    def count_channels(self, classes: int) -> int:
        """Channels of the network's output, for so many joints or, of a detector, classes."""
        return count_channels(self.decoder_spec().kind, classes)

    @property
    def deployable(self) -> tuple[int, ...]:
        """Branches among which the best is chosen: okddip's leader, or the network's own."""
        return self.distillation.deployable(self.network.deployable)

    def changed(self, *, epochs: int | None = None, seed: int | None = None) -> "Recipe":
        """The same recipe with another length or seed, where given."""
        optimizer = self.optimizer.model_copy(update={} if epochs is None else {"epochs": epochs})
        update: dict[str, object] = {"optimizer": optimizer}
        return self.model_copy(update=update if seed is None else update | {"seed": seed})

    def input_spec(self) -> InputSpec:
        """How the network is fed."""
        mean, std = get_normalization(self.network)
        return InputSpec.model_validate(
            {
                "width": self.input.size[0],
                "height": self.input.size[1],
                "mean": mean,
                "std": std,
                # A detector is shown the image and nothing around it.
                "box_padding": 1.0 if self.is_detector else self.input.box_padding,
                "mask": self.network.mask,
            }
        )

    def decoder_spec(self, branch: int = 0) -> DecoderSpec:
        """How a branch's heatmaps are read."""
        table, network = self.heatmap, self.network
        if self.keeps_boxes:
            return DecoderSpec(kind=HeatmapKind.BOXES, sigma=table.sigma, stride=1)
        return DecoderSpec(
            kind=HeatmapKind.CENTERS if self.is_detector else table.kind,
            sigma=table.branch_sigmas[branch] if table.branch_sigmas else table.sigma,
            smooth=table.smooth,
            stride=STRIDE if network.kind == "hourglass" else network.stride,
        )  # fmt: skip


_TABLES: dict[str, type[BaseModel]] = {
    "input": InputTable, "heatmap": HeatmapTable, "detection": DetectionTable,
    "augmentation": Augmentation, "optimizer": OptimizerTable, "freeze": FreezeTable,
    "quantization": QuantizationTable, "skeleton": SkeletonTable,
}  # fmt: skip
_NETWORKS: dict[str, type[BaseModel]] = {
    "hourglass": HourglassConfig, "mobilepose": MobilePoseConfig, "onnx": OnnxConfig,
}  # fmt: skip


_RENAMED_KEYS = {"optimiser": "optimizer"}


def read_recipe(path: Path) -> Recipe:
    """Read a recipe. With `base = "PATH"`, relative to the file, it is a change to another one.

    Raises:
        RecipeError: unreadable, not TOML, unknown keys (the nearest is named), bad values.
    """
    content = read_recipe_content(path)
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        raise _explained(path, error, content) from error


def revalidate(recipe: Recipe) -> Recipe:
    """A recipe that was changed in code, checked as one that is read.

    Raises:
        RecipeError: its settings do not fit together.
    """
    try:
        return Recipe.model_validate(content := recipe.model_dump())
    except ValidationError as error:
        raise _explained(Path(recipe.name), error, content) from error


def rename_old_keys(content: dict[str, Any]) -> dict[str, Any]:
    """A recipe's keys by their names of today: `[optimiser]` of 0.1 is `[optimizer]`."""
    return {_RENAMED_KEYS.get(key, key): value for key, value in content.items()}


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Tables key by key; but a `[network]` or `[distillation]` of another kind is replaced."""
    result = dict(base)
    for key, value in changes.items():
        old = base.get(key)
        if isinstance(value, dict) and isinstance(old, dict):
            other = any(tag in value and value[tag] != old.get(tag) for tag in ("kind", "method"))
            result[key] = value if other else merged(old, value)
        else:
            result[key] = value
    return result


def read_recipe_content(path: Path, above: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The keys of a recipe and of its `base`, unchecked.

    Args:
        above: the recipes that this one is the base of.

    Raises:
        RecipeError: unreadable, not TOML, or its own base.
    """
    if path.resolve() in above:
        raise RecipeError(f"recipe {path} is its own base", "fix `base`")
    try:
        content = read_toml(path)
    except FileNotFoundError:
        raise RecipeError(f"recipe {path} does not exist", "check --recipe") from None
    except (OSError, ValueError) as error:
        text = " ".join(str(error).split())[:120]
        raise RecipeError(f"recipe {path} cannot be read ({text})", "fix the TOML") from error
    content = rename_old_keys(content)
    base = content.pop("base", None)
    if base is None:
        return content
    return merged(read_recipe_content(path.parent / str(base), (*above, path.resolve())), content)


def _find_table(loc: tuple[int | str, ...], content: dict[str, Any]) -> type[BaseModel]:
    """The table of a recipe's content that an unknown key is in."""
    if {"teacher", "primary", "senior"} & set(loc[1:-1]):
        return TeacherTable
    if loc[0] == "distillation" and len(loc) > 1:
        return METHODS[content["distillation"]["method"]].table
    if len(loc) > 2 and str(loc[1]) in _NETWORKS:
        return _NETWORKS[str(loc[1])]
    return _TABLES.get(str(loc[0]), Recipe) if len(loc) > 1 else Recipe


def _explained(path: Path, error: ValidationError, content: dict[str, Any]) -> RecipeError:
    first = error.errors()[0]
    loc = first["loc"]
    inner = first.get("ctx", {}).get("error")
    if isinstance(inner, ValidationError):  # of a table that is checked by its method
        first = inner.errors()[0]
        loc = (*loc, *first["loc"])
    # The network's kinds are no keys; a table of such a name is one.
    variants = _NETWORKS if loc[:1] == ("network",) else {}
    where = [str(p) for p in loc if p not in variants]
    key = ".".join(where) or "recipe"
    if first["type"] != "extra_forbidden":
        return RecipeError(f"{path}: {key}: {first['msg']}", "fix this value")
    known = sorted(_find_table(loc, content).model_fields)
    near = difflib.get_close_matches(where[-1], known, n=1)
    remedy = f"did you mean '{near[0]}'?" if near else f"use one of {', '.join(known)}"
    return RecipeError(f"{path}: unknown key '{key}'", remedy)
