"""Person boxes from annotation files or from a detector.

Beside an image, or in a folder `labels`, `Annotations` or `XMLAnnotations` next to its own, lies
its VOC XML or YOLO text; a COCO JSON names many images.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path, PurePath, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
from defusedxml.ElementTree import ParseError, fromstring
from numpy.typing import NDArray

from okdhp_edge.data.annotation_files import read_json
from okdhp_edge.data.coco import to_key
from okdhp_edge.data.coco_annotation import PERSON_CATEGORY, is_crowd
from okdhp_edge.data.coco_layout import get_file_name
from okdhp_edge.errors import DataError
from okdhp_edge.pose.crop import Box
from okdhp_edge.pose.preprocess import Image
from okdhp_edge.system.reading import is_count, read_text

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

BOX_FILE_FOLDERS = ("", "../labels", "../Annotations", "../annotations", "../XMLAnnotations")
# A box smaller than this has nobody in it whose joints could be told.
_MIN_BOX_SIDE_PX = 2.0


BoxFinder = Callable[[Path, Image], list[Box] | None]
"""Boxes (x, y, width, height) of the persons in an image; None where no file says."""


def make_sidecar_reader(person_class: str) -> BoxFinder:
    """A reader of VOC XML and YOLO text.

    Args:
        person_class: name of the class in VOC files (`person`), or its number in YOLO's (`0`).
            Digits select YOLO's class; VOC files then take `person`.
    """
    number = person_class if is_count(person_class) else "0"
    name = "person" if is_count(person_class) else person_class

    def find(path: Path, image: Image) -> list[Box] | None:
        for folder in BOX_FILE_FOLDERS:
            xml = path.parent / folder / f"{path.stem}.xml"
            if xml.is_file():
                return read_voc_boxes(xml, name)
            text = path.parent / folder / f"{path.stem}.txt"
            if text.is_file():
                return read_yolo_boxes(text, number, image.shape[1], image.shape[0])
        return None

    return find


def read_voc_boxes(file: Path, name: str) -> list[Box]:
    """The boxes of one class in a PASCAL VOC file.

    Raises:
        DataError: it is no such file.
    """
    try:
        text = read_text(file)
        root = fromstring(text)
        return _filter_boxes(
            [
                _parse_voc_box(box)
                for thing in root.iter("object")
                if (thing.findtext("name") or "").strip() == name
                for box in thing.findall("bndbox")
            ]
        )
    except (OSError, ParseError, ValueError) as error:
        raise DataError(f"{file} is not a VOC file ({error})", "fix or remove it") from error


def _parse_voc_box(box: "Element") -> list[float]:
    left, top, right, bottom = (
        float(box.findtext(k) or "nan") for k in ("xmin", "ymin", "xmax", "ymax")
    )
    return [left, top, right - left, bottom - top]


def read_yolo_boxes(file: Path, number: str, width: int, height: int) -> list[Box]:
    """The boxes of one class in a YOLO text file: class, then centre and size as shares. Longer
    rows have keypoints after the box, or are outlines, whose extent is the box.

    Raises:
        DataError: it is no such file.
    """
    scale = np.array([width, height], dtype=np.float64)
    found = []
    try:
        for row in read_text(file).splitlines():
            kind, *numbers = row.split() or [""]
            if kind != number:
                continue
            found.append(_parse_yolo_row(np.array([float(v) for v in numbers])))
    except (OSError, ValueError) as error:
        raise DataError(f"{file} is not a YOLO box file ({error})", "fix or remove it") from error
    return _filter_boxes([box * np.tile(scale, 2) for box in found])


def _parse_yolo_row(values: NDArray[np.float64]) -> Box:
    """Left, top, width and height of one row, as shares of the image."""
    if len(values) == 4 or _has_keypoints(values):
        values = values[:4]
        return np.concatenate([values[:2] - values[2:] / 2, values[2:]])
    if len(values) < 6 or len(values) % 2:
        raise ValueError(f"{len(values)} numbers in a row")
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError("an outline has numbers beyond 0..1; are these keypoints?")
    points = values.reshape(-1, 2)
    low = points.min(axis=0)
    return np.concatenate([low, points.max(axis=0) - low])


def _has_keypoints(values: NDArray[np.float64]) -> bool:
    """Whether the first four numbers are a box around the points that follow, with or without
    visibilities; points at the origin are not labelled."""
    low, high = values[:2] - values[2:4] / 2, values[:2] + values[2:4] / 2
    for numbers_per_point in (3, 2):
        if len(values) <= 4 or (len(values) - 4) % numbers_per_point:
            continue
        points = values[4:].reshape(-1, numbers_per_point)[:, :2]
        points = points[points.any(axis=1)]
        if len(points) and ((points >= low - 1e-3) & (points <= high + 1e-3)).all():
            return True
    return False


def make_coco_reader(file: Path, person_class: str = PERSON_CATEGORY) -> BoxFinder:
    """A reader of a COCO JSON: boxes of a category, or of all where the file names no categories.

    Raises:
        DataError: it is no such file, or has other categories.
    """
    content = read_json(file)
    try:
        categories = content.get("categories", [])
        people = {to_key(c["id"]) for c in categories
                  if str(c.get("name", "")).lower() == person_class.lower()}  # fmt: skip
        if categories and not people:
            raise DataError(
                f"{file} has no category '{person_class}'",
                f"give --person-class; it has {', '.join(str(c.get('name')) for c in categories)}",
            )
        by_id: dict[str, list[Box]] = {}
        for annotation in content["annotations"]:
            wanted = not people or to_key(annotation.get("category_id")) in people
            if wanted and not is_crowd(annotation):
                by_id.setdefault(to_key(annotation["image_id"]), []).extend(
                    _filter_boxes([annotation["bbox"]])
                )
        by_name = {
            name: by_id.get(to_key(image["id"]), [])
            for image in content["images"]
            if (name := get_file_name(image)) is not None
        }
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{file} is not in COCO format ({error!r})", "fix it") from error
    bare = Counter(PurePosixPath(name).name for name in by_name)
    by_bare = {PurePosixPath(name).name: boxes for name, boxes in by_name.items()}

    def find(path: Path, image: Image) -> list[Box] | None:  # noqa: ARG001
        parts = path.parts
        for first in range(len(parts)):
            if (found := by_name.get(PurePath(*parts[first:]).as_posix())) is not None:
                return found
        return by_bare[path.name] if bare[path.name] == 1 else None

    return find


def _filter_boxes(boxes: Iterable[Iterable[float]]) -> list[Box]:
    arrays = [np.array(list(box), dtype=np.float64) for box in boxes]
    return [
        b
        for b in arrays
        if b.shape == (4,) and np.isfinite(b).all() and b[2:].min() >= _MIN_BOX_SIDE_PX
    ]


def compute_coverage(box: Box, other: Box) -> float:
    """The share of `box` that `other` covers."""
    low, high = np.maximum(box[:2], other[:2]), np.minimum(box[:2] + box[2:], other[:2] + other[2:])
    return float(np.prod(np.clip(high - low, 0, None)) / max(math.prod(box[2:]), 1e-9))
