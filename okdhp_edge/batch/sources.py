"""What to process: files, folders, globs and lists of them, on any file system of fsspec."""

import hashlib
import posixpath
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from okdhp_edge.batch.storage import find_file_system, is_local, wrap_read_errors
from okdhp_edge.data.image_file import IMAGE_SUFFIXES
from okdhp_edge.errors import DataError, SourceError
from okdhp_edge.system.reading import read_text

VIDEO_SUFFIXES = {".mp4", ".mkv", ".avi", ".mov", ".webm", ".m4v", ".mpg", ".mpeg", ".ts", ".mts",
                  ".wmv", ".flv", ".gif"}  # fmt: skip
_LIST_SUFFIX = ".txt"
_GLOB_LETTERS = "*?["
_SAMPLE_BYTES, _IMAGE_SAMPLE_BYTES = 1 << 20, 1 << 16
# Of 255 that file systems allow; suffixes and prefixes are added. A longer one becomes its hash.
_MAX_NAME_BYTES = 200


@dataclass(frozen=True)
class BatchSource:
    """A video, or a folder of images.

    Attributes:
        url: where it lies.
        name: of its result, less `.parquet`: unique in the batch.
        images: URLs of the images of a folder, in name order; empty for a video.
        fingerprint: of its content (`compute_fingerprint`); empty where it is not known yet.
    """

    url: str
    name: str
    images: tuple[str, ...] = ()
    fingerprint: str = ""


@dataclass(frozen=True)
class FoundSources:
    """What was found.

    Attributes:
        skipped: files of other kinds, by suffix.
    """

    sources: tuple[BatchSource, ...]
    skipped: dict[str, list[str]]


def find_sources(texts: Sequence[str]) -> FoundSources:
    """All videos and folders of images of files, folders, globs and `.txt` files of paths.

    A folder that holds images is one source; videos in folders are one each.

    Raises:
        SourceError: a path does not exist, a glob matches nothing, nothing usable was found, or a
            file system is unknown.
    """
    skipped: dict[str, list[str]] = {}
    videos: list[str] = []
    folders: dict[str, list[str]] = {}
    for url in _expand(texts):
        suffix = posixpath.splitext(url)[1].lower()
        if suffix in VIDEO_SUFFIXES:
            videos.append(url)
        elif suffix in IMAGE_SUFFIXES:
            folders.setdefault(posixpath.dirname(url), []).append(url)
        else:
            skipped.setdefault(suffix or posixpath.basename(url), []).append(url)
    unique = list(dict.fromkeys(videos))
    names = _make_names([*unique, *folders])
    sources = [BatchSource(url, names[url]) for url in unique]
    sources += [
        BatchSource(folder, names[folder], tuple(sorted(set(images))))
        for folder, images in folders.items()
    ]
    if not sources:
        raise SourceError("no video and no image was found", "check the paths")
    return FoundSources(tuple(sources), skipped)


def _expand(texts: Sequence[str], *, in_list: bool = False) -> Iterator[str]:
    """Files of these paths; a list in a list is a file like others, since it may be the same."""
    for text in texts:
        fs, path = find_file_system(text, SourceError)
        with wrap_read_errors(text, fs):
            is_list = text.lower().endswith(_LIST_SUFFIX) and fs.isfile(path)
            if is_list and not in_list:
                yield from _expand(_read_list(text, fs, path), in_list=True)
            elif fs.exists(path):  # also a name with brackets, which a glob would not match
                yield from _list_files(fs, path)
            elif any(letter in text for letter in _GLOB_LETTERS):
                found = sorted(fs.glob(path))
                if not found:
                    raise SourceError(f"no file matches {text}", "check the pattern")
                yield from (url for match in found for url in _list_files(fs, match))
            else:
                raise SourceError(f"{text} does not exist", "check the path")


