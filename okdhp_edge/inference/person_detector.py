"""Person detection with any one-stage ONNX detector, described by its configuration."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from okdhp_edge.artifacts.external_model import ExternalInputSpec, read_description
from okdhp_edge.errors import ModelError
from okdhp_edge.inference.onnx_model import open_onnx_model
from okdhp_edge.pose.crop import Box
from okdhp_edge.pose.preprocess import Image

Rows = NDArray[np.float32]


class DetectorSpec(ExternalInputSpec):
    """A detector's input and output format.

    Read from a TOML file of the same name next to the ONNX file, else from the output's shape.
    """

    colour: Literal["RGB", "BGR"] = "BGR"
    letterbox: Literal["top_left", "centre"] = "top_left"
    """Where the image lies in the square; the rest is grey 114."""
    boxes: Literal["grid", "cxcywh", "xyxy"] = "grid"
    """`grid`: offsets to cells and logarithms of sizes (YOLOX); else input pixels."""
    strides: tuple[Annotated[int, Field(ge=1)], ...] = (8, 16, 32)
    """Of the grid's levels."""
    transposed: bool = False
    """Whether candidates are columns and not rows."""
    objectness: bool = True
    """Whether a fifth number multiplies the class scores."""
    person_class: Annotated[int, Field(ge=0)] = 0
    min_score: Annotated[float, Field(ge=0, le=1)] = 0.4
    max_overlap: Annotated[float, Field(gt=0, le=1)] = 0.5
    """IoU above which the weaker of two boxes is suppressed."""


YOLOX_SPEC = DetectorSpec()
YOLOV8_SPEC = DetectorSpec(
    colour="RGB", std=(255, 255, 255), letterbox="centre", boxes="cxcywh", transposed=True,
    objectness=False,
)  # fmt: skip
_LETTERBOX_GREY = 114


class Detection(NamedTuple):
    """A person's box (x, y, width, height) in frame pixels, and how sure it is."""

    box: Box
    score: float


class PersonDetector:
    """A loaded detector. Use from one thread at a time.

    Raises:
        ModelError: the file or its configuration is not what a detector's is.
    """

    def __init__(self, path: Path, threads: int | None = None) -> None:
        self._file = open_onnx_model(path, threads)
        shape = self._file.input_shape
        described = read_spec(path)
        if described and described.layout == "NHWC" and len(shape) == 4:
            shape = (shape[0], shape[3], shape[1], shape[2])
        if len(shape) == 4 and shape[3] == 3:
            raise ModelError(
                f"{path} takes images as height, width, colors: an export of this project without "
                "its card.json",
                "use the folder that `okdhp-edge export` wrote",
            )
        if len(shape) != 4 or shape[:2] != (1, 3) or min(shape) < 1:
            raise ModelError(
                f"{path} takes {shape}, not one image (1, 3, height, width)",
                "export the detector with a fixed input size",
            )
        self._size = (shape[3], shape[2])
        self.name = path.name
        self.spec = described or _recognize_layout(path, self._file.output_shape, self._size)
        self._cells = _make_cells(self._size, self.spec.strides)

    def __call__(self, frame: Image) -> list[Detection]:
        """Persons, the surest first."""
        scale = min(self._size[0] / frame.shape[1], self._size[1] / frame.shape[0])
        image, offset = self._letterbox(frame, scale)
        rows = self._file(image)[0]
        rows = rows.T if self.spec.transposed else rows
        self._check_shape(rows.shape)
        first = 5 if self.spec.objectness else 4
        score = rows[:, first + self.spec.person_class]
        score = score * rows[:, 4] if self.spec.objectness else score
        likely = score >= self.spec.min_score
        corners = self._decode_corners(rows[:, :4], likely) - np.tile(offset, 2)
        boxes = np.column_stack([corners[:, :2], corners[:, 2:] - corners[:, :2]]) / scale
        kept = cv2.dnn.NMSBoxes(
            boxes.tolist(), score[likely].tolist(), self.spec.min_score, self.spec.max_overlap
        )
        return [Detection(boxes[i], float(score[likely][i])) for i in np.ravel(kept).astype(int)]

    def close(self) -> None:
        """Nothing is held that needs closing."""

    def _check_shape(self, shape: tuple[int, ...]) -> None:
        """Whether the output can be what the description says."""
        columns = (5 if self.spec.objectness else 4) + self.spec.person_class + 1
        cells = len(self._cells) if self.spec.boxes == "grid" else shape[0]
        if len(shape) != 2 or shape[0] != cells or shape[1] < columns:
            raise ModelError(
                f"{self.name} returns {shape}, but its description implies ({cells}, {columns}+)",
                "check `boxes`, `strides`, `objectness` and `transposed` in its .toml",
            )

    def _letterbox(self, frame: Image, scale: float) -> tuple[Rows, NDArray[np.float64]]:
        width, height = (max(1, round(side * scale)) for side in (frame.shape[1], frame.shape[0]))
        small = cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA)
        room = np.array([self._size[0] - width, self._size[1] - height])
        left, top = (room // 2 if self.spec.letterbox == "centre" else room * 0).tolist()
        square = np.full((self._size[1], self._size[0], 3), _LETTERBOX_GREY, dtype=np.uint8)
        square[top : top + height, left : left + width] = small
        return self.spec.to_input(square), np.array([left, top], dtype=np.float64)

    def _decode_corners(self, raw: Rows, likely: NDArray[np.bool_]) -> NDArray[np.float64]:
        """(N, 4) left, top, right, bottom in input pixels."""
        chosen = raw[likely].astype(np.float64)
        if self.spec.boxes == "xyxy":
            return chosen
        centre, size = chosen[:, :2], chosen[:, 2:]
        if self.spec.boxes == "grid":
            cells = self._cells[likely]
            centre, size = (centre + cells[:, :2]) * cells[:, 2:], np.exp(size) * cells[:, 2:]
        return np.hstack([centre - size / 2, centre + size / 2])


def read_spec(path: Path) -> DetectorSpec | None:
    """The TOML file next to a detector; None where there is none.

    Raises:
        ModelError: it is no such file.
    """
    beside = path.with_suffix(".toml")
    return read_description(beside, DetectorSpec, "detector") if beside.is_file() else None


def _recognize_layout(path: Path, shape: tuple[int, ...], size: tuple[int, int]) -> DetectorSpec:
    """The two common layouts, by the number of candidates."""
    cells = len(_make_cells(size, YOLOX_SPEC.strides))
    if len(shape) == 3 and shape[1] == cells and shape[2] > 5:
        return YOLOX_SPEC
    if len(shape) == 3 and shape[2] == cells and shape[1] > 4:
        return YOLOV8_SPEC
    raise ModelError(
        f"{path} returns {shape}, which is neither the YOLOX nor the YOLOv8 layout",
        f"describe it in {path.with_suffix('.toml').name}: {', '.join(DetectorSpec.model_fields)}",
    )


def _make_cells(size: tuple[int, int], strides: tuple[int, ...]) -> NDArray[np.float64]:
    """(N, 3) column, row and stride of each cell, level by level, row by row."""
    levels = []
    for stride in strides:
        rows, columns = np.mgrid[: size[1] // stride, : size[0] // stride]
        level = [columns.ravel(), rows.ravel(), np.full(rows.size, stride)]
        levels.append(np.stack(level, axis=1))
    return np.concatenate(levels).astype(np.float64)


Detect = Callable[[Image], list[Detection]]
"""What finds persons in a frame, the surest first."""
