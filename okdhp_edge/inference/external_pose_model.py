"""A labelling teacher: any ONNX pose model, described by a TOML file next to it."""

from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from okdhp_edge.artifacts.card import compute_sha256
from okdhp_edge.artifacts.external_model import read_pose_spec
from okdhp_edge.errors import ModelError
from okdhp_edge.inference.onnx_model import OnnxModel
from okdhp_edge.inference.top_down import crop_person, to_image
from okdhp_edge.pose.crop import Box, apply
from okdhp_edge.pose.heatmap import decode
from okdhp_edge.pose.preprocess import Image
from okdhp_edge.pose.skeleton import Skeleton

_BORDER_COLOUR = (128, 128, 128)


class PosePrediction(NamedTuple):
    """One teacher's joints for one crop.

    Attributes:
        xy: (K, 2) pixels of the image.
        score: (K,) in 0..1.
    """

    xy: NDArray[np.float64]
    score: NDArray[np.float64]


class ExternalPoseModel:
    """A loaded teacher. Use from one thread at a time.

    Raises:
        ModelError: the file or its description is not what a teacher's is.
    """

    def __init__(self, path: Path, threads: int | None = None, precision: str = "fp32") -> None:
        self.path = path
        self.spec = read_pose_spec(path)
        self._file = OnnxModel(path, threads, self.spec.output, precision)
        self.size = self.spec.size or self._read_input_size()
        if np.shape(self.spec.offset) not in ((2,), (len(self.skeleton), 2)):
            raise ModelError(
                f"`offset` in {path.with_suffix('.toml')} has {len(self.spec.offset)} rows",
                f"give one x, y pair, or one for each of the {len(self.skeleton)} joints",
            )

    @cached_property
    def skeleton(self) -> Skeleton:
        """The joints it knows."""
        return self.spec.skeleton

    def predict(self, image: Image, box: Box) -> tuple[PosePrediction, PosePrediction]:
        """The person in a box (x, y, width, height), seen as it is and mirrored."""
        return self._predict_once(image, box, mirror=False), self._predict_once(
            image, box, mirror=True
        )

    def _predict_once(self, image: Image, box: Box, *, mirror: bool) -> PosePrediction:
        crop = crop_person(
            image, box, self.size, self.spec.box_padding, _BORDER_COLOUR, mirror=mirror
        )
        xy, score = self._read(self._file(self.spec.to_input(crop.image)))
        xy = to_image(crop.crop_from_image, xy)
        if mirror:
            xy, score = xy[self.skeleton.flip_index], score[self.skeleton.flip_index]
        return PosePrediction(xy, score)

    def _read(self, output: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(K, 2) joints in crop pixels, and their scores."""
        joints = len(self.skeleton)
        if self.spec.reads == "keypoints":
            rows = self._reshape_output(output, (joints, 3)).astype(np.float64)
            # A share of the input counts from the left edge of its first pixel.
            return rows[:, 1::-1] * np.array(self.size) - 0.5, rows[:, 2]
        height, width = output.shape[-2:]
        maps = self._reshape_output(output, (1, joints, height, width))
        decoded = decode(maps, self.spec.kind, self.spec.sigma, self.spec.smoothing)
        crop_from_heatmap = self.spec.grid.input_from_heatmap(self.size, (width, height))
        xy = decoded.xy_BK2[0] + np.array(self.spec.offset)
        return apply(crop_from_heatmap, xy), decoded.score_BK[0].astype(np.float64)

    def _reshape_output(
        self, output: NDArray[np.float32], shape: tuple[int, ...]
    ) -> NDArray[np.float32]:
        if output.size != np.prod(shape):
            raise ModelError(
                f"teacher {self.path} returns {output.shape}, expected {shape}",
                f"fix `joints`, `output` or `reads` in {self.path.with_suffix('.toml').name}",
            )
        return output.reshape(shape)

    def _read_input_size(self) -> tuple[int, int]:
        shape = self._file.input_shape
        height, width = shape[1:3] if self.spec.layout == "NHWC" else shape[2:4]
        if min(height, width) < 1:
            raise ModelError(
                f"teacher {self.path} has a dynamic input size",
                f"add `size = [width, height]` to {self.path.with_suffix('.toml').name}",
            )
        return width, height


def fingerprint(path: Path) -> str:
    """What tells a teacher from another: its own hash and its description's."""
    return f"{compute_sha256(path)}:{compute_sha256(path.with_suffix('.toml'))}"
