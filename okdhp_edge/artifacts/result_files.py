"""A file of measurements, each with the command that made it: `models/<name>/results.json`."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock

from okdhp_edge import __version__
from okdhp_edge.errors import DataError, OutputError
from okdhp_edge.system.files import wrap_write_errors, write_text
from okdhp_edge.system.hardware import describe_machine
from okdhp_edge.system.reading import read_json

_KEY_FIELDS = (
    "model", "profile", "backend", "precision", "data", "split", "metric", "boxes", "flip_test",
)  # fmt: skip


def add_result(path: Path, result: Mapping[str, Any]) -> None:
    """Add `result` to the file, in place of an earlier one of the same model, data and metric.

    Raises:
        DataError: the file holds something else.
        OutputError: it cannot be written.
    """
    # Each with its own: others may have been measured elsewhere, where INT8 is another.
    added = {**result, "version": __version__, "machine": describe_machine()}
    read_results_file(path)  # before a lock file is made beside what cannot be used
    with wrap_write_errors(path), FileLock(path.with_name(f".{path.name}.lock")):
        kept = [r for r in read_results_file(path) if _make_key(r) != _make_key(result)]
        content = {"results": sorted([*kept, added], key=_make_key)}
        write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def _make_key(result: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(str(result.get(name) or "") for name in _KEY_FIELDS)


def read_results_file(path: Path) -> list[dict[str, Any]]:
    """The results in a file; none where there is no file yet.

    Raises:
        DataError: it holds something else.
        OutputError: it is a folder, or its folder does not exist.
    """
    if path.is_dir() or not path.parent.is_dir():
        raise OutputError(f"cannot write {path}", "name a file in a folder that exists")
    if not path.is_file():
        return []
    try:
        content = read_json(path)
        # Formerly once for all.
        common = {name: content[name] for name in ("version", "machine") if name in content}
        return [common | dict(result) for result in content["results"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is not a results file", "choose another --record") from error
