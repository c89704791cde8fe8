"""Which annotation file of a COCO folder holds a split."""

import re
from collections.abc import Sequence
from pathlib import Path

from okdhp_edge.data.annotation_files import SPLITS
from okdhp_edge.errors import DataError

# Roboflow's folders are named by split, its files alike.
_ROBOFLOW_FILE_NAME = "_annotations.coco.json"
_SPLIT_WORDS = {
    "train": {"train", "training", "trainset"},
    "val": {"val", "valid", "validation", "valset", "minival"},
    "test": {"test", "testing", "testset"},
}  # fmt: skip
_SPLIT_FOLDERS = {"train": ("train",), "val": ("valid", "val"), "test": ("test",)}


def is_divided(path: Path, split: str) -> bool:
    """Whether a split is a part of the one file there, and not a file of its own."""
    return split != "all" and any(divided for _, divided in find_annotation_files(path, split))


def find_annotation_files(path: Path, split: str) -> list[tuple[Path, bool]]:
    """The files that a split is read from, each with whether it has to be divided.

    Raises:
        DataError: there is none.
    """
    if path.is_file():
        return [(path, True)]
    by_split = _find_files_by_folder(path)
    if by_split:
        wanted = by_split if split == "all" else {split: by_split.get(split)}
        files = [file for file in wanted.values() if file]
        if files:
            return [(file, False) for file in files]
        raise DataError(
            f"{path} has no folder for split '{split}', only {', '.join(by_split)}",
            "add one, or select an existing split: KIND:PATH@SPLIT",
        )
    folders = [d for d in (path / "annotations", path) if d.is_dir()]
    found = [f for d in folders for f in sorted(d.glob("*.json")) if "_det_" not in f.name]
    # COCO's own folder holds captions and outlines of things beside the joints.
    files = [f for f in found if "keypoints" in f.stem] or found
    named = [file for file in files if _names_a_split(file) or _is_joined(file, files)]
    glued = {} if named else _find_glued(files)
    named = named or list(glued.values())
    if split == "all" and len(files) > 1 and named:
        return [(file, False) for file in named]
    # A file for training alone is divided, since something has to be evaluated on; persons of val
    # or test are never trained on.
    if len(files) == 1 and (split == "all" or not _names_a_split(files[0], ("val", "test"))):
        return [(files[0], True)]
    candidates = [
        *((file, False) for file in files if _names_a_split(file, (split,))),
        *((f, True) for f in files if split in _list_joined_splits(f) and _is_joined(f, files)),
        *((file, False) for file in [glued.get(split)] if file),
    ]
    named = [file for file in files if _names_a_split(file, (split,))]
    if len(named) > 1:
        raise DataError(
            f"{path} has several files for split '{split}': {', '.join(f.name for f in named)}",
            "name one: coco:FILE@all, or several with commas",
        )
    if candidates:
        return candidates[:1]
    if files and split == "all":
        raise DataError(
            f"{path} has several files that name no split: {', '.join(f.name for f in files)}",
            "name one: coco:FILE@all, or several with commas",
        )
    raise DataError(
        f"no *{split}*.json under {path}" if files else f"no annotation file under {path}",
        "point coco: to the JSON file or a folder with annotations/",
    )


def find_annotation_file(path: Path, split: str) -> Path:
    """The one file that a split of a set is read from.

    Raises:
        DataError: there is none, or there are several.
    """
    files = [file for file, _ in find_annotation_files(path, split)]
    if len(files) != 1:
        raise DataError(f"{path} has several annotation files", "select one of them")
    return files[0]


def _find_files_by_folder(path: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for split, names in _SPLIT_FOLDERS.items():
        files = [path / name / _ROBOFLOW_FILE_NAME for name in names]
        there = [file for file in files if file.is_file()]
        found |= {split: there[0]} if there else {}
    return found


def _find_glued(files: Sequence[Path]) -> dict[str, Path]:
    """By split, where the names of all files have one within a word, as `cocotrain.json`."""
    found: dict[str, Path] = {}
    for split in SPLITS[:-1]:
        having = [file for file in files if split in file.stem]
        found |= {split: having[0]} if len(having) == 1 else {}
    return found if set(found.values()) == set(files) else {}


def _list_joined_splits(file: Path) -> set[str]:
    """The splits of a word such as `trainval`."""
    words = re.split(r"[^a-z]+", file.stem.lower())
    joined = [word for word in words if re.fullmatch("(train|val|test){2,}", word)]
    return {split for word in joined for split in SPLITS[:-1] if split in word}


def _is_joined(file: Path, files: Sequence[Path]) -> bool:
    """Whether it holds several splits of which none has a file of its own, which would overlap."""
    own = {split for split in SPLITS[:-1] if any(_names_a_split(f, (split,)) for f in files)}
    joined = _list_joined_splits(file)
    return bool(joined) and not joined & own


def _names_a_split(file: Path, splits: Sequence[str] = SPLITS[:-1]) -> bool:
    """Whether the name has a word for one of them: `person_val2017`, but not `validated`."""
    words = set(re.split(r"[^a-z]+", file.stem.lower()))
    return any(words & _SPLIT_WORDS.get(split, set()) for split in splits)
