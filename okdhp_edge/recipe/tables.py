"""The plain tables of a recipe: `[input]`, `[heatmap]`, `[detection]`, `[optimizer]`, `[freeze]`,
`[skeleton]`."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from okdhp_edge.pose.heatmap import HeatmapKind

Weight = Annotated[float, Field(ge=0)]
HardLoss = Literal["mse", "ce"]


class StrictTable(BaseModel):
    """A table that refuses keys it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


_Side = Annotated[int, Field(ge=32, le=2048, multiple_of=16)]


class InputTable(StrictTable):
    """`[input]`: the crop."""

    size: tuple[_Side, _Side] = (128, 128)
    """Width and height in pixels: multiples of 32, of 16 with `network.neck`, of 64 for an
    hourglass."""
    box_padding: Annotated[float, Field(ge=1.0, le=3.0)] = 1.25


class HeatmapTable(StrictTable):
    """`[heatmap]`: the target and the hard loss against it."""

    hard_loss: HardLoss = "ce"
    sigma: Annotated[float, Field(ge=0.3, le=8)] = 1.5
    """Of the target Gaussian, in heatmap pixels."""
    presence: Weight = 0.0
    """Of the loss that makes a joint's score the probability that it is in the crop: learned from
    joints outside augmented crops, from joints marked absent and from boxes without anybody. 0
    leaves scores to tell how sure the place is."""
    smooth: Annotated[float, Field(ge=0, le=8)] = 0.0
    """Of the Gaussian, in heatmap pixels, that heatmaps are convolved with when they are read."""
    branch_sigmas: tuple[Annotated[float, Field(gt=0, le=8)], ...] = ()
    """A sigma for each branch, the first being `sigma`, so that they differ; none: all alike."""
    shared_stack_weight: Weight = 1.0
    """Of the hard and KL losses on the trunk's own stacks."""
    intermediate_weight: Weight = 1.0
    """Of those on a branch's stacks before its last: deep supervision; 0 is without."""

    @property
    def kind(self) -> HeatmapKind:
        """What the network's heatmaps hold."""
        if self.hard_loss == "mse":
            return HeatmapKind.GAUSSIAN
        return HeatmapKind.PRESENCE if self.presence else HeatmapKind.LOGITS


class DetectionTable(StrictTable):
    """`[detection]`: the loss of a person detector."""

    box_weight: Weight = 5.0
    """Of the boxes' loss, 1 - GIoU, against that of the centers."""
    center_size: Annotated[float, Field(gt=0, le=1)] = 0.54
    """Share of a box over which its Gaussian reaches, three standard deviations to either side
    (TTFNet, Liu et al., AAAI 2020, section 3.2)."""


class OptimizerTable(StrictTable):
    """`[optimizer]`."""

    name: Literal["adamw", "adam", "sgd"] = "adamw"
    lr: Annotated[float, Field(gt=0)] = 2e-3
    weight_decay: Weight = 1e-2
    epochs: Annotated[int, Field(ge=0)] = 12
    """0 evaluates what training would start from and writes it as a checkpoint."""
    batch_size: Annotated[int, Field(ge=1)] = 32
    """Over all processes together."""
    schedule: Literal["one_cycle", "steps"] = "one_cycle"
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.15
    """Share of a one-cycle schedule spent rising."""
    milestones: tuple[int, ...] = ()
    """Epochs at which `steps` multiplies the rate by 0.1."""
    clip_norm: Annotated[float, Field(gt=0)] | None = None
    patience: Annotated[int, Field(ge=1)] | None = None
    """Epochs without a better score on `val` after which a run ends; None runs to its end."""
    average: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Decay per step of a moving average of the weights, which is then what is evaluated, kept and
    deployed (Polyak averaging)."""


class FreezeTable(StrictTable):
    """`[freeze]`: what does not learn, for few persons and a start that is good already."""

    to_stride: Literal[2, 4, 8, 16] | None = None
    """The encoder's layers up to this stride; of an hourglass its stem, from 4 on."""
    norms: bool = False
    """Whether batch norms keep their statistics, gains and offsets."""


class SkeletonTable(StrictTable):
    """`[skeleton]`: what a data set's joint names do not say."""

    pairs: tuple[tuple[str, str], ...] = ()
    """Joint pairs swapped by a horizontal flip, by the names that `data check` prints."""
