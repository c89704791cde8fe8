"""A labelling teacher: a pose model in ONNX or OpenVINO IR, and a TOML file that describes it."""

from collections.abc import Sequence
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from okdhp_edge.artifacts import model_store
from okdhp_edge.artifacts.card import compute_sha256, read_card
from okdhp_edge.artifacts.external_model import find_description, read_pose_spec
from okdhp_edge.errors import ModelError
from okdhp_edge.inference.onnx_model import list_weight_files, open_onnx_model
from okdhp_edge.inference.top_down import Crop, crop_person, to_image
from okdhp_edge.pose.crop import Affine, Box, apply
from okdhp_edge.pose.heatmap import decode
from okdhp_edge.pose.preprocess import Image
from okdhp_edge.pose.skeleton import Skeleton

_BORDER_COLOUR = (128, 128, 128)


class View(NamedTuple):
    """How a person is shown to a teacher.

    Attributes:
        padding: of the box, as a multiple of the teacher's own.
        rotation_deg: counter-clockwise as seen in the image.
        mirror: left and right exchanged, after the rotation.
    """

    padding: float = 1.0
    rotation_deg: float = 0.0
    mirror: bool = False


PLAIN_VIEW = View()
_AS_TAUGHT, _NARROW, _WIDE = (1.0, 0.0), (0.88, 0.0), (1.16, 0.0)
_TILTED = [(1.0, angle) for angle in (-30.0, -15.0, 15.0, 30.0)]
_TURNED = [(1.0, angle) for angle in (-90.0, 90.0, 180.0)]
_FRAMINGS = {
    2: [_AS_TAUGHT],
    6: [_AS_TAUGHT, _NARROW, _WIDE],
    14: [_AS_TAUGHT, _NARROW, _WIDE, *_TILTED],
    20: [_AS_TAUGHT, _NARROW, _WIDE, *_TILTED, *_TURNED],
}
VIEWS = {
    count: tuple(View(*framing, mirror) for framing, mirror in product(framings, (False, True)))
    for count, framings in _FRAMINGS.items()
}
"""Sets of views by their number: the crop and its mirror image; with two other paddings; with
slight rotations; with quarter and half turns, for people who are upside down."""


class PosePrediction(NamedTuple):
    """One teacher's joints for one crop.

    Attributes:
        xy: (K, 2) pixels of the image, unless said otherwise.
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
        self._file = open_onnx_model(path, threads, self.spec.output, precision)
        self.size = self.spec.size or self._read_input_size()

    @cached_property
    def skeleton(self) -> Skeleton:
        """The joints it knows."""
        return self.spec.skeleton

    def predict(
        self, image: Image, box: Box, views: Sequence[View] = VIEWS[2]
    ) -> list[PosePrediction]:
        """The person in a box (x, y, width, height), once for each view."""
        return [self.predict_view(image, box, view) for view in views]

    def predict_view(self, image: Image, box: Box, view: View = PLAIN_VIEW) -> PosePrediction:
        """The person in a box (x, y, width, height) as one view shows them."""
        crop = self._crop(image, box, view)
        xy, score = self._read(self._file(self.spec.to_input(crop.image)))
        xy = to_image(crop.crop_from_image, xy)
        if view.mirror:
            xy, score = xy[self.skeleton.flip_index], score[self.skeleton.flip_index]
        return PosePrediction(xy, score)

    def locate(self, image: Image, box: Box) -> tuple[Affine, PosePrediction]:
        """The (2, 3) transform of the image to the input, and the joints in heatmap cells, without
        the description's offset. Only of a teacher that returns heatmaps."""
        crop = self._crop(image, box, PLAIN_VIEW)
        return crop.crop_from_image, self._decode(self._file(self.spec.to_input(crop.image)))

    @cached_property
    def heatmap_size(self) -> tuple[int, int]:
        """(width, height) in cells."""
        blank = np.zeros((self.size[1], self.size[0], 3), np.uint8)
        height, width = self._file(self.spec.to_input(blank)).shape[-2:]
        return width, height

    def _crop(self, image: Image, box: Box, view: View) -> Crop:
        return crop_person(
            image, box, self.size, self.spec.box_padding * view.padding, _BORDER_COLOUR,
            rotation_deg=view.rotation_deg, mirror=view.mirror,
        )  # fmt: skip

    def _read(self, output: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(K, 2) joints in crop pixels, and their scores."""
        if self.spec.reads == "keypoints":
            rows = self._reshape_output(output, (len(self.skeleton), 3)).astype(np.float64)
            # A share of the input counts from the left edge of its first pixel.
            return rows[:, 1::-1] * np.array(self.size) - 0.5, rows[:, 2]
        height, width = output.shape[-2:]
        crop_from_heatmap = self.spec.grid.input_from_heatmap(self.size, (width, height))
        places = self._decode(output)
        return apply(crop_from_heatmap, places.xy + np.array(self.spec.offset)), places.score

    def _decode(self, output: NDArray[np.float32]) -> PosePrediction:
        """The peaks of heatmaps, in cells."""
        maps = self._reshape_output(output, (1, len(self.skeleton), *output.shape[-2:]))
        spec = self.spec
        decoded = decode(maps, spec.kind, spec.sigma, spec.smoothing, self.skeleton.sigmas)
        return PosePrediction(
            decoded.xy_BK2[0].astype(np.float64), decoded.score_BK[0].astype(np.float64)
        )

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


def find_teacher(model: str) -> Path:
    """The file of a teacher that is given as a path, or as the name of a model with its card.

    Raises:
        ModelError: neither exists.
    """
    path = Path(model).expanduser()
    if path.is_file() or path.suffix:
        return path  # whoever reads it says what is missing
    folder = model_store.resolve_model(model)
    for precision in ("fp32", "int8"):
        try:
            found = model_store.find_artifact(folder, "onnxruntime", precision)
        except ModelError:
            continue
        return found / read_card(found).model_file
    raise ModelError(f"{folder} has no ONNX file", "run `okdhp-edge export`")


def fingerprint(path: Path) -> str:
    """What tells a teacher from another: hashes of its files and of its description."""
    files = [path, *list_weight_files(path), find_description(path)]
    return ":".join(compute_sha256(file) for file in files)
