"""The training recipe: a TOML file, validated so that it can be wrong only loudly."""

import difflib
import tomllib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from okdhp_edge.card import DecoderSpec, InputSpec
from okdhp_edge.data.augment import Augmentation
from okdhp_edge.errors import RecipeError
from okdhp_edge.network.build import STRIDE, normalisation
from okdhp_edge.network.config import HourglassConfig, MobilePoseConfig, NetworkConfig
from okdhp_edge.pose.heatmap import HeatmapKind

Weight = Annotated[float, Field(ge=0)]
HardLoss = Literal["mse", "ce"]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class InputTable(_Table):
    """`[input]`: the crop."""

    size: tuple[
        Annotated[int, Field(ge=32, multiple_of=32)], Annotated[int, Field(ge=32, multiple_of=32)]
    ] = (128, 128)
    """Width and height in pixels."""
    box_padding: Annotated[float, Field(ge=1.0, le=3.0)] = 1.25


class HeatmapTable(_Table):
    """`[heatmap]`: the target and the hard loss against it."""

    hard_loss: HardLoss = "ce"
    sigma: Annotated[float, Field(gt=0, le=8)] = 1.5
    """Of the target Gaussian, in heatmap pixels."""

    @property
    def kind(self) -> HeatmapKind:
        return HeatmapKind.LOGITS if self.hard_loss == "ce" else HeatmapKind.GAUSSIAN


class DistillationTable(_Table):
    """`[distillation]`: OKDHP (Li et al., ICCV 2021, section 3.3)."""

    method: Literal["okdhp", "supervised"] = "okdhp"
    ensemble_weight: Weight = 1.0
    """Of the ensemble's own hard loss."""
    kd_weight: Weight = 1.0
    temperature: Annotated[float, Field(gt=0)] = 1.0
    """Both softmaxes divide their heatmaps by this; below 1 sharpens. `mse` needs about 0.1 to
    0.2: heatmaps in 0..1 are nearly uniform under a softmax over thousands of pixels."""
    detach: bool = True
    """Whether the ensemble is a fixed target. The released code lets the KL move its teacher."""
    ramp_epochs: Annotated[int, Field(ge=0)] = 3
    """exp(-5 (1 - t/L)^2) over L epochs (Laine and Aila, 2017); 0 starts at full weight."""
    shared_stack_weight: Weight = 1.0
    """Of the hard and KL losses on the trunk's own stacks."""


class OptimiserTable(_Table):
    """`[optimiser]`."""

    name: Literal["adamw", "adam", "sgd"] = "adamw"
    lr: Annotated[float, Field(gt=0)] = 2e-3
    weight_decay: Weight = 1e-2
    epochs: Annotated[int, Field(ge=1)] = 12
    batch_size: Annotated[int, Field(ge=1)] = 32
    """Over all processes together."""
    schedule: Literal["one_cycle", "steps"] = "one_cycle"
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.15
    """Share of a one-cycle schedule spent rising."""
    milestones: tuple[int, ...] = ()
    """Epochs at which `steps` multiplies the rate by 0.1."""
    clip_norm: Annotated[float, Field(gt=0)] | None = None


class Recipe(_Table):
    """Everything that decides what a training run gives."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    data: str = "synthetic"
    """KIND:PATH; `--data` overrides it."""
    metric: str | None = None
    """Judged and selected by this; None takes the data set's own."""
    terms: str = "no restriction known"
    """What may be done with the weights."""
    seed: Annotated[int, Field(ge=0)] = 0
    network: NetworkConfig
    input: InputTable = InputTable()
    heatmap: HeatmapTable = HeatmapTable()
    distillation: DistillationTable = DistillationTable()
    augmentation: Augmentation = Augmentation()
    optimiser: OptimiserTable = OptimiserTable()

    def changed(self, *, epochs: int | None = None, seed: int | None = None) -> "Recipe":
        """The same recipe with another length or seed, where given."""
        optimiser = self.optimiser.model_copy(update={} if epochs is None else {"epochs": epochs})
        update: dict[str, object] = {"optimiser": optimiser}
        return self.model_copy(update=update if seed is None else update | {"seed": seed})

    def input_spec(self) -> InputSpec:
        """How the network is fed."""
        mean, std = normalisation(self.network)
        return InputSpec.model_validate(
            {
                "width": self.input.size[0],
                "height": self.input.size[1],
                "mean": mean,
                "std": std,
                "box_padding": self.input.box_padding,
            }
        )

    def decoder_spec(self) -> DecoderSpec:
        """How its heatmaps are read."""
        return DecoderSpec(kind=self.heatmap.kind, sigma=self.heatmap.sigma, stride=STRIDE)


_TABLES: dict[str, tuple[type[BaseModel], ...]] = {
    "": (Recipe,),
    "network": (HourglassConfig, MobilePoseConfig),
    "input": (InputTable,),
    "heatmap": (HeatmapTable,),
    "distillation": (DistillationTable,),
    "augmentation": (Augmentation,),
    "optimiser": (OptimiserTable,),
}


def read_recipe(path: Path) -> Recipe:
    """Read a recipe.

    Raises:
        RecipeError: unreadable, not TOML, unknown keys (the nearest is named), bad values.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RecipeError(f"recipe {path} does not exist", "check --recipe") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise RecipeError(f"recipe {path} cannot be read ({error})", "mend the TOML") from error
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        raise _explained(path, error) from error


def _explained(path: Path, error: ValidationError) -> RecipeError:
    first = error.errors()[0]
    where = [str(p) for p in first["loc"] if p not in ("hourglass", "mobilepose")]
    key = ".".join(where)
    if first["type"] != "extra_forbidden":
        return RecipeError(f"{path}: {key}: {first['msg']}", "mend this value")
    table = where[0] if len(where) > 1 else ""
    known = sorted({name for model in _TABLES.get(table, ()) for name in model.model_fields})
    near = difflib.get_close_matches(where[-1], known, n=1, cutoff=0.0)
    return RecipeError(f"{path}: unknown key '{key}'", f"did you mean '{near[0]}'?")
