"""Convert annotation projects to a COCO file for `coco:FILE`, and data sets to pre-annotations."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from okdhp_edge.data.annotation_tools import (
    AnnotatedImage,
    AnnotatedPerson,
    AnnotationSet,
    Point,
    cvat,
    label_studio,
    sleap,
    supervisely,
)
from okdhp_edge.data.annotation_tools.coco_file import (
    CocoWriter,
    ImageFinder,
)
from okdhp_edge.data.coco_annotation import PERSON_CATEGORY
from okdhp_edge.data.coco_layout import make_portable_name
from okdhp_edge.data.image_file import read_image
from okdhp_edge.data.sample import PoseDataset, Sample
from okdhp_edge.data.yolo import find_yaml, is_yolo, load_yolo
from okdhp_edge.errors import DataError
from okdhp_edge.pose.skeleton import COCO17, canonicalize_names, mirror_name
from okdhp_edge.system.files import stage_folder

# Of width over height, between the image and the annotated size: rounding at most.
_MAX_STRETCH = 1.02


class AnnotationReader(NamedTuple):
    """A tool that is read.

    Attributes:
        recognizes: whether a path is this tool's.
        read: the annotations at a path; with the class that is wanted, where the format cannot be
            read class by class.
    """

    recognizes: Callable[[Path], bool]
    read: Callable[[Path, str | None], AnnotationSet]


@dataclass(frozen=True)
class ImportResult:
    """What an import gave.

    Attributes:
        notes: what was left out or changed, a sentence each.
    """

    file: Path
    images: int
    persons: int
    keypoints: tuple[str, ...]
    notes: tuple[str, ...]


def read_project(path: Path, tool: str | None, person_class: str | None) -> AnnotationSet:
    """Read a project of `tool`, or of the tool that recognizes it.

    Raises:
        DataError: it does not exist, no tool recognizes it, or it cannot be read.
    """
    if not path.exists():
        raise DataError(f"{path} does not exist", "pass the export of an annotation tool")
    if tool is None:
        tool = next((name for name, r in READERS.items() if r.recognizes(path)), None)
    if tool is None:
        raise DataError(
            f"cannot detect the annotation tool of {path}",
            f"set --tool to one of {', '.join(READERS)}; COCO files need no import",
        )
    if tool not in READERS:
        raise DataError(f"unknown annotation tool '{tool}'", f"use one of {', '.join(READERS)}")
    return READERS[tool].read(path, person_class)


def _read_yolo(path: Path, person_class: str | None) -> AnnotationSet:
    poses = load_yolo(path, "all", person_class)
    category = person_class or PERSON_CATEGORY
    images = list(_make_images(poses, find_yaml(path), category))
    return AnnotationSet(
        images, {category: poses.skeleton.joints}, poses.skeleton.limbs, poses.skeleton.twins,
        poses.notes,
    )  # fmt: skip


def import_annotations(
    path: Path, out: Path, *, tool: str | None = None, images: Path | None = None,
    person_class: str | None = None,
) -> ImportResult:  # fmt: skip
    """Write the persons of a project as a COCO file.

    Args:
        path: an exported file or folder.
        out: the JSON file; frames of videos are written to the folder `<stem>_images` next to it.
        tool: one of READERS; None recognizes it.
        images: the folder of the images; default: the export's own.
        person_class: the class that is read; default: `person`, else the most frequent one.

    Raises:
        DataError: the project cannot be read, or none of its images or persons can be used.
        OutputError: the place cannot be written.
    """
    project = read_project(path, tool, person_class)
    left_out: Counter[str] = Counter()
    category = _choose_category(project, person_class, left_out)
    keypoints = _choose_keypoints(project, category)
    frames = out.with_name(f"{out.stem}_images")
    _write_frames(project, frames)
    root = images or (path if path.is_dir() else path.parent)
    locate = ImageFinder(root, frames, project.images)
    coco = CocoWriter(out, keypoints, project.limbs, project.twins)
    for image in project.images:
        persons = [p for p in image.persons if p.category in ("", category)]
        labelled = [p for p in persons if any(v.visibility for v in p.points.values())]
        left_out["persons without labelled keypoints"] += len(persons) - len(labelled)
        if not labelled:
            continue
        file = locate(image)
        if file is None:
            left_out[f"missing images, such as {image.names[0]}"] += 1
            continue
        height, width = read_image(file).shape[:2]
        scale = (
            (1.0, 1.0) if image.size is None else (width / image.size[0], height / image.size[1])
        )
        if max(scale) > _MAX_STRETCH * min(scale):  # turned, or another image
            left_out["images of another aspect ratio than the annotated ones"] += 1
            continue
        if scale != (1.0, 1.0):
            left_out["images whose size differs from the annotated one: keypoints scaled"] += 1
        coco.add(file, (width, height), [_scale_person(person, scale) for person in labelled])
    notes = (*project.notes, *(f"{count} {what}" for what, count in (+left_out).items()))
    if not coco.annotations:
        raise DataError(
            f"no usable person in {path}" + "".join(f"; {note}" for note in notes),
            "check the export, and --images and --person-class",
        )
    coco.write()
    return ImportResult(out, len(coco.images), len(coco.annotations), tuple(keypoints), notes)


def _choose_category(project: AnnotationSet, wanted: str | None, left_out: Counter[str]) -> str:
    objects = [p for image in project.images for p in image.persons if p.points]
    counts = Counter(p.category for p in objects if p.category)
    if wanted is not None and wanted not in counts:
        raise DataError(
            f"no object of class '{wanted}' has keypoints",
            f"the classes are {', '.join(sorted(counts)) or 'none'}",
        )
    named = [c for c in counts if c.lower() == PERSON_CATEGORY]
    chosen = wanted or (
        named[0] if named else max(counts, key=lambda c: counts[c], default=PERSON_CATEGORY)
    )
    for other in sorted(counts.keys() - {chosen}):
        left_out[f"objects of class '{other}' left out"] += counts[other]
    return chosen


def _choose_keypoints(project: AnnotationSet, category: str) -> list[str]:
    """As declared. Where nothing is declared, those of COCO where no other is used, else those used
    and their other sides."""
    used = [name for image in project.images for p in image.persons
            if p.category in ("", category) for name in p.points]  # fmt: skip
    declared = list(project.keypoints.get(category, ()))
    names = list(dict.fromkeys([*declared, *used]))
    raw_names = dict(zip(canonicalize_names(names), names, strict=True)) if names else {}
    joints = list(raw_names)
    if raw_names.keys() <= set(COCO17.joints) and (not declared or len(names) == len(COCO17)):
        joints = list(COCO17.joints)
    elif not declared:
        joints += [twin for twin in map(mirror_name, joints) if twin not in raw_names]
    return [raw_names.get(joint, joint) for joint in joints]


def _scale_person(person: AnnotatedPerson, scale: tuple[float, float]) -> AnnotatedPerson:
    if scale == (1.0, 1.0):
        return person
    sx, sy = scale
    points = {
        name: Point((p.x + 0.5) * sx - 0.5, (p.y + 0.5) * sy - 0.5, p.visibility)
        for name, p in person.points.items()
    }
    box = None if person.box is None else person.box * np.array([sx, sy, sx, sy])
    return replace(person, points=points, box=box)


def _write_frames(project: AnnotationSet, folder: Path) -> None:
    """Write the images that have no file of their own, all or none."""
    frames = [image for image in project.images if image.read is not None and image.persons]
    if not frames:
        return
    with stage_folder(folder) as staging:
        for image in frames:
            assert image.read is not None
            encoded = cv2.imencode(".png", image.read())[1]
            (staging / image.names[0]).write_bytes(encoded.tobytes())


def export_pre_annotations(poses: PoseDataset, tool: str, out: Path) -> list[Path]:
    """Write a set for an annotation tool, to be corrected there.

    Args:
        poses: a set whose images are files.
        tool: one of WRITERS.
        out: the set's own file; the tool's files get its name with other suffixes.

    Returns:
        The files that were written.

    Raises:
        DataError: the tool is unknown.
        OutputError: a file cannot be written.
    """
    check_tool(tool)
    joints = poses.skeleton.joints
    images = list(_make_images(poses, out))
    return WRITERS[tool](
        AnnotationSet(images, {PERSON_CATEGORY: joints}, poses.skeleton.limbs), out
    )  # fmt: skip


READERS: dict[str, AnnotationReader] = {
    "label-studio": AnnotationReader(
        label_studio.is_label_studio, lambda path, _: label_studio.read_label_studio(path)
    ),
    "cvat": AnnotationReader(cvat.is_cvat, lambda path, _: cvat.read_cvat(path)),
    "supervisely": AnnotationReader(
        supervisely.is_supervisely, lambda path, _: supervisely.read_supervisely(path)
    ),
    "sleap": AnnotationReader(sleap.is_sleap, lambda path, _: sleap.read_sleap(path)),
    "deeplabcut": AnnotationReader(
        sleap.is_deeplabcut, lambda path, _: sleap.read_deeplabcut(path)
    ),
    "yolo": AnnotationReader(is_yolo, _read_yolo),
}
WRITERS: dict[str, Callable[[AnnotationSet, Path], list[Path]]] = {
    "label-studio": label_studio.write_label_studio,
    "cvat": cvat.write_cvat,
}


def check_tool(tool: str) -> None:
    """Raise a DataError for a tool that nothing is written for."""
    if tool not in WRITERS:
        raise DataError(f"no pre-annotations for '{tool}'", f"use one of {', '.join(WRITERS)}")


def _make_images(
    poses: PoseDataset, out: Path, category: str = PERSON_CATEGORY
) -> Iterator[AnnotatedImage]:
    by_image: dict[Any, list[Sample]] = {}
    for sample in poses.samples:
        if not sample.is_negative:
            by_image.setdefault(sample.image, []).append(sample)
    for image, samples in by_image.items():
        height, width = image.read().shape[:2]
        persons = [
            AnnotatedPerson(_make_points(sample, poses.skeleton.joints), sample.box, category)
            for sample in samples
        ]  # fmt: skip
        yield AnnotatedImage((make_portable_name(out, image.path),), persons, (width, height))


def _make_points(sample: Sample, joints: Sequence[str]) -> Mapping[str, Point]:
    return {
        joint: Point(float(x), float(y))
        for joint, (x, y), known in zip(joints, sample.xy, sample.labelled, strict=True)
        if known
    }
