"""Images to label: files, folders and every Nth frame of videos."""

import hashlib
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from okdhp_edge.data.image_file import IMAGE_SUFFIXES, read_image
from okdhp_edge.data.video import VideoReader
from okdhp_edge.errors import DataError
from okdhp_edge.pose.preprocess import Image
from okdhp_edge.system.files import wrap_write_errors, write_bytes

VIDEO_SUFFIXES = {".mp4", ".mkv", ".avi", ".mov", ".webm", ".m4v"}
_HASH_SIDE_PX = 8
_JPEG_QUALITY = 95


class ImageItem(NamedTuple):
    """An image to label.

    Attributes:
        path: its file, or the video's.
        frame: number of the frame in the video; None for an image file.
    """

    path: Path
    frame: int | None

    @property
    def key(self) -> str:
        """Tells it from every other."""
        return str(self.path) if self.frame is None else f"{self.path}#{self.frame}"


def list_items(sources: Sequence[Path], every: int) -> list[ImageItem]:
    """All images of files, folders and videos, in name order.

    Args:
        every: of a video one frame in so many.

    Raises:
        DataError: a source does not exist, or contains no images or videos.
    """
    return [item for source in sources for item in _list_source_items(source, every)]


def _list_source_items(source: Path, every: int) -> list[ImageItem]:
    if not source.exists():
        raise DataError(f"{source} does not exist", "use images, folders or videos")
    files = [source] if source.is_file() else sorted(p for p in source.rglob("*") if p.is_file())
    found: list[ImageItem] = []
    for file in files:
        if file.suffix.lower() in IMAGE_SUFFIXES:
            found.append(ImageItem(file, None))
        elif file.suffix.lower() in VIDEO_SUFFIXES:
            found += [ImageItem(file, number) for number in range(0, _count_frames(file), every)]
    if not found:
        raise DataError(
            f"no images or videos in {source}",
            f"supported suffixes are {', '.join(sorted(IMAGE_SUFFIXES | VIDEO_SUFFIXES))}",
        )
    return found


def _count_frames(file: Path) -> int:
    try:
        with closing(VideoReader(file)) as reader:
            announced = reader.count_frames()
            return announced or max(1, sum(1 for _ in iter(reader.skip, False)))
    except DataError:
        return 1  # it is reported as broken when it is read


def read_images(items: Sequence[ImageItem]) -> Iterator[tuple[ImageItem, Image | DataError]]:
    """Each item's image, or why there is none; a video's frames in one pass."""
    for path, group in itertools.groupby(items, key=lambda item: item.path):
        if path.suffix.lower() in VIDEO_SUFFIXES:
            yield from _read_frames(path, group)
        else:
            yield from ((item, _try_read_image(path)) for item in group)


def _read_frames(
    path: Path, items: Iterable[ImageItem]
) -> Iterator[tuple[ImageItem, Image | DataError]]:
    try:
        reader = VideoReader(path)
    except DataError as error:
        yield from ((item, error) for item in items)
        return
    number = 0
    try:
        for item in items:
            assert item.frame is not None
            while number < item.frame and reader.skip():
                number += 1
            yield item, _read_next_frame(reader, item)
            number += 1
    finally:
        reader.close()


def _read_next_frame(reader: VideoReader, item: ImageItem) -> Image | DataError:
    try:
        found = reader.read()
    except DataError as error:
        return error
    if found is not None:
        return found.image
    return DataError(f"frame {item.frame} of {item.path} cannot be decoded", "re-encode the video")


def _try_read_image(path: Path) -> Image | DataError:
    try:
        return read_image(path)
    except DataError as error:
        return error


def difference_hash(image: Image) -> int:
    """64 bits: whether each of 8x8 places is brighter than its left neighbour (dHash)."""
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    small = cv2.resize(grey, (_HASH_SIDE_PX + 1, _HASH_SIDE_PX), interpolation=cv2.INTER_AREA)
    bits = (small[:, 1:] > small[:, :-1]).ravel()
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


class DuplicateFilter:
    """Images that were there before, by their hash.

    Args:
        most: images whose hashes differ in at most so many of 64 bits are alike.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._hashes: NDArray[np.uint64] = np.zeros(1024, dtype=np.uint64)
        self._count = 0

    def like(self, value: int) -> bool:
        """Whether one like it was added before."""
        different = np.bitwise_count(self._hashes[: self._count] ^ np.uint64(value))
        return bool((different <= self._most).any())

    def add(self, value: int) -> None:
        """Remember it."""
        if self._count == len(self._hashes):
            self._hashes = np.concatenate([self._hashes, np.zeros_like(self._hashes)])
        self._hashes[self._count] = value
        self._count += 1


def save_frame(image: Image, file: Path) -> None:
    """Keep a video's frame as an image file."""
    with wrap_write_errors(file):
        file.parent.mkdir(parents=True, exist_ok=True)
    encoded = cv2.imencode(file.suffix, image, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1]
    write_bytes(file, encoded.tobytes())


def get_frame_path(out: Path, item: ImageItem) -> Path:
    """Where a video's frame is kept: in a folder named after the label file, where no other video
    of the same name can have one. It is not the one that is labelled, `clips/` for `clips.json`."""
    digest = hashlib.sha256(os.fsencode(item.path)).hexdigest()[:8]
    return out.parent / f"{out.stem}_frames" / f"{item.path.stem}_{digest}_{item.frame:06d}.jpg"