def _read_list(text: str, fs: Any, path: str) -> list[str]:
    try:
        lines = read_text(Path(path)) if is_local(fs) else fs.cat_file(path).decode()
    except ValueError as error:
        raise SourceError(f"{text} is not UTF-8 text", "save the list as UTF-8") from error
    return [line.strip() for line in lines.splitlines() if line.strip()]


def _list_files(fs: Any, path: str) -> Iterator[str]:
    find = _walk if is_local(fs) else type(fs).find
    try:
        files = sorted(find(fs, path)) if fs.isdir(path) else [path]
    except OSError as error:
        raise SourceError(
            f"{error.filename or path} cannot be read ({error.strerror or error})",
            "check its permissions",
        ) from error
    for file in files:
        # Hidden ones in a folder, such as macOS leaves beside each file on other disks.
        if file != path and posixpath.basename(file).startswith("."):
            continue
        yield file if is_local(fs) else fs.unstrip_protocol(file)


def _walk(fs: Any, folder: str, above: tuple[str, ...] = ()) -> Iterator[str]:
    """All files below a folder, linked ones too; fsspec's own search leaves out folders that cannot
    be read.

    Args:
        above: resolved folders that it lies in: a link to one of them would lead round and round.
    """
    resolved = str(Path(folder).resolve())
    if resolved in above:
        return
    for entry in fs.ls(folder, detail=True):
        if entry["type"] == "directory" or (entry.get("islink") and fs.isdir(entry["name"])):
            yield from _walk(fs, entry["name"], (*above, resolved))
        else:
            yield entry["name"]


def _make_names(urls: Sequence[str]) -> dict[str, str]:
    """The last part of each path, with as many folders before it as make it unique."""
    names: dict[str, str] = {}
    for depth in range(1, 1 + max((url.count("/") for url in urls), default=0) + 1):
        left = [url for url in urls if url not in names]
        made = {url: "__".join(url.rstrip("/").split("/")[-depth:]) for url in left}
        counts = Counter([*made.values(), *names.values()])
        names |= {
            url: name for url, name in made.items()
            if counts[name] == 1 and len(name.encode()) <= _MAX_NAME_BYTES
        }  # fmt: skip
    return {url: names.get(url, hashlib.sha256(url.encode()).hexdigest()[:16]) for url in urls}


def compute_fingerprint(source: BatchSource) -> str:
    """Tells a source from what it was before: sizes, and the bytes of its beginning, middle and
    end; of images the beginning alone.

    Raises:
        SourceError: it cannot be read.
    """
    digest = hashlib.sha256()
    for url in source.images or (source.url,):
        fs, path = find_file_system(url, SourceError)
        with wrap_read_errors(url, fs):
            size = int(fs.size(path) or 0)
            digest.update(f"{posixpath.basename(path)} {size}\n".encode())
            # Of an image among thousands its size and beginning have to do.
            sample = _IMAGE_SAMPLE_BYTES if source.images else _SAMPLE_BYTES
            starts = {0} if source.images else {0, max(0, size // 2), max(0, size - sample)}
            for start in sorted(starts):
                # By name: s3fs has another argument before them.
                end = min(size, start + sample)
                digest.update(fs.cat_file(path, start=start, end=end))
    return digest.hexdigest()


class SourceLength(NamedTuple):
    """How much there is of a source.

    Attributes:
        seconds: of a local video whose clock can be trusted to be cut by; else 0.
        frames: None where it is not known.
    """

    seconds: float
    frames: int | None


def read_length(source: BatchSource) -> SourceLength:
    """Without decoding it; of what lies elsewhere nothing is known."""
    from okdhp_edge.data.video import VideoReader  # slow, and not needed to find sources

    if source.images:
        return SourceLength(0.0, len(source.images))
    if "://" in source.url:
        return SourceLength(0.0, None)
    try:
        with closing(VideoReader(Path(source.url))) as reader:
            seconds = reader.duration_s if reader.is_rate_known else 0.0
            return SourceLength(seconds, reader.count_frames() or None)
    except DataError:
        return SourceLength(0.0, 0)  # the worker says what is wrong with it
