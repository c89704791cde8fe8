"""Images with the boxes of everybody in them, for training and judging person detectors."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from okdhp_edge.data import coco_annotation as read
from okdhp_edge.data.coco import read_content, select_split, to_key
from okdhp_edge.data.coco_files import find_annotation_files, is_divided
from okdhp_edge.data.coco_layout import ImageLocator, get_file_name
from okdhp_edge.data.image_file import ImageFile
from okdhp_edge.data.load import load, parse_split, read_annotations, split_off_suffix
from okdhp_edge.data.sample import PoseDataset, Sample, split_sources
from okdhp_edge.data.yolo import load_yolo_boxes
from okdhp_edge.errors import DataError
from okdhp_edge.pose.crop import Box
from okdhp_edge.pose.skeleton import Skeleton

PERSON = Skeleton("person", ("person",), ())
"""What a detector's network tells apart: one class."""
BOX_METRIC = "box_ap"
Boxes = NDArray[np.float64]
"""(N, 4) x, y, width, height in image pixels."""
_NO_BOXES = np.zeros((0, 4))


@dataclass(frozen=True)
class DetectionSample(Sample):
    """An image and the persons in it. Its own box is the whole image.

    Attributes:
        persons: (N, 4) boxes of everybody who is to be found.
        ignored: (M, 4) regions that may hold persons: neither to be found nor background.
    """

    persons: Boxes = field(default_factory=_NO_BOXES.copy)
    ignored: Boxes = field(default_factory=_NO_BOXES.copy)

    @property
    def image_name(self) -> str:
        """The sample is the image."""
        return self.id


def load_for(kind: str, source: str, split: str) -> PoseDataset:
    """Load what a kind of model is trained and judged on.

    Args:
        kind: `pose` or `detector`, as a recipe's `kind`.

    Raises:
        DataError: as `load` and `load_detection`.
    """
    return load_detection(source, split) if kind == "detector" else load(source, split)


def load_detection(source: str, split: str) -> PoseDataset:
    """Images with the boxes of their persons.

    Args:
        source: as of `data.load.load`; crowds of `coco:` are ignored regions, other formats have
            none. Sets after a comma are added to the training split.
        split: train, val, test or all, or a part such as `val[:300]`.

    Raises:
        DataError: as `load`; no image has a person.
    """
    first, *others = split_sources(source)
    samples = _load_part(first, split)
    if split.startswith(("train", "all")):
        samples += [s for other in others for s in _load_part(other, "all")]
    if not any(len(sample.persons) for sample in samples):
        raise DataError(f"{source} has no person boxes in split '{split}'", "check the annotations")
    return PoseDataset(source, split_off_suffix(first)[1] or split, PERSON, samples, BOX_METRIC)


def _load_part(source: str, split: str) -> list[DetectionSample]:
    place, named = split_off_suffix(source)
    kind, _, path = place.partition(":")
    wanted = named or split
    if kind == "yolo":
        images = [
            image
            for name, part in parse_split(wanted)
            for image in load_yolo_boxes(Path(path).expanduser(), name)[part]
        ]
        return [_make_sample(i.name, i.image, i.boxes, []) for i in images]
    if kind != "coco":
        escaped = place.replace(",", "\\,")
        return _group_by_image(read_annotations(escaped, wanted).samples)
    folder = Path(path).expanduser()
    return [s for name, part in parse_split(wanted) for s in _read_coco(folder, name)[part]]


def _group_by_image(samples: Iterable[Sample]) -> list[DetectionSample]:
    """The persons of each image together."""
    ordered = sorted(samples, key=lambda s: s.image_name)
    found = []
    for name, group in groupby(ordered, key=lambda s: s.image_name):
        persons = list(group)
        boxes = [s.box for s in persons if not s.is_negative]
        found.append(_make_sample(name, persons[0].image, boxes, []))
    return found


def _read_coco(path: Path, split: str) -> list[DetectionSample]:
    """Every image of a COCO set, those without persons too."""
    files = [file for file, _ in find_annotation_files(path, split)]
    found = [sample for file in files for sample in _read_coco_file(file, path)]
    return select_split(files[0], found, split) if is_divided(path, split) else found


def _read_coco_file(file: Path, path: Path) -> list[DetectionSample]:
    content = read_content(file)
    images = content.images
    people = {to_key(c.get("id")) for c in content.categories if read.is_person(c)}
    if content.categories and not people:
        names = ", ".join(str(c.get("name")) for c in content.categories)
        raise DataError(
            f"{file} has no category 'person', only {names}", "rename the one that means people"
        )
    by_image: dict[str, list[dict[str, Any]]] = {}
    for annotation in content.annotations:
        if not people or to_key(annotation.get("category_id")) in people:
            by_image.setdefault(to_key(annotation.get("image_id")), []).append(annotation)
    place = ImageLocator(file, path, images)
    found = []
    for image in images:
        name = get_file_name(image)
        if name is not None:
            entries = by_image.get(to_key(image.get("id")), [])
            found.append(_make_coco_sample(name, place, entries))
    return found


def _make_coco_sample(
    name: str, place: ImageLocator, annotations: list[dict[str, Any]]
) -> DetectionSample:
    boxes: dict[bool, list[Box]] = {True: [], False: []}
    for annotation in annotations:
        if read.is_negative(annotation):
            continue
        box = read.parse_numbers(annotation.get("bbox"), "bbox", name)
        if box.shape == (4,) and np.isfinite(box).all() and box[2:].min() > 0:
            boxes[read.is_crowd(annotation)].append(box)
    return _make_sample(name, ImageFile(place.of(name)), boxes[False], boxes[True])


def _make_sample(name: str, image: Any, persons: list[Box], ignored: list[Box]) -> DetectionSample:
    return DetectionSample(
        id=name, image=image, box=np.array([0.0, 0.0, 1.0, 1.0]),
        xy=np.zeros((1, 2), dtype=np.float32), labelled=np.array([bool(persons)]),
        absent=np.array([not persons]),
        persons=np.array(persons).reshape(-1, 4), ignored=np.array(ignored).reshape(-1, 4),
    )  # fmt: skip
