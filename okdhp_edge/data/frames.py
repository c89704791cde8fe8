"""Unlabelled images from a folder or a video, each treated as one whole person."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from okdhp_edge.data.image_file import IMAGE_SUFFIXES, ImageFile
from okdhp_edge.data.sample import LazyImage, Sample
from okdhp_edge.data.video import VideoReader
from okdhp_edge.errors import DataError
from okdhp_edge.pose.preprocess import Image


@dataclass(frozen=True)
class VideoFrame:
    """One frame of a video file, decoded when needed."""

    path: Path
    number: int

    def read(self) -> Image:
        """Seek and decode.

        Raises:
            DataError: the video has no such frame.
        """
        with closing(VideoReader(self.path)) as reader:
            if reader.has_times:
                reader.seek(self.number / reader.fps)
            else:
                for _ in range(self.number):
                    reader.skip()
            found = reader.read()
        if found is None:
            raise DataError(
                f"frame {self.number} of {self.path} cannot be decoded", "re-encode the video"
            )
        return found.image


def unlabelled(kind: str, path: Path, most: int) -> Sequence[Sample]:
    """At most `most` evenly spaced images of `folder:DIR` or `video:FILE`.

    Raises:
        DataError: nothing there can be read.
    """
    images = _list_folder(path) if kind == "folder" else _list_video(path)
    if not images:
        raise DataError(f"no images in {path}", "use a folder of images or a video file")
    places = np.unique(np.linspace(0, len(images) - 1, most).round().astype(int))
    samples = [found for place in places if (found := _try_make_sample(*images[place]))]
    if not samples:
        raise DataError(
            f"no image of {path} can be read", "re-encode the video, or check the files"
        )
    return samples


def _list_folder(path: Path) -> list[tuple[str, LazyImage]]:
    files = sorted(p for p in path.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
    return [(str(p.relative_to(path)), ImageFile(p)) for p in files]


def _list_video(path: Path) -> list[tuple[str, LazyImage]]:
    with closing(VideoReader(path)) as reader:
        # Raw streams, and files that were written to a pipe, do not say how long they are.
        count = reader.count_frames() or sum(1 for _ in iter(reader.skip, False))
    return [(f"{path.name}#{n}", VideoFrame(path, n)) for n in range(count)]


def _try_make_sample(name: str, image: LazyImage) -> Sample | None:
    """None of a frame that a video announces and does not show."""
    try:
        return _make_whole_sample(name, image)
    except DataError:
        if isinstance(image, VideoFrame):
            return None
        raise


def _make_whole_sample(name: str, image: LazyImage) -> Sample:
    height, width = image.read().shape[:2]
    return Sample(
        id=name, image=image, box=np.array([0, 0, width, height], dtype=np.float64),
        xy=np.zeros((0, 2), dtype=np.float32), labelled=np.zeros(0, dtype=np.bool_),
    )  # fmt: skip
