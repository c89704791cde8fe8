"""The COCO file that an import writes: where its images lie, and its records."""

import json
import os.path
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from okdhp_edge.data.annotation_tools import AnnotatedImage, AnnotatedPerson
from okdhp_edge.data.coco_annotation import PERSON_BOX_AREA_RATIO, PERSON_CATEGORY, make_box_around
from okdhp_edge.data.coco_layout import make_portable_name
from okdhp_edge.data.image_file import IMAGE_SUFFIXES
from okdhp_edge.system.files import write_text


class ImageFinder:
    """Finds the file of an image: by its path below a folder, else by its bare name anywhere in it,
    if no other of the images has that name; images that have no file of their own lie in
    `frames`."""

    def __init__(self, root: Path, frames: Path, images: Iterable[AnnotatedImage]) -> None:
        self._root = root
        self._frames = frames
        self._uses = Counter(name for image in images for name in _list_bare_names(image.names))
        self._by_name: dict[str, list[Path]] | None = None

    def __call__(self, image: AnnotatedImage) -> Path | None:
        """The image's file; None where it is not there, or where several have its name."""
        if image.read is not None:
            return self._frames / image.names[0]
        path, *others = image.names or ("",)
        for name in [path, *(n for n in others if self._uses[Path(n).name] <= 1)]:
            for place in (self._root / name, self._root / "images" / name):
                if os.path.isfile(place):  # noqa: PTH113 - False for what no file system takes
                    return place
        return self._find_anywhere(image.names)

    def _find_anywhere(self, names: Sequence[str]) -> Path | None:
        if self._by_name is None:
            self._by_name = {}
            for file in self._root.rglob("*"):
                if file.suffix.lower() in IMAGE_SUFFIXES:
                    self._by_name.setdefault(file.name, []).append(file)
        bare = [name for name in _list_bare_names(names) if self._uses[name] <= 1]
        found = [self._by_name.get(name, []) for name in bare]
        return next((files[0] for files in found if len(files) == 1), None)


def _list_bare_names(names: Sequence[str]) -> Sequence[str]:
    """Each once, in order."""
    return list(dict.fromkeys(Path(name).name for name in names))


class CocoWriter:
    """Collects images and persons, and writes them as one COCO keypoints file."""

    def __init__(
        self,
        out: Path,
        keypoints: Sequence[str],
        limbs: Sequence[tuple[str, str]],
        twins: Sequence[tuple[str, str]] = (),
    ) -> None:
        self._out, self._keypoints = out, list(keypoints)
        self._flip = _make_flip_index(self._keypoints, twins)
        number = {name: index for index, name in enumerate(keypoints, 1)}
        self._limbs = [[number[a], number[b]] for a, b in limbs if {a, b} <= number.keys()]
        self.images: list[dict[str, Any]] = []
        self.annotations: list[dict[str, Any]] = []

    def add(self, file: Path, size: tuple[int, int], persons: Sequence[AnnotatedPerson]) -> None:
        """Add an image of (width, height) with its persons."""
        image_id = len(self.images) + 1
        self.images.append({"id": image_id, "file_name": make_portable_name(self._out, file),
                            "width": size[0], "height": size[1]})  # fmt: skip
        for person in persons:
            self.annotations.append(
                {"id": len(self.annotations) + 1, "image_id": image_id, "category_id": 1,
                 "iscrowd": 0} | _make_person_record(person, self._keypoints)
            )  # fmt: skip

    def write(self) -> None:
        """Write the file, whole or not at all."""
        category = {"id": 1, "name": PERSON_CATEGORY, "keypoints": self._keypoints,
                    "skeleton": self._limbs} | self._flip  # fmt: skip
        content = {"images": self.images, "annotations": self.annotations,
                   "categories": [category]}  # fmt: skip
        write_text(self._out, json.dumps(content) + "\n")


def _make_flip_index(
    keypoints: Sequence[str], twins: Sequence[tuple[str, str]]
) -> dict[str, list[int]]:
    """`flip_idx`, where the names alone do not tell the sides."""
    if not twins:
        return {}
    index = list(range(len(keypoints)))
    for a, b in twins:
        if {a, b} <= set(keypoints):
            first, second = keypoints.index(a), keypoints.index(b)
            index[first], index[second] = second, first
    return {"flip_idx": index}


def _make_person_record(person: AnnotatedPerson, keypoints: Sequence[str]) -> dict[str, Any]:
    points = [person.points.get(name) for name in keypoints]
    flat = [v for p in points for v in (p if p and p.visibility else (0, 0, 0))]
    xy = np.array([p[:2] for p in points if p and p.visibility])
    # Joints in one line have no extent: so small a person cannot be cropped.
    box = make_box_around(xy) if person.box is None else person.box
    return {"keypoints": flat, "num_keypoints": len(xy), "bbox": [float(v) for v in box],
            "area": float(box[2] * box[3]) * PERSON_BOX_AREA_RATIO}  # fmt: skip
