"""Reading annotation files: JSON with clear errors, and splits where a set brings none."""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from okdhp_edge.errors import DataError
from okdhp_edge.system import reading

T = TypeVar("T")

SPLITS = ("train", "val", "test", "all")
SPLITS_FOLDER = "splits"
"""Beside a set's annotations; `train.txt`, `val.txt` and `test.txt` there list images by name."""
# Shares in percent of a set that comes as one file without split lists.
_SPLIT_PERCENT_RANGES = {"train": range(80), "val": range(80, 90), "test": range(90, 100)}


def read_json(file: Path) -> Any:
    """Parse a JSON file.

    Raises:
        DataError: missing, unreadable or not JSON.
    """
    try:
        return reading.read_json(file)
    except FileNotFoundError:
        raise DataError(f"{file} does not exist", "check the path") from None
    except json.JSONDecodeError as error:
        raise DataError(f"{file} is not valid JSON ({error})", "check that it is whole") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{file} cannot be read ({error})", "check the file") from error


def split_by_name(samples: Sequence[T], split: str, key: Callable[[T], str]) -> list[T]:
    """80/10/10 by a hash of the image's name: stable, and an image's persons stay together.

    Of few images a split could get none so: then they are dealt out in the order of their hashes,
    a tenth to `val` and to `test`, at least one to each; one to `train` comes first.
    """
    names = sorted({key(s) for s in samples}, key=_hash)
    parts = {
        part: [n for n in names if _hash(n) % 100 in _SPLIT_PERCENT_RANGES[part]]
        for part in _SPLIT_PERCENT_RANGES
    }
    if not all(parts.values()):
        tenth = max(1, round(len(names) / 10))
        train = names[2 * tenth :] or names[:1]
        rest = [n for n in names if n not in train]
        parts = {"train": train, "val": rest[:tenth], "test": rest[tenth:]}
    chosen = set(parts[split])
    return [s for s in samples if key(s) in chosen]


def _hash(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
