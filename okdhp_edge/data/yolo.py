"""YOLO pose: a `data.yaml`, images, and one text file of normalized coordinates per image.

https://docs.ultralytics.com/datasets/pose/ describes it: class, box centre and size, then x, y and
(with `kpt_shape: [K, 3]`) visibility of each joint, all but the visibility shares of the image.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from okdhp_edge.data.annotation_files import split_by_name
from okdhp_edge.data.coco_annotation import PERSON_BOX_AREA_RATIO, PERSON_CATEGORY
from okdhp_edge.data.image_file import ImageFile, read_image
from okdhp_edge.data.sample import PoseDataset, Sample, make_source
from okdhp_edge.data.yolo_layout import find_label_file, list_images
from okdhp_edge.errors import DataError
from okdhp_edge.pose.skeleton import COCO17, MAX_JOINTS, Skeleton, skeleton_from_names
from okdhp_edge.system.reading import read_text, read_yaml

_SPLITS = ("train", "val", "test")
_UNNAMED_JOINT_FORMAT = "point_{}"


class _Facts(NamedTuple):
    """What the YAML says."""

    root: Path
    folders: dict[str, list[Path]]
    joints: int
    values: int
    skeleton: Skeleton
    classes: dict[int, str]


def is_yolo(path: Path) -> bool:
    """Whether a path is a set's YAML, or its folder."""
    file = find_yaml(path)
    return file.suffix.lower() in (".yaml", ".yml") and file.is_file()


def find_yaml(path: Path) -> Path:
    """`data.yaml` of a folder, or the file itself."""
    return path / "data.yaml" if path.is_dir() else path


def load_yolo(path: Path, split: str, person_class: str | None = None) -> PoseDataset:
    """Read a data set given by its `data.yaml`, or by the folder that holds it.

    A set that names only `train` is divided 80/10/10 by image name.

    Args:
        person_class: name or number of the class that is read; default: `person`, else the most
            frequent one.

    Raises:
        DataError: a file is missing or not what the format says, or no row is of that class.
    """
    file = find_yaml(path)
    facts = _read_facts(file)
    left_out: Counter[str] = Counter()
    places, is_divided = _choose_places(file, facts, split)
    labelled = list(_read_labelled(facts, places, left_out))
    rows = [row for found in labelled for row in found.rows]
    persons = _choose_person_class(facts, rows, person_class, left_out)
    samples = [s for found in labelled for s in _make_samples(facts, found, persons, left_out)]
    if is_divided:
        samples = split_by_name(samples, split, key=lambda s: s.image_name)
    notes = [f"left out: {count} {what}" for what, count in left_out.items()]
    if not facts.skeleton.pairs:
        notes.append("no left/right joint pairs found: flipping swaps no joints")
    return PoseDataset(
        make_source("yolo", path), split, facts.skeleton, samples, "oks", tuple(notes)
    )


class YoloImage(NamedTuple):
    """An image and the boxes (x, y, width, height) of its persons, whatever is known of joints."""

    name: str
    image: ImageFile
    boxes: list[NDArray[np.float64]]


def load_yolo_boxes(path: Path, split: str) -> list[YoloImage]:
    """Every image of a set and its persons' boxes; one without a text file shows nobody, as
    Ultralytics has it.

    Raises:
        DataError: as `load_yolo`.
    """
    file = find_yaml(path)
    facts = _read_facts(file)
    places, is_divided = _choose_places(file, facts, split)
    read = [
        (image, _read_rows(facts, labels) if (labels := find_label_file(image)).is_file() else [])
        for place in places
        for image in list_images(place)
        if image.is_file()
    ]
    person = _choose_person_class(facts, [row for _, rows in read for row in rows], None, Counter())
    found = [
        YoloImage(_make_name(facts, image), ImageFile(image), _scale_boxes(image, rows, person))
        for image, rows in read
    ]
    return split_by_name(found, split, key=lambda i: i.name) if is_divided else found


