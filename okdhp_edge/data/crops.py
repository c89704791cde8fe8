"""Write every person with a margin as a small image of its own, in COCO format.

A set of crops is a tenth of the images it comes from: it travels to a rented GPU, and an epoch
decodes no more than what it trains on.
"""

import json
import math
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from okdhp_edge.data.annotation_files import SPLITS_FOLDER, split_by_name
from okdhp_edge.data.coco_annotation import PERSON_BOX_AREA_RATIO, make_category
from okdhp_edge.data.load import load, split_off_suffix
from okdhp_edge.data.mask import PolygonMask
from okdhp_edge.data.sample import PoseDataset, Sample, split_sources
from okdhp_edge.errors import DataError, OutputError
from okdhp_edge.pose.crop import Box
from okdhp_edge.pose.preprocess import Image
from okdhp_edge.system.files import stage_folder

ANNOTATIONS = "annotations.json"
_QUALITY_FLAGS = {".webp": cv2.IMWRITE_WEBP_QUALITY, ".avif": cv2.IMWRITE_AVIF_QUALITY,
            ".jpg": cv2.IMWRITE_JPEG_QUALITY}  # fmt: skip
# Crops encoded ahead of the one that is written: enough for the threads, little memory.
_MAX_QUEUED_CROPS = 64


@dataclass(frozen=True)
class CropOptions:
    """How crops are cut.

    Attributes:
        side: pixels of the longer side of a person's box; smaller ones are not enlarged.
        crop_scale: side of the square around the box's centre, in longer sides of the box. Must
            hold what augmentation shows: the network's `box_padding` divided by the least scale,
            for boxes wider than the network's input times its longer over its shorter side.
        suffix: .webp, .avif or .jpg.
        quality: of the encoder, 1..100.
        threads: that encode.
    """

    side: int = 176
    crop_scale: float = 1.6
    suffix: str = ".webp"
    quality: int = 80
    threads: int = 2


def find_held_out_ids(data: str) -> dict[str, set[str]]:
    """The persons of a set's `val` and `test`; none of a split that it lacks, nor where `data`
    names its split itself."""
    if any(split_off_suffix(source)[1] for source in split_sources(data)):
        return {}
    found = {}
    for split in ("val", "test"):
        try:
            found[split] = {sample.id for sample in load(data, split).samples}
        except DataError:
            found[split] = set()
    return found


def write_crops(
    poses: PoseDataset,
    out: Path,
    options: CropOptions,
    report: Callable[[int], None],
    held_out: Mapping[str, Container[str]] = MappingProxyType({}),
) -> int:
    """Write `out/annotations.json` and an image for each person, or nothing; returns the bytes
    written. Crops that were there are replaced.

    Args:
        held_out: ids of the persons of `val` and of `test`, see `find_held_out_ids`; where either
            has none here, the crops are divided by the names of their images.

    Raises:
        DataError: an image cannot be read, or this OpenCV cannot write such images.
        OutputError: the place cannot be written.
    """
    if options.suffix not in _QUALITY_FLAGS:
        raise DataError(
            f"crops cannot be {options.suffix}", f"use --suffix {', '.join(_QUALITY_FLAGS)}"
        )
    if not cv2.haveImageWriter(f"x{options.suffix}"):
        raise DataError(f"OpenCV cannot write {options.suffix}", "choose another --suffix")
    if out.is_dir() and any(out.iterdir()) and not (out / ANNOTATIONS).is_file():
        raise OutputError(f"{out} contains files other than crops", "choose another folder")
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    written = 0
    with stage_folder(out) as folder:
        for number, (encoded, size, person) in enumerate(_encode_samples(poses, options), 1):
            name = f"{number:06d}{options.suffix}"
            (folder / name).write_bytes(encoded)
            written += len(encoded)
            images.append({"id": number, "file_name": name, "width": size[0], "height": size[1]})
            annotations.append(
                {"id": number, "image_id": number, "category_id": 1, "iscrowd": 0} | person
            )
            report(number)
        content = {"images": images, "annotations": annotations,
                   "categories": [make_category(poses.skeleton)]}  # fmt: skip
        text = json.dumps(content, separators=(",", ":")) + "\n"
        (folder / ANNOTATIONS).write_text(text, encoding="utf-8")
        names = [image["file_name"] for image in images]
        _write_splits(folder / SPLITS_FOLDER, poses, names, held_out)
    return written


