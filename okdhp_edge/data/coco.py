"""COCO person keypoints, and any data set in COCO format with its own joints."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from okdhp_edge.data import coco_annotation as read
from okdhp_edge.data.annotation_files import SPLITS, SPLITS_FOLDER, read_json, split_by_name
from okdhp_edge.data.coco_files import find_annotation_files, is_divided
from okdhp_edge.data.coco_layout import ImageLocator, get_file_name
from okdhp_edge.data.image_file import ImageFile
from okdhp_edge.data.sample import PoseDataset, Sample, make_source
from okdhp_edge.errors import DataError
from okdhp_edge.pose.skeleton import Skeleton, skeleton_from_names
from okdhp_edge.system.reading import read_text

# A category without keypoint names (MPII-TRB and others) cannot be matched by name.
_UNNAMED_JOINT_FORMAT = "point_{}"
_JOINTS_PER_LIMB = 2
AnySample = TypeVar("AnySample", bound=Sample)


def load_coco(path: Path, split: str) -> PoseDataset:
    """Read a keypoints JSON, or a folder with `annotations/*keypoints*<split>*.json`, or one with
    a folder for each split (Roboflow).

    A file named by itself, or alone in its folder and of no split by its name, is divided 80/10/10
    by image name, unless `splits/<split>.txt` next to it lists file names, one a line. Crowds and
    persons without labelled joints are left out, and what is left out is counted in the notes.

    Raises:
        DataError: a file is missing or not what the format says.
    """
    files = [file for file, _ in find_annotation_files(path, split)]
    poses = _join_parts(_make_ids_unique([_load_file(file, path) for file in files]))
    samples = list(poses.samples)
    if is_divided(path, split):
        samples = select_split(files[0], samples, split)
    return replace(poses, split=split, samples=samples)


def _join_parts(parts: list[PoseDataset]) -> PoseDataset:
    first, *others = parts
    samples = [s for part in (first, *(o.with_skeleton(first.skeleton) for o in others))
               for s in part.samples]  # fmt: skip
    notes = tuple(dict.fromkeys(note for part in parts for note in part.notes))
    return replace(first, samples=samples, notes=notes)


def _make_ids_unique(parts: list[PoseDataset]) -> list[PoseDataset]:
    """Files of one folder may list images of one name: persons of later files get its number."""
    known: set[str] = set()
    unique = []
    for number, part in enumerate(parts, 1):
        ids = {sample.id for sample in part.samples}
        if ids & known:
            renamed = [
                replace(s, id=f"{s.image_name}#{number}:{s.id.rpartition('#')[2]}")
                for s in part.samples
            ]
            part = replace(part, samples=renamed)  # noqa: PLW2901
        known |= {sample.id for sample in part.samples}
        unique.append(part)
    return unique


class Content(NamedTuple):
    """A file's lists, each entry an object."""

    images: list[dict[str, Any]]
    annotations: list[dict[str, Any]]
    categories: list[dict[str, Any]]


def read_content(file: Path) -> Content:
    """A file's lists.

    Raises:
        DataError: it is not in COCO format.
    """
    content = read_json(file)
    if not isinstance(content, dict) or not {"images", "annotations"} <= content.keys():
        raise DataError(f"{file} is not in COCO format", "it needs `images` and `annotations`")
    lists = [content.get(key) or [] for key in Content._fields]
    for key, entries in zip(Content._fields, lists, strict=True):
        if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
            raise DataError(f"{file} is not in COCO format", f"`{key}` must be a list of objects")
    return Content(*lists)


def _load_file(file: Path, path: Path) -> PoseDataset:
    content = read_content(file)
    left_out: Counter[str] = Counter()
    persons = list(iterate_persons(content.annotations, left_out))
    category, persons = select_category(content.categories, persons, left_out)
    if not persons:
        raise DataError(
            f"{file} has no person with labelled keypoints",
            "check the file" + "".join(f"; {n} {what}" for what, n in left_out.items()),
        )
    skeleton = _make_skeleton(
        file, category, len(read.parse_keypoints(persons[0][1], persons[0][0]))
    )
    images = {to_key(i.get("id")): i for i in content.images}
    place = ImageLocator(file, path, images.values())
    samples = list(_iterate_samples(persons, images, place, skeleton, left_out))
    if not samples:
        raise DataError(
            f"{file} contains no usable person",
            "; ".join(_describe_left_out(left_out)) or "check it",
        )
    notes = [*_describe_left_out(left_out), *_collect_notes(skeleton, category)]
    return PoseDataset(make_source("coco", path), "all", skeleton, samples, "oks", tuple(notes))


def _describe_left_out(left_out: Counter[str]) -> list[str]:
    return [f"left out: {count} {what}" for what, count in left_out.items()]


