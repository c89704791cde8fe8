"""The model card: everything a stage needs to know about a model file, verified by hash.

The same facts travel inside the ONNX file as `metadata_props`.
"""

import hashlib
import json
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from okdhp_edge.errors import ModelError, describe_first_fault
from okdhp_edge.pose.candidate_boxes import decode_candidates
from okdhp_edge.pose.center_map import BOX_CHANNELS, decode_centers
from okdhp_edge.pose.heatmap import Decoded, HeatmapKind, Heatmaps, decode
from okdhp_edge.pose.skeleton import MAX_JOINTS, Skeleton
from okdhp_edge.system.files import write_text
from okdhp_edge.system.reading import MAX_CONFIG_BYTES, read_file

CARD_NAME = "card.json"
MAX_BATCH_SIZE = 1024
RANGES_FILE_NAME = "ranges.json"
"""Beside a float model that was trained with quantization: its tensors' ranges, by name."""


FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,99}$")]
"""Of a file in the card's own folder: no path leads out of it."""


ProfileName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,39}$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


# Of pixels, which lie in 0..255.
_Level = Annotated[float, Field(ge=-1e4, le=1e4, allow_inf_nan=False)]


class InputSpec(_Strict):
    """The network's input: a crop (height, width, 3), uint8, BGR, normalized inside the graph.

    `mean` and `std` (BGR, 0..255) are recorded for the reader; nobody applies them again.
    """

    width: Annotated[int, Field(ge=32, le=4096, multiple_of=4)]
    height: Annotated[int, Field(ge=32, le=4096, multiple_of=4)]
    mean: tuple[_Level, _Level, _Level]
    std: tuple[_Level, _Level, _Level]
    box_padding: Annotated[float, Field(ge=1.0, le=10.0, allow_inf_nan=False)] = 1.25
    colour: Literal["BGR"] = "BGR"
    layout: Literal["NHWC"] = "NHWC"
    dtype: Literal["uint8"] = "uint8"
    mask: bool = False
    """Whether a fourth channel shows which pixels are the person. For teachers in training only:
    no device has it, and the export refuses it."""

    @property
    def size(self) -> tuple[int, int]:
        """(width, height)."""
        return self.width, self.height

    @property
    def border(self) -> tuple[int, int, int]:
        """Fill value outside the image: the mean, so that the network sees zeros."""
        b, g, r = (round(v) for v in self.mean)
        return b, g, r


class DecoderSpec(_Strict):
    """How heatmaps become joints."""

    kind: HeatmapKind
    sigma: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    smooth: Annotated[float, Field(ge=0, le=64, allow_inf_nan=False)] = 0.0
    """Of the Gaussian that heatmaps are convolved with before the peak is looked for."""
    stride: Annotated[int, Field(ge=1)] = 4

    @property
    def model_kind(self) -> Literal["pose", "detector"]:
        """Whether the model finds joints in a person's crop, or persons in whole images."""
        return "detector" if self.kind.finds_persons else "pose"

    def decode(
        self, heatmaps_BKHW: Heatmaps, oks_sigmas_K: NDArray[np.float64] | None = None
    ) -> Decoded:
        """Joints, or the corners of a detector's boxes, in heatmap pixels.

        Args:
            oks_sigmas_K: `Skeleton.sigmas` of the joints.
        """
        if self.kind is HeatmapKind.CENTERS:
            return decode_centers(heatmaps_BKHW)
        if self.kind is HeatmapKind.BOXES:
            return decode_candidates(heatmaps_BKHW)
        return decode(heatmaps_BKHW, self.kind, self.sigma, self.smooth, oks_sigmas_K)


class SkeletonSpec(_Strict):
    """A skeleton as data."""

    name: str
    joints: Annotated[tuple[str, ...], Field(max_length=MAX_JOINTS)]
    limbs: tuple[tuple[str, str], ...]
    twins: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, skeleton: Skeleton) -> "SkeletonSpec":
        """The spec of a skeleton, to be stored as JSON."""
        return cls(
            name=skeleton.name, joints=skeleton.joints, limbs=skeleton.limbs, twins=skeleton.twins
        )

    def skeleton(self) -> Skeleton:
        """The skeleton that this spec describes."""
        return Skeleton(self.name, self.joints, self.limbs, self.twins)


class MetricResult(_Strict):
    """A metric of this file, in points of 100, with its 95 % bootstrap interval."""

    metric: str
    data: str
    split: str
    persons: int
    value: float
    low: float
    high: float
    cpu: str | None = None
    """The INT8 units of the CPU it was measured on, as `hardware.detect_int8_units` names them."""
    parent_value: float | None = None
    """The same metric of the file this one was made from, on the same samples."""