def _choose_places(file: Path, facts: _Facts, split: str) -> tuple[list[Path], bool]:
    """The folders or lists of a split, and whether their images are to be divided."""
    named = [s for s in _SPLITS if facts.folders.get(s)]
    if split != "all" and split not in named and named != ["train"]:
        raise DataError(
            f"{file} names no '{split}', only {', '.join(named)}",
            f"add `{split}:` to it, or select an existing split: KIND:PATH@SPLIT",
        )
    wanted = [split] if split in named else named
    is_divided = split != "all" and named == ["train"]
    return [place for part in wanted for place in facts.folders[part]], is_divided


def _scale_boxes(image: Path, rows: list[np.ndarray], person: int) -> list[NDArray[np.float64]]:
    scale = np.array(read_image(image).shape[1::-1], dtype=np.float64)  # turned by EXIF
    shares = [row[1:5] for row in rows if int(row[0]) == person]
    return [
        np.concatenate([(row[:2] - row[2:] / 2) * scale, row[2:] * scale])
        for row in shares
        if row[2:].min() > 0
    ]


def _make_name(facts: _Facts, image: Path) -> str:
    name = image.relative_to(facts.root) if image.is_relative_to(facts.root) else image
    return name.as_posix()


def _read_facts(file: Path) -> _Facts:
    try:
        content = read_yaml(file)
    except FileNotFoundError:
        raise DataError(f"{file} does not exist", _explain_missing_yaml(file.parent)) from None
    except (OSError, ValueError) as error:
        text = " ".join(str(error).split())[:120]
        raise DataError(f"{file} is not valid YAML ({text})", "fix it") from error
    shape = content.get("kpt_shape") if isinstance(content, dict) else None
    if (
        not isinstance(shape, list) or len(shape) != 2
        or not all(isinstance(v, int) for v in shape)
        or not 1 <= shape[0] <= MAX_JOINTS or shape[1] not in (2, 3)
    ):  # fmt: skip
        raise DataError(
            f"{file} has no `kpt_shape` of [joints, 2 or 3]",
            "point yolo: to the YAML of a pose data set",
        )
    root = Path(str(content.get("path") or "."))
    root = root if root.is_absolute() and root.is_dir() else file.parent / root
    if not root.is_dir():
        root = file.parent
    folders = {split: _find_places(file, root, content.get(split)) for split in _SPLITS}
    if not any(folders.values()):
        raise DataError(f"{file} lists no images", "it needs `train:` and `val:`")
    skeleton = _make_skeleton(file, content, shape[0])
    return _Facts(root, folders, shape[0], shape[1], skeleton, _parse_classes(content.get("names")))


def _explain_missing_yaml(folder: Path) -> str:
    """Label Studio exports labels without it."""
    if not (folder / "notes.json").is_file():
        return "point yolo: to data.yaml"
    return (
        "write it: `path: .`, `train: images`, `kpt_shape: [K, 3]`, `names: {0: person}` "
        "(notes.json has the names)"
    )


def _parse_classes(names: Any) -> dict[int, str]:
    """By number, from a list or a table."""
    listed = dict(enumerate(names)) if isinstance(names, list) else names
    if not isinstance(listed, dict):
        return {}
    return {k: str(v) for k, v in listed.items() if isinstance(k, int)}


def _find_places(file: Path, root: Path, value: Any) -> list[Path]:
    """The folders or lists of one split. Roboflow writes `../train/images` for `train/images`."""
    texts = value if isinstance(value, list) else [value] if isinstance(value, str) else []
    places = []
    for text in map(str, texts):
        tries = [root / text, file.parent / text, file.parent / text.lstrip("./")]
        found = next((place for place in tries if place.exists()), None)
        if found is None:
            raise DataError(f"{file} names {text}, which does not exist", "fix the YAML")
        places.append(found)
    return places


