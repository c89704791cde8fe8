"""A pose network that labels: any ONNX file, described by a TOML file beside it."""

from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from okdhp_edge.artifacts.card import sha256_of
from okdhp_edge.backends.onnx_file import OnnxFile
from okdhp_edge.errors import ModelError, first_fault
from okdhp_edge.pose.crop import Box, HeatmapGrid, apply, crop_from_frame, invert
from okdhp_edge.pose.heatmap import HeatmapKind, decode
from okdhp_edge.pose.preprocess import Image, warp
from okdhp_edge.pose.skeleton import COCO17, KNOWN, Skeleton, skeleton_from_names
from okdhp_edge.system.reading import read_toml

_BORDER = (128, 128, 128)


class TeacherSpec(BaseModel):
    """What a teacher is fed and how its output is read: the keys of the TOML file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    joints: str | tuple[str, ...] = COCO17.name
    """The name of a known skeleton, or the joints in the order of the output."""
    size: tuple[int, int] | None = None
    """Width and height of the input; needed where the file leaves them free."""
    layout: Literal["NHWC", "NCHW"] = "NCHW"
    colour: Literal["RGB", "BGR"] = "RGB"
    mean: tuple[float, float, float] = (0, 0, 0)
    std: tuple[float, float, float] = (1, 1, 1)
    """In its own colour order, 0..255."""
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


class TeacherPrediction(NamedTuple):
    """Joints as one teacher sees them in one crop.

    Attributes:
        xy: (K, 2) pixels of the picture.
        score: (K,) in 0..1.
    """

    xy: NDArray[np.float64]
    score: NDArray[np.float64]


class Teacher:
    """A loaded teacher. Use from one thread at a time.

    Raises:
        ModelError: the file or its description is not what a teacher's is.
    """

    def __init__(self, path: Path, threads: int | None = None, precision: str = "fp32") -> None:
        self.path = path
        self.spec = read_teacher_spec(path)
        self._file = OnnxFile(path, threads, self.spec.output, precision)
        self.size = self.spec.size or self._size_of_file()
        if np.shape(self.spec.offset) not in ((2,), (len(self.skeleton), 2)):
            raise ModelError(
                f"{path.with_suffix('.toml')} has {len(self.spec.offset)} rows of `offset`",
                f"give x and y, or x and y of each of the {len(self.skeleton)} joints",
            )
        self._mean, self._std = (
            np.array(v, dtype=np.float32) for v in (self.spec.mean, self.spec.std)
        )

    @cached_property
    def skeleton(self) -> Skeleton:
        """The joints it knows."""
        return skeleton_of(self.spec)

    def predict(self, picture: Image, box: Box) -> tuple[TeacherPrediction, TeacherPrediction]:
        """The person in a box (x, y, width, height), seen as it is and mirrored."""
        return self._predict_once(picture, box, mirror=False), self._predict_once(
            picture, box, mirror=True
        )

    def _predict_once(self, picture: Image, box: Box, *, mirror: bool) -> TeacherPrediction:
        placed = crop_from_frame(box, self.size, self.spec.box_padding, mirror=mirror)
        crop = warp(picture, placed, self.size, _BORDER)
        xy, score = self._read(self._file(self._fed(crop)))
        xy = apply(invert(placed), xy)
        if mirror:
            xy, score = xy[self.skeleton.flip_index], score[self.skeleton.flip_index]
        return TeacherPrediction(xy, score)

    def _fed(self, crop: Image) -> NDArray[np.float32]:
        ordered = crop[..., ::-1] if self.spec.colour == "RGB" else crop
        values = ((ordered - self._mean) / self._std)[None]
        planes = values if self.spec.layout == "NHWC" else values.transpose(0, 3, 1, 2)
        return np.ascontiguousarray(planes, dtype=np.float32)

    def _read(self, output: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(K, 2) joints in crop pixels, and their scores."""
        joints = len(self.skeleton)
        if self.spec.reads == "keypoints":
            rows = self._shaped(output, (joints, 3)).astype(np.float64)
            # A share of the input counts from the left edge of its first pixel.
            return rows[:, 1::-1] * np.array(self.size) - 0.5, rows[:, 2]
        height, width = output.shape[-2:]
        maps = self._shaped(output, (1, joints, height, width))
        decoded = decode(maps, self.spec.kind, self.spec.sigma, self.spec.smoothing)
        crop_from_heatmap = self.spec.grid.input_from_heatmap(self.size, (width, height))
        xy = decoded.xy_BK2[0] + np.array(self.spec.offset)
        return apply(crop_from_heatmap, xy), decoded.score_BK[0].astype(np.float64)

    def _shaped(self, output: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float32]:
        if output.size != np.prod(shape):
            raise ModelError(
                f"teacher {self.path} gives {output.shape}, not {shape}",
                f"mend `joints`, `output` or `reads` in {self.path.with_suffix('.toml').name}",
            )
        return output.reshape(shape)

    def _size_of_file(self) -> tuple[int, int]:
        shape = self._file.input_shape
        height, width = shape[1:3] if self.spec.layout == "NHWC" else shape[2:4]
        if min(height, width) < 1:
            raise ModelError(
                f"teacher {self.path} leaves its input size free",
                f"add `size = [width, height]` to {self.path.with_suffix('.toml').name}",
            )
        return width, height


def skeleton_of(spec: TeacherSpec) -> Skeleton:
    """The joints a description names.

    Raises:
        ModelError: an unknown skeleton.
    """
    if not isinstance(spec.joints, str):
        return skeleton_from_names("teacher", spec.joints)
    if spec.joints not in KNOWN:
        raise ModelError(
            f"no skeleton is called '{spec.joints}'",
            f"use {', '.join(KNOWN)} or a list of joint names",
        )
    return KNOWN[spec.joints]


def read_teacher_spec(path: Path) -> TeacherSpec:
    """The TOML file beside a teacher.

    Raises:
        ModelError: there is none, or it is no such file.
    """
    beside = path.with_suffix(".toml")
    keys = ", ".join(TeacherSpec.model_fields)
    if not path.is_file():
        raise ModelError(f"teacher {path} does not exist", "check --teacher")
    if not beside.is_file():
        raise ModelError(f"teacher {path} has no {beside.name} beside it", f"write one: {keys}")
    try:
        return TeacherSpec.model_validate(read_toml(beside))
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{beside} is no description of a teacher ({first_fault(error)})",
            f"use the keys {keys}",
        ) from error


def fingerprint(path: Path) -> str:
    """What tells a teacher from another: its own hash and its description's."""
    return f"{sha256_of(path)}:{sha256_of(path.with_suffix('.toml'))}"