class Calibration(_Strict):
    """The data and calibrator of the INT8 ranges."""

    data: str
    samples: int
    list_sha256: str
    method: str


class ModelCard(_Strict):
    """A model file and what it needs. `files` maps names next to the card to their sha256."""

    name: str
    format: Literal["onnx", "openvino"]
    profile: ProfileName
    """`float`, or the INT8 profile of the runtime that the file was made for."""
    precision: Literal["fp32", "int8"]
    input: InputSpec
    decoder: DecoderSpec
    skeleton: SkeletonSpec
    files: dict[FileName, str]
    model_file: FileName
    branch: int
    batch: Annotated[int, Field(ge=1, le=MAX_BATCH_SIZE)] | None = 1
    """Fixed batch size; None where the batch is free."""
    parent_sha256: str
    """The file this one was made from: the checkpoint for ONNX, the ONNX for INT8."""
    float_sha256: str | None = None
    """The float file whose accuracy INT8 was held against; training with quantization has another
    parent."""
    training_data: str
    """Name of the training data (no path)."""
    terms: str
    metrics: tuple[MetricResult, ...] = ()
    calibration: Calibration | None = None
    kept_float: tuple[str, ...] = ()
    """Nodes of the parent that were not quantized, besides the head."""
    saturation_free: bool | None = None
    """Of u8 x s8 files: whether no pair of products of any layer can leave 16 bits, whatever the
    activations are. Such a file gives the same on x86 with and without VNNI. None: not such a file,
    or one that nobody has looked at."""
    network: dict[str, Any] | None = None
    """The `[network]` table of the branch alone, where its torch weights lie next to the card."""
    parity_px: float | None = None
    simplified: bool | None = None
    command: str
    version: str

    @property
    def kind(self) -> Literal["pose", "detector"]:
        """Whether the model finds joints in a person's crop, or persons in whole images."""
        return self.decoder.model_kind

    @property
    def channels(self) -> int:
        """Of the model's output."""
        return count_channels(self.decoder.kind, len(self.skeleton.joints))


def count_channels(kind: HeatmapKind, classes: int) -> int:
    """Channels of a network's output, for so many joints or, of a detector, classes."""
    return classes + (BOX_CHANNELS if kind.finds_persons else 0)


def compute_sha256(path: Path) -> str:
    """Hex digest of a file's content; read once as long as the file stays as it is."""
    state = path.stat()
    return _digest(path, state.st_ino, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=256)
def _digest(path: Path, *_: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_card(card: ModelCard, folder: Path) -> Path:
    """Write `card.json` into `folder` atomically."""
    path = folder / CARD_NAME
    write_text(path, card.model_dump_json(indent=2) + "\n")
    return path


def read_card(folder: Path) -> ModelCard:
    """Read and verify the card in `folder`.

    Raises:
        ModelError: no card, a card that is not ours, or files whose hash differs from it.
    """
    path = folder / CARD_NAME
    if not path.is_file():
        raise ModelError(
            f"no {CARD_NAME} in {folder}", "use a folder written by `okdhp-edge export`"
        )
    try:
        card = ModelCard.model_validate_json(read_file(path, MAX_CONFIG_BYTES))
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror})", "check access") from error
    except ValueError as error:
        raise ModelError(
            f"{path} is not a valid model card ({describe_first_fault(error)})",
            "export the model again with this version",
        ) from error
    if card.model_file not in card.files:
        raise ModelError(f"{path} has no hash for {card.model_file}", "export the model again")
    for name, expected in card.files.items():
        _verify(folder / name, expected)
    return card


def _verify(path: Path, expected: str) -> None:
    if not path.is_file():
        raise ModelError(f"{path} is missing but listed in its card", "export the model again")
    if compute_sha256(path) != expected:
        raise ModelError(
            f"{path} does not match its card (sha256 does not match)",
            "restore the file or export the model again",
        )


def find_model_folder(path: Path) -> Path:
    """The folder of a model given as folder, model file or card."""
    if path.is_dir():
        return path
    if not path.exists():
        raise ModelError(f"{path} does not exist", "pass a model folder or file")
    if not (path.parent / CARD_NAME).is_file():
        raise ModelError(
            f"no {CARD_NAME} next to {path}",
            "export the model with `okdhp-edge export`, which writes its card",
        )
    return path.parent


def make_metadata(card: ModelCard) -> dict[str, str]:
    """The card's facts for ONNX `metadata_props`: flat strings under `okdhp_edge.`."""
    facts: dict[str, Any] = card.model_dump(
        mode="json", include={"name", "input", "decoder", "skeleton", "branch", "terms", "version"}
    )
    return {f"okdhp_edge.{key}": json.dumps(value) for key, value in facts.items()}