def iterate_persons(
    annotations: Iterable[dict[str, Any]], left_out: Counter[str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Annotations with joints, each with its name: its id, or its place in the file."""
    for place, annotation in enumerate(annotations):
        name = str(annotation.get("id", f"number {place}"))
        points = read.parse_keypoints(annotation, name)
        if read.is_crowd(annotation):
            left_out["crowds"] += 1
        elif not (points[:, 2] > 0).any() and not read.is_negative(annotation):
            left_out["persons without labelled joints"] += 1
        else:
            yield name, annotation


def to_key(value: Any) -> str:
    """An id for look-ups: ids are numbers in one list and text in the other."""
    return str(value)


def select_category(
    categories: list[dict[str, Any]],
    persons: list[tuple[str, dict[str, Any]]],
    left_out: Counter[str],
) -> tuple[dict[str, Any], list[tuple[str, dict[str, Any]]]]:
    """The category that is used, and its annotations: `person` where there is one, else the one
    with the most."""
    by_id = {to_key(c.get("id")): c for c in categories}
    counts = Counter(to_key(a.get("category_id")) for _, a in persons)
    known = [key for key in counts if key in by_id]
    if not known:
        return (categories[0] if len(categories) == 1 else {}), persons
    named = [k for k in known if read.is_person(by_id[k])]
    chosen = named[0] if named else max(known, key=lambda k: counts[k])
    same = {k for k in known if by_id[k].get("keypoints") == by_id[chosen].get("keypoints")}
    for key in set(counts) - same:
        name = by_id[key].get("name", key) if key in by_id else key
        left_out[f"annotations of category '{name}'"] += counts[key]
    return by_id[chosen], [p for p in persons if to_key(p[1].get("category_id")) in same]


def _make_skeleton(file: Path, category: dict[str, Any], count: int) -> Skeleton:
    names = category.get("keypoints") or [_UNNAMED_JOINT_FORMAT.format(i) for i in range(count)]
    if not isinstance(names, list) or len(names) != count:
        named = len(names) if isinstance(names, list) else "no"
        raise DataError(
            f"{file} names {named} keypoints but has {count}", "fix `keypoints` in categories"
        )
    limbs = _parse_limbs(category.get("skeleton"), count)
    flip = category.get("flip_idx")
    if flip is not None and not _is_integer_list(flip):
        raise DataError(f"flip_idx of {file} is not a list of integers", "fix or remove it")
    return skeleton_from_names(file.stem, [str(n) for n in names], limbs, flip)


def _parse_limbs(pairs: Any, count: int) -> list[tuple[int, int]]:
    """0-based; they are only drawn, so that what is no pair of joints is left out."""
    listed = pairs if isinstance(pairs, list) else []
    found = [
        (p[0] - 1, p[1] - 1) for p in listed if _is_integer_list(p) and len(p) == _JOINTS_PER_LIMB
    ]
    return [limb for limb in found if all(0 <= end < count for end in limb)]


def _is_integer_list(value: Any) -> bool:
    return isinstance(value, list) and all(type(v) is int for v in value)


def _collect_notes(skeleton: Skeleton, category: dict[str, Any]) -> list[str]:
    if not category.get("keypoints"):
        return ["the joints have no names: they match no other set, and flipping swaps no joints"]
    if not skeleton.pairs:
        return ["no left/right joint pairs found: flipping swaps no joints"]
    return []


def _iterate_samples(
    persons: list[tuple[str, dict[str, Any]]],
    images: dict[str, dict[str, Any]],
    place: ImageLocator,
    skeleton: Skeleton,
    left_out: Counter[str],
) -> Iterator[Sample]:
    for name, annotation in persons:
        image = images.get(to_key(annotation.get("image_id")))
        file_name = None if image is None else get_file_name(image)
        if file_name is None:
            left_out["persons whose image is not listed"] += 1
            continue
        yield _make_sample(place, file_name, name, annotation, len(skeleton))


def _make_sample(
    place: ImageLocator, file_name: str, name: str, annotation: dict[str, Any], joints: int
) -> Sample:
    points = read.parse_keypoints(annotation, name)
    if len(points) != joints:
        raise DataError(
            f"annotation {name} has {len(points)} joints, not {joints}",
            "use the same joints for all persons",
        )
    labelled = points[:, 2] > 0
    box = read.parse_box(annotation, points[labelled, :2], name)
    return Sample(
        id=f"{file_name}#{name}",
        image=ImageFile(place.of(file_name)),
        box=box,
        # Exporters write NaN for what is not labelled.
        xy=np.where(labelled[:, None], points[:, :2], 0).astype(np.float32),
        labelled=labelled,
        absent=read.parse_absent(annotation, labelled, name),
        spread=read.parse_spread(annotation, joints, name),
        head_size=read.parse_head_size(annotation, name),
        area=read.parse_area(annotation, box, name),
        outline=read.parse_outline(annotation, name),
    )


def select_split(file: Path, samples: list[AnySample], split: str) -> list[AnySample]:
    """Those of a file that `splits/<split>.txt` next to it lists, or the split's share by name.

    Raises:
        DataError: the list cannot be read.
    """
    listing = file.parent / SPLITS_FOLDER / f"{split}.txt"
    if not listing.is_file():
        if any(listing.with_name(f"{other}.txt").is_file() for other in SPLITS[:-1]):
            # Shares by name would overlap with what the other list names.
            raise DataError(f"{listing} does not exist", "list the split's file names, one a line")
        return split_by_name(samples, split, key=lambda s: s.image_name)
    try:
        wanted = {line.strip() for line in read_text(listing).splitlines()}
    except (OSError, ValueError) as error:
        raise DataError(f"{listing} cannot be read ({error})", "save it as UTF-8") from error
    return [s for s in samples if s.image_name in wanted]
