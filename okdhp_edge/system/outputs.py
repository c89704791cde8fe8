"""Output checks for all commands: an output must never overwrite an input."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from okdhp_edge.errors import OutputError

_STDOUT_PATH = "-"
# Files that no stage takes for images or videos: they may lie in a folder of those.
_TEXT_SUFFIXES = (".json", ".jsonl", ".csv", ".html", ".md")


def check_outputs(outputs: Mapping[str, Path | None], inputs: Iterable[Path]) -> None:
    """Refuse, before anything is written, an output that would destroy what is read, or two outputs
    in one place. Links and other spellings of a path are seen through.

    Args:
        outputs: option (for the message) to the file or folder it writes; None and `-` are skipped.
        inputs: files and folders that are read.

    Raises:
        OutputError: an output lies on, in or above an input, or on another output.
    """
    wanted = {o: p for o, p in outputs.items() if p is not None and not _is_stream(p)}
    for option, output in wanted.items():
        for source in inputs:
            if _is_same(output, source) or _is_inside(source, output):
                raise OutputError(
                    f"{option} {output} would overwrite the input {source}",
                    "choose another location",
                )
            if output.suffix not in _TEXT_SUFFIXES and _is_inside(output, source):
                raise OutputError(
                    f"{option} {output} is inside the input {source}",
                    "choose a location outside of it",
                )
    taken: dict[str, Path] = {}
    for option, output in wanted.items():
        for other, path in taken.items():
            if _is_same(output, path):
                raise OutputError(f"{option} and {other} write one file, {output}", "use two files")
        taken[option] = output


def _is_stream(path: Path) -> bool:
    """Standard output, a pipe or a device: written into, never replaced."""
    return str(path) == _STDOUT_PATH or (path.exists() and not path.is_file() and not path.is_dir())


def _is_same(a: Path, b: Path) -> bool:
    """One file or folder, or names of one that does not exist yet."""
    try:
        return a.samefile(b)
    except OSError:
        return os.path.realpath(a) == os.path.realpath(b)


def _is_inside(path: Path, folder: Path) -> bool:
    """Whether `path` lies in `folder`, by the inodes of the folders above it."""
    if folder.exists() and not folder.is_dir():
        return False
    return any(_is_same(parent, folder) for parent in Path(os.path.realpath(path)).parents)
