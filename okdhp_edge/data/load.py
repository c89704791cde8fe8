"""Load `KIND:PATH` data: the table of formats, and the validation of annotations."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from okdhp_edge.data.annotation_files import SPLITS
from okdhp_edge.data.coco import load_coco
from okdhp_edge.data.image_file import ImageFile
from okdhp_edge.data.lspet import load_lspet
from okdhp_edge.data.mpii import load_mpii
from okdhp_edge.data.sample import PoseDataset, Sample, list_kinds, split_sources
from okdhp_edge.data.synthetic import load_synthetic
from okdhp_edge.data.yolo import load_yolo
from okdhp_edge.errors import DataError

DATASET_LOADERS: dict[str, Callable[[Path, str], PoseDataset]] = {
    "lspet": load_lspet,
    "coco": load_coco,
    "yolo": load_yolo,
    "mpii": load_mpii,
    "synthetic": load_synthetic,
}

_TRAIN_SPLIT, _ALL_SPLIT = "train", "all"
_SPLIT_PATTERN = re.compile(r"(?P<split>[a-z]+)(\[(?P<start>-?\d+)?:(?P<stop>-?\d+)?\])?")


@dataclass(frozen=True)
class Problem:
    """A problem of one sample. Samples with fatal problems cannot be trained on."""

    sample: str
    what: str
    fatal: bool


def read_annotations(source: str, split: str) -> PoseDataset:
    """Samples as the files have them, unchecked.

    Args:
        source: `lspet:DIR`, `coco:FILE|DIR`, `yolo:FILE|DIR`, `mpii:FILE|DIR`, `synthetic` or
            `synthetic:COUNT`; or several with commas between: the first is the set, its joints and
            its splits, all persons of the others, or of their split named as in
            `lspet:DIR@train`, are added to what it has to train on, and to `all`. Joints are
            matched by name, those that a set lacks count as unlabelled. A comma in a path is
            written `\\,`. A split named behind an @
            holds whatever is asked for: `coco:DIR@all` is all of it, to evaluate on too.
        split: train, val, test or all; with a part of it in samples, as in `train[:3000]`, and
            sums of such, as in `train[-3000:]+test` (the notation of Hugging Face datasets).

    Raises:
        DataError: unknown kind or split, unreadable files.
    """
    named, *more = split_sources(source)
    first, own = split_off_suffix(named)
    poses = _load_source(first, own or split)
    if not more or not any(
        part.startswith((_TRAIN_SPLIT, _ALL_SPLIT)) for part in split.split("+")
    ):
        return poses
    parts = [split_off_suffix(other) for other in more]
    added = [
        _load_source(part, own or _ALL_SPLIT).with_skeleton(poses.skeleton) for part, own in parts
    ]
    places = list(dict.fromkeys(other.source for other in added))  # one that is named twice is one
    names = [f"{list_kinds(place)}{index or ''}" for index, place in enumerate(places)]
    samples = [
        replace(sample, id=f"{names[places.index(other.source)]}:{sample.id}")
        for other in added
        for sample in other.samples
        if sample.labelled.any() or sample.is_negative  # a face alone has none of a body's joints
    ]
    notes = poses.notes + tuple(note for other in added for note in other.notes)
    return replace(poses, source=source, samples=[*poses.samples, *samples], notes=notes)


def split_off_suffix(source: str) -> tuple[str, str | None]:
    """`KIND:PATH@SPLIT` taken apart; None where no split is named."""
    place, _, split = source.rpartition("@")
    match = _SPLIT_PATTERN.fullmatch(split)
    return (place, split) if place and match and match["split"] in SPLITS else (source, None)


def _load_source(source: str, split: str) -> PoseDataset:
    kind, _, path = source.partition(":")
    if kind not in DATASET_LOADERS:
        if "+" in kind:  # as cards of shipped weights tell what they were trained on
            raise DataError("the location of the training data is unknown", "pass --data KIND:PATH")
        raise DataError(
            f"unknown data format '{kind}'", f"use one of {', '.join(DATASET_LOADERS)} as KIND:PATH"
        )
    if kind != "synthetic" and not path:
        raise DataError(f"data '{source}' has no path", f"write {kind}:PATH")
    parts = [
        (DATASET_LOADERS[kind](Path(path).expanduser(), name), part)
        for name, part in parse_split(split)
    ]
    samples = [sample for poses, part in parts for sample in poses.samples[part]]
    return replace(parts[0][0], split=split, samples=samples)


def parse_split(text: str) -> list[tuple[str, slice]]:
    """The names of `train[-3000:]+test`, each with its part in samples.

    Raises:
        DataError: a name is no split's, or a part is none.
    """
    found = []
    for part in text.split("+"):
        match = _SPLIT_PATTERN.fullmatch(part)
        if not match or match["split"] not in SPLITS:
            raise DataError(
                f"unknown split '{part}'",
                f"use one of {', '.join(SPLITS)}, a part such as 'train[:3000]', or a sum with '+'",
            )
        start, stop = (int(match[end]) if match[end] else None for end in ("start", "stop"))
        found.append((match["split"], slice(start, stop)))
    return found


def load(source: str, split: str) -> PoseDataset:
    """Samples that can be trained and evaluated on.

    Raises:
        DataError: as `read_annotations`; an empty split; any fatal problem, with the first named.
    """
    poses = read_annotations(source, split)
    if not poses.samples:
        raise DataError(f"{source} has no samples in split '{split}'", "check the annotations")
    fatal = [p for p in find_problems(poses.samples) if p.fatal]
    if fatal:
        raise DataError(
            f"{source} ({split}): {fatal[0].what} in sample '{fatal[0].sample}'"
            + (f" and {len(fatal) - 1} more" if len(fatal) > 1 else ""),
            f"fix or remove them; `okdhp-edge data check --data {source}` lists all",
        )
    return poses


def find_problems(samples: Sequence[Sample]) -> list[Problem]:
    """What is wrong with samples, as far as their annotations and file names tell."""
    return [Problem(s.id, what, fatal=True) for s in samples for what in _find_faults(s)]


def _find_faults(sample: Sample) -> list[str]:
    faults = []
    if not np.isfinite(sample.xy[sample.labelled]).all():
        faults.append("a labelled joint with NaN or infinite coordinates")
    if not np.isfinite(sample.box).all() or (sample.box[2:] <= 0).any():
        faults.append(f"an empty box {np.round(sample.box, 1).tolist()}")
    if not sample.labelled.any() and not sample.is_negative:
        faults.append("no labelled joint")
    if isinstance(sample.image, ImageFile) and not sample.image.path.is_file():
        faults.append(f"missing image {sample.image.path}")
    return faults