def _make_skeleton(file: Path, content: dict[str, Any], joints: int) -> Skeleton:
    flip = content.get("flip_idx")
    if flip is not None and not (isinstance(flip, list) and all(isinstance(v, int) for v in flip)):
        raise DataError(f"{file}: `flip_idx` is not a list of numbers", "fix it")
    names = content.get("kpt_names") or content.get("keypoints")
    if isinstance(names, dict):
        names = next(iter(names.values()), None)
    if isinstance(names, list) and len(names) == joints:
        return skeleton_from_names(file.parent.name, [str(n) for n in names], (), flip)
    if names is not None:
        raise DataError(f"{file} does not name {joints} joints", "fix `kpt_names`")
    if joints == len(COCO17) and flip in (None, COCO17.flip_index.tolist()):
        return COCO17
    unnamed = [_UNNAMED_JOINT_FORMAT.format(i) for i in range(joints)]
    return skeleton_from_names(file.parent.name, unnamed, (), flip)


class _Labelled(NamedTuple):
    """An image and the rows of its text file."""

    image: Path
    rows: list[np.ndarray]


def _read_labelled(
    facts: _Facts, places: list[Path], left_out: Counter[str]
) -> Iterator[_Labelled]:
    for place in places:
        for image in list_images(place):
            labels = find_label_file(image)
            if not labels.is_file():
                left_out["images without labels"] += 1
                continue
            rows = _read_rows(facts, labels)
            if not rows:
                left_out["images without persons"] += 1
            elif not image.is_file():
                left_out[f"missing images, such as {image.name}"] += 1
            else:
                yield _Labelled(image, rows)


def _choose_person_class(
    facts: _Facts, rows: list[np.ndarray], wanted: str | None, left_out: Counter[str]
) -> int:
    """The class that is wanted, else the one called `person`, else the most frequent one; the
    others are counted."""
    counts = Counter(int(row[0]) for row in rows)
    name = (wanted or PERSON_CATEGORY).lower()
    named = [k for k in counts if name in (facts.classes.get(k, "").lower(), str(k))]
    if wanted and not named:
        names = ", ".join(facts.classes.get(k, str(k)) for k in sorted(counts))
        raise DataError(f"no row of class '{wanted}'", f"the classes are {names or 'none'}")
    chosen = named[0] if named else max(counts, key=lambda k: counts[k], default=0)
    for other in sorted(counts.keys() - {chosen}):
        name = facts.classes.get(other, str(other))
        left_out[f"rows of class '{name}'"] += counts[other]
    return chosen


def _make_samples(
    facts: _Facts, found: _Labelled, person_class: int, left_out: Counter[str]
) -> Iterator[Sample]:
    image, rows = found
    scale = np.array(read_image(image).shape[1::-1], dtype=np.float64)  # turned by EXIF
    name = _make_name(facts, image)
    for number, row in enumerate(rows):
        if int(row[0]) != person_class:
            continue
        centre, size = row[1:3] * scale, row[3:5] * scale
        points = row[5:].reshape(facts.joints, facts.values)
        # Without visibility Ultralytics takes (0, 0) for a joint that is not labelled.
        known = np.asarray(points[:, 2] > 0 if facts.values == 3 else (points > 0).any(axis=1))
        if not known.any():
            left_out["persons without labelled joints"] += 1
            continue
        box = np.concatenate([centre - size / 2, size])
        yield Sample(
            id=f"{name}#{number}", image=ImageFile(image), box=box,
            # Shares count from the edge of the first pixel, our pixels from its centre.
            xy=(points[:, :2] * scale - 0.5).astype(np.float32), labelled=known,
            area=float(size.prod()) * PERSON_BOX_AREA_RATIO,
        )  # fmt: skip


def _read_rows(facts: _Facts, labels: Path) -> list[np.ndarray]:
    count = 5 + facts.joints * facts.values
    rows = []
    try:
        for number, line in enumerate(read_text(labels).splitlines(), start=1):
            if not line.strip():
                continue
            row = np.array([float(word) for word in line.split()])
            if len(row) != count or not np.isfinite(row).all():
                raise DataError(
                    f"{labels}, line {number}: {len(row)} numbers, not {count}",
                    "each line needs class, box and joints as given by `kpt_shape`",
                )
            rows.append(row)
    except (OSError, ValueError) as error:
        raise DataError(f"invalid YOLO labels {labels} ({error})", "fix or remove it") from error
    return rows
