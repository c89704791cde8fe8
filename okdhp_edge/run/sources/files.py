"""Videos and pictures: every frame, as fast as it is wanted."""

from pathlib import Path

import cv2
import numpy as np

from okdhp_edge.data.frames import PICTURE_SUFFIXES
from okdhp_edge.data.sample import read_picture
from okdhp_edge.errors import DataError, SourceError
from okdhp_edge.pose.preprocess import Image
from okdhp_edge.run.sources.base import Source


class VideoSource(Source):
    """A video file or the address of one, every frame."""

    def __init__(self, place: Path | str) -> None:
        super().__init__()
        self.name = str(place)
        self._capture = cv2.VideoCapture(str(place))
        if not self._capture.isOpened():
            raise SourceError(
                f"video {place} cannot be opened", "check that it is a video OpenCV can decode"
            )
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        self.fps = fps if 0 < fps < 1000 else 30.0

    def _next(self) -> Image | None:
        good, image = self._capture.read()
        if good:
            return np.asarray(image, dtype=np.uint8)
        if self._number == 0:
            raise SourceError(f"video {self.name} has no frame that decodes", "check the file")
        return None

    def _pass_over(self) -> bool:
        # Decoded all the same, since later frames build on it, but not converted to a picture.
        return self._capture.grab()

    def close(self) -> None:
        self._capture.release()


class PictureSource(Source):
    """One picture, or every picture of a folder in name order."""

    continuous = False

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.name = str(path)
        self._files = (
            sorted(f for f in path.iterdir() if f.suffix.lower() in PICTURE_SUFFIXES)
            if path.is_dir()
            else [path]
        )
        if not self._files:
            raise SourceError(
                f"folder {path} holds no picture", f"use {', '.join(PICTURE_SUFFIXES)}"
            )

    def _next(self) -> Image | None:
        if self._number >= len(self._files):
            return None
        try:
            return read_picture(self._files[self._number])
        except DataError as error:
            raise SourceError(error.cause, error.remedy) from error

    def _picture_name(self) -> str:
        return self._files[self._number].name

    def _pass_over(self) -> bool:
        return self._number < len(self._files)
