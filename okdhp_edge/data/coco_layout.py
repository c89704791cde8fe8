"""Locate the images of a COCO file."""

import os.path
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

_MAX_FILE_NAME_CHARS = 1024
"""Characters of a file name; Linux takes 4096 bytes."""
_MAX_PROBED_FILES = 20


def get_file_name(image: Mapping[str, Any]) -> str | None:
    """An entry's file name with forward slashes (Windows tools write others); None where there is
    none that a file could have."""
    name = image.get("file_name")
    if not isinstance(name, str) or not 0 < len(name) <= _MAX_FILE_NAME_CHARS or "\0" in name:
        return None
    return name.replace("\\", "/")


class ImageLocator:
    """Where a file's images lie: the place that holds most of a few of them, so that one that is
    missing does not decide."""

    def __init__(self, file: Path, path: Path, images: Iterable[dict[str, Any]]) -> None:
        names = [name for name in map(get_file_name, images) if name]
        self._root = file.parent / "images"
        self._bare = False
        probes = names[:: max(1, len(names) // _MAX_PROBED_FILES)][:_MAX_PROBED_FILES]
        most = 0
        for root in _iterate_roots(file, path):
            for bare in (False, True):
                places = (root / (PurePosixPath(name).name if bare else name) for name in probes)
                found = sum(map(os.path.isfile, places))
                if found > most:
                    most, self._root, self._bare = found, root, bare
                if most == len(probes):
                    return

    def of(self, file_name: str) -> Path:
        """The image's path, whether or not it is there."""
        return self._root / (PurePosixPath(file_name).name if self._bare else file_name)


def _iterate_roots(file: Path, path: Path) -> Iterator[Path]:
    """Where images may lie, the likeliest first: next to the file (images of the same names above
    it may be the originals of a smaller copy), COCO's `val2017/`, `images/val2017/`, CVAT's
    `images/default/`, and folders above it."""
    part = file.stem.split("_")[-1]
    above = file.parent.parent
    yield from (file.parent, file.parent / "images")
    yield from (above / part, above / "images" / part, above / "images", above)
    yield from (file.parent / "images" / "default", above / "images" / "default")
    if path.is_dir():
        yield from (path / part, path / "images" / part)
    # `annotations/val/x.json` style: tune until the first image is found.
    yield from (p for parent in file.parents[:4] for p in (parent, parent / "images"))


def make_portable_name(out: Path, file: Path) -> str:
    """The name of an image in a COCO file written to `out`: below its folder, else absolute."""
    place, root = file.resolve(), out.parent.resolve()
    return (place.relative_to(root) if place.is_relative_to(root) else place).as_posix()
