"""What INT8 ranges are taken from: real training crops through the inference preprocessing."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from okdhp_edge.card import Calibration, DecoderSpec, InputSpec
from okdhp_edge.data.load import load
from okdhp_edge.data.sample import PoseSet, Sample
from okdhp_edge.errors import DataError
from okdhp_edge.evaluate import inference_crop

DEFAULT_COUNT = 300
_FLOOR = 16
_SEED = 20240


class CalibrationSet:
    """Crops to calibrate on; can be iterated any number of times, one crop in memory at a time."""

    def __init__(self, poses: PoseSet, spec: InputSpec, decoder: DecoderSpec) -> None:
        self._poses = poses
        self._spec = spec
        self._decoder = decoder

    def __len__(self) -> int:
        return len(self._poses)

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        """(1, H, W, 3) uint8 BGR."""
        for sample in self._poses.samples:
            yield inference_crop(sample, self._spec, self._decoder.stride).image[None]

    def facts(self, method: str) -> Calibration:
        """What the card says of it."""
        listing = "\n".join(s.id for s in self._poses.samples)
        return Calibration(
            data=self._poses.source.partition(":")[0],
            samples=len(self),
            list_sha256=hashlib.sha256(listing.encode()).hexdigest(),
            method=method,
        )

    def listing(self) -> str:
        """One sample id a line, as `--calibration` reads it."""
        return "".join(f"{s.id}\n" for s in self._poses.samples)


def calibration_set(
    data: str, listing: Path | None, spec: InputSpec, decoder: DecoderSpec
) -> CalibrationSet:
    """The listed training samples, or a fixed draw of 300.

    Args:
        data: KIND:PATH, its training split is used.
        listing: a file with one sample id a line (see calibration/README.md).

    Raises:
        DataError: ids that the training split lacks, or too few samples.
    """
    train = load(data, "train")
    poses = train.picked(_read_list(listing)) if listing else _drawn(train)
    if len(poses) < _FLOOR:
        raise DataError(
            f"only {len(poses)} samples to calibrate on", f"give at least {_FLOOR}, better 300"
        )
    return CalibrationSet(poses, spec, decoder)


def _read_list(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read ({error})", "check --calibration") from error
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def _drawn(train: PoseSet) -> PoseSet:
    """300 of the better labelled half: ranges should come from whole people."""
    by_labels = sorted(train.samples, key=_labelled, reverse=True)
    half = by_labels[: max(len(by_labels) // 2, DEFAULT_COUNT)]
    rng = np.random.default_rng(_SEED)
    chosen = rng.choice(len(half), size=min(DEFAULT_COUNT, len(half)), replace=False)
    return train.picked([half[i].id for i in sorted(chosen)])


def _labelled(sample: Sample) -> int:
    return int(sample.labelled.sum())
