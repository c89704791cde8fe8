"""Calibration data: real crops with the inference preprocessing."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from okdhp_edge.artifacts.card import Calibration, DecoderSpec, InputSpec
from okdhp_edge.data.detection import DetectionSample, load_for
from okdhp_edge.data.frames import unlabelled
from okdhp_edge.data.load import DATASET_LOADERS
from okdhp_edge.data.sample import PoseDataset, Sample, list_kinds
from okdhp_edge.errors import DataError
from okdhp_edge.evaluation.evaluate import make_inference_crop
from okdhp_edge.system.reading import read_text

DEFAULT_NUM_SAMPLES = 300
_MIN_SAMPLES = 16
_SEED = 20240
_UNLABELLED_FORMATS = ("folder", "video")


class CalibrationSet:
    """Crops to calibrate on; can be iterated any number of times, one crop in memory at a time."""

    def __init__(
        self, samples: Sequence[Sample], kind: str, spec: InputSpec, decoder: DecoderSpec
    ) -> None:
        self._samples = samples
        self._kind = kind
        self._spec = spec
        self._decoder = decoder

    def __len__(self) -> int:
        return len(self._samples)

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        """(1, H, W, 3) uint8 BGR."""
        for sample in self._samples:
            yield make_inference_crop(sample, self._spec, self._decoder.stride).image[None]

    def facts(self, method: str) -> Calibration:
        """What the card says of it."""
        return Calibration(
            data=self._kind, samples=len(self), method=method,
            list_sha256=hashlib.sha256(self.format_ids().rstrip("\n").encode()).hexdigest(),
        )  # fmt: skip

    def format_ids(self) -> str:
        """One sample id a line, as `--calibration` reads it."""
        return "".join(f"{s.id}\n" for s in self._samples)


def load_calibration_set(
    data: str, wanted: str | None, spec: InputSpec, decoder: DecoderSpec
) -> CalibrationSet:
    """At best 300 crops of the persons the model will see.

    Args:
        data: KIND:PATH of the training data.
        wanted: None: a fixed draw from the training split of `data`; a file with one sample id
            of that split a line (see calibration/README.md); KIND:PATH: a fixed draw from other
            data; `folder:DIR` or `video:FILE`: whole images, without labels.

    Raises:
        DataError: ids that the training split lacks, unreadable images, or too few.
    """
    kind, _, path = (wanted or data).partition(":")
    if wanted and kind in _UNLABELLED_FORMATS:
        samples = unlabelled(kind, Path(path).expanduser(), DEFAULT_NUM_SAMPLES)
        if decoder.model_kind == "detector":  # which is shown images in another way than crops
            samples = [DetectionSample(**vars(sample)) for sample in samples]
    elif wanted and kind not in DATASET_LOADERS:
        kind = list_kinds(data)
        samples = (
            load_for(decoder.model_kind, data, "train")
            .select_by_ids(_read_list(Path(wanted)))
            .samples
        )
    else:
        kind = list_kinds(wanted or data)
        samples = _draw_samples(load_for(decoder.model_kind, wanted or data, "train"))
    if len(samples) < _MIN_SAMPLES:
        raise DataError(
            f"only {len(samples)} samples to calibrate on",
            f"use at least {_MIN_SAMPLES}, better 300",
        )
    return CalibrationSet(samples, kind, spec, decoder)


def _read_list(path: Path) -> list[str]:
    try:
        lines = read_text(path).splitlines()
    except (OSError, ValueError) as error:
        formats = ", ".join((*DATASET_LOADERS, *_UNLABELLED_FORMATS))
        raise DataError(
            f"{path} cannot be read ({error})",
            f"pass a list to --calibration, or FORMAT:PATH of {formats}",
        ) from error
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def _draw_samples(train: PoseDataset) -> Sequence[Sample]:
    """300 of the better labelled half: ranges should come from whole people."""
    by_labels = sorted(train.samples, key=_count_labelled, reverse=True)
    half = by_labels[: max(len(by_labels) // 2, DEFAULT_NUM_SAMPLES)]
    rng = np.random.default_rng(_SEED)
    chosen = rng.choice(len(half), size=min(DEFAULT_NUM_SAMPLES, len(half)), replace=False)
    return [half[i] for i in sorted(chosen)]


def _count_labelled(sample: Sample) -> int:
    return int(sample.labelled.sum())