def _write_splits(
    folder: Path, poses: PoseDataset, names: Sequence[str], held_out: Mapping[str, Container[str]]
) -> None:
    """Divide the crops as their set is divided: persons of one image stay together, and a model
    trained on the crops is not evaluated on persons that it was trained on."""
    folder.mkdir()
    crops = list(zip(names, poses.samples, strict=True))
    parts = {
        split: [name for name, sample in crops if sample.id in ids]
        for split, ids in held_out.items()
    }
    held = {name for part in parts.values() for name in part}
    rest = [crop for crop in crops if crop[0] not in held]
    # Where the set holds out nothing, or has no `val`, images are held out by their names.
    for split in [] if parts.get("val") else ["val"] if held else ["val", "test"]:
        chosen = split_by_name(rest, split, key=lambda crop: crop[1].image_name)
        parts[split] = [name for name, _ in chosen]
    others = {name for part in parts.values() for name in part}
    parts["train"] = [name for name in names if name not in others]
    parts = {split: kept for split, kept in parts.items() if kept}
    for split, kept in parts.items():
        text = "".join(f"{name}\n" for name in kept)
        (folder / f"{split}.txt").write_text(text, encoding="utf-8")


_Encoded = tuple[bytes, tuple[int, int], dict[str, Any]]


def _encode_samples(poses: PoseDataset, options: CropOptions) -> Iterator[_Encoded]:
    """In the set's order, made by threads that never run far ahead."""

    def encode(sample: Sample) -> _Encoded:
        image, x, y, scale = _cut(sample, options)
        parameters = [_QUALITY_FLAGS[options.suffix], options.quality]
        encoded = cv2.imencode(options.suffix, image, parameters)[1].tobytes()
        return encoded, image.shape[1::-1], _make_annotation(sample, x, y, scale)

    waiting = iter(poses.samples)
    with ThreadPoolExecutor(options.threads) as pool:
        queue = [pool.submit(encode, sample) for sample in islice(waiting, _MAX_QUEUED_CROPS)]
        while queue:
            yield queue.pop(0).result()
            queue += [pool.submit(encode, sample) for sample in islice(waiting, 1)]


def _cut(sample: Sample, options: CropOptions) -> tuple[Image, int, int, NDArray[np.float64]]:
    """The crop, where it lay in the image, and by how much it was scaled, x and y: to whole pixels,
    which differs a little."""
    image = sample.image.read()
    longest = max(float(sample.box[2:].max()), 1.0)
    low, high = _compute_bounds(sample.box, longest * options.crop_scale, image.shape[1::-1])
    cut = image[low[1] : high[1], low[0] : high[0]]
    scale = min(1.0, options.side / longest)
    if scale < 1:
        size = np.maximum(np.round((high - low) * scale), 1).astype(int)
        cut = np.asarray(cv2.resize(cut, size.tolist(), interpolation=cv2.INTER_AREA), np.uint8)
    return cut, int(low[0]), int(low[1]), np.array(cut.shape[1::-1]) / (high - low)


def _compute_bounds(
    box: Box, side: float, size: tuple[int, ...]
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """First pixel and last but one of the square around the box, within the image."""
    centre = box[:2] + box[2:] / 2
    last = np.array(size)
    low = np.clip(np.floor(centre - side / 2).astype(int), 0, last - 1)
    high = np.clip(np.ceil(centre + side / 2).astype(int), low + 1, last)
    return low, high


def _make_annotation(sample: Sample, x: int, y: int, scale: NDArray[np.float64]) -> dict[str, Any]:
    # Pixel centres lie at whole numbers.
    xy = (sample.xy - (x, y) + 0.5) * scale - 0.5
    known = sample.labelled.astype(int)
    rows = np.column_stack([np.round(xy, 1), 2 * np.ones(len(xy))]) * known[:, None]
    corner = (sample.box[:2] - (x, y) + 0.5) * scale - 0.5
    box = np.concatenate([corner, sample.box[2:] * scale])
    by_box = box[2] * box[3] * PERSON_BOX_AREA_RATIO
    area = sample.area * float(scale.prod()) if sample.area else by_box
    found: dict[str, Any] = {
        "bbox": np.round(box, 1).tolist(), "area": round(float(area), 1),
        "keypoints": [int(v) if v == int(v) else float(v) for v in rows.ravel()],
        "num_keypoints": int(known.sum()),
    }  # fmt: skip
    if sample.absent is not None:
        found["absent"] = sample.absent.astype(int).tolist()
    if sample.head_size is not None:
        found["head_size"] = round(sample.head_size * math.sqrt(scale.prod()), 2)
    if isinstance(sample.outline, PolygonMask):
        polygons = [(p - (x, y) + 0.5) * scale - 0.5 for p in sample.outline.polygons]
        found["segmentation"] = [np.round(p, 1).ravel().tolist() for p in polygons]
    if sample.spread is not None:
        found["keypoint_spreads"] = [round(float(value), 4) for value in sample.spread]
    return found
