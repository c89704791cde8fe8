"""External ONNX models: their input and output format, described by a TOML file next to them.

The same description is used for labelling, teachers in training and, its input part, detectors.
"""

from pathlib import Path
from typing import Annotated, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from okdhp_edge.artifacts.card import CARD_NAME, ModelCard, read_card
from okdhp_edge.errors import ModelError, describe_first_fault
from okdhp_edge.pose.crop import HeatmapGrid
from okdhp_edge.pose.heatmap import HeatmapKind
from okdhp_edge.pose.preprocess import Image
from okdhp_edge.pose.skeleton import BUILTIN_SKELETONS, COCO17, Skeleton, skeleton_from_names
from okdhp_edge.system.reading import read_toml

Spec = TypeVar("Spec", bound=BaseModel)


class ExternalInputSpec(BaseModel):
    """Preprocessing from an image to the network's input."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    layout: Literal["NHWC", "NCHW"] = "NCHW"
    colour: Literal["RGB", "BGR"] = "RGB"
    mean: tuple[float, float, float] = (0, 0, 0)
    std: tuple[float, float, float] = (1, 1, 1)
    """In its own colour order, 0..255."""

    def to_input(self, image: Image) -> NDArray[np.float32]:
        """(1, 3, H, W) or (1, H, W, 3) float32 of an image (H, W, 3) in BGR."""
        ordered = image[..., ::-1] if self.colour == "RGB" else image
        mean, std = (np.array(v, dtype=np.float32) for v in (self.mean, self.std))
        values = ((ordered - mean) / std)[None]
        planes = values if self.layout == "NHWC" else values.transpose(0, 3, 1, 2)
        return np.ascontiguousarray(planes, dtype=np.float32)


class _InputKeys(ExternalInputSpec):
    """The input part of any description."""

    model_config = ConfigDict(extra="ignore")


class ExternalPoseSpec(ExternalInputSpec):
    """What a pose network is fed and how its output is read: the keys of the TOML file."""

    joints: str | tuple[str, ...] = COCO17.name
    """The name of a known skeleton, or the joints in the order of the output."""
    twins: tuple[tuple[str, str], ...] = ()
    """Pairs of joints that mirroring exchanges, where their names do not say so."""
    size: tuple[int, int] | None = None
    """Width and height of the input; needed where the file leaves them free."""
    box_padding: Annotated[float, Field(ge=1, le=3)] = 1.25
    output: str | None = None
    """Name of the output that is read; None reads the first."""
    reads: Literal["keypoints", "heatmaps"] = "heatmaps"
    """`keypoints`: rows of y, x as shares of the input, and a score (MoveNet)."""
    kind: HeatmapKind = HeatmapKind.GAUSSIAN
    sigma: Annotated[float, Field(gt=0)] = 2.0
    """Of the heatmaps' Gaussians, in heatmap pixels."""
    grid: HeatmapGrid = HeatmapGrid.CENTERS
    """Where heatmap cells lie in the input."""
    offset: tuple[float, float] | tuple[tuple[float, float], ...] = (0.0, 0.0)
    """x and y, in heatmap cells, added to decoded positions: of all joints, or of each."""
    smoothing: Annotated[float, Field(ge=0)] = 0.0
    """Standard deviation, in heatmap cells, of a Gaussian applied before the peak is located."""

    @property
    def skeleton(self) -> Skeleton:
        """The joints it names.

        Raises:
            ModelError: an unknown skeleton.
        """
        if not isinstance(self.joints, str):
            return skeleton_from_names("teacher", self.joints).with_twins(self.twins)
        if self.joints not in BUILTIN_SKELETONS:
            raise ModelError(
                f"unknown skeleton '{self.joints}'",
                f"use {', '.join(BUILTIN_SKELETONS)} or a list of joint names",
            )
        return BUILTIN_SKELETONS[self.joints]


def read_pose_spec(
    path: Path, role: str = "teacher", setting: str = "--teacher"
) -> ExternalPoseSpec:
    """The TOML file next to a pose network; of an export of this project, its card.

    Args:
        role, setting: what the network is used as and which option named it, for messages.

    Raises:
        ModelError: there is none, or it is no such file.
    """
    beside = path.with_suffix(".toml")
    keys = ", ".join(ExternalPoseSpec.model_fields)
    if not path.is_file():
        raise ModelError(f"{role} {path} does not exist", f"check {setting}")
    if is_own_export(path):
        return _describe_card(read_card(path.parent))
    if not beside.is_file():
        raise ModelError(f"no {beside.name} next to {role} {path}", f"write one with {keys}")
    spec = read_description(beside, ExternalPoseSpec, role)
    if np.shape(spec.offset) not in ((2,), (len(spec.skeleton), 2)):
        raise ModelError(
            f"`offset` in {beside} has {len(spec.offset)} rows",
            f"give one x, y pair, or one for each of the {len(spec.skeleton)} joints",
        )
    return spec


def is_own_export(path: Path) -> bool:
    """Whether a network's card, and not a TOML file, describes it."""
    return not path.with_suffix(".toml").is_file() and (path.parent / CARD_NAME).is_file()


def find_description(path: Path) -> Path:
    """The file that describes a network."""
    return path.parent / CARD_NAME if is_own_export(path) else path.with_suffix(".toml")


def _describe_card(card: ModelCard) -> ExternalPoseSpec:
    if card.kind == "detector":
        raise ModelError(f"{card.name} is a person detector, not a pose model", "use a pose model")
    skeleton = card.skeleton.skeleton()
    joints = skeleton.joints
    return ExternalPoseSpec(
        layout="NHWC", colour="BGR", size=(card.input.width, card.input.height),
        joints=COCO17.name if joints == COCO17.joints else joints, twins=skeleton.twins,
        box_padding=card.input.box_padding, kind=card.decoder.kind, sigma=card.decoder.sigma,
        smoothing=card.decoder.smooth,
    )  # fmt: skip


def read_input_spec(path: Path) -> ExternalInputSpec:
    """How the network of an ONNX file is fed, from the TOML file next to it, whatever else it says.

    Raises:
        ModelError: there is none, or it is no such file.
    """
    return read_description(path.with_suffix(".toml"), _InputKeys, "network")


def read_description(file: Path, spec: type[Spec], of: str) -> Spec:
    """A TOML file of a spec's keys.

    Raises:
        ModelError: it is no such file.
    """
    try:
        return spec.model_validate(read_toml(file))
    except (OSError, ValueError) as error:
        raise ModelError(
            f"invalid {of} description {file} ({describe_first_fault(error)})",
            f"use the keys {', '.join(spec.model_fields)}",
        ) from error
