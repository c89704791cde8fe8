"""Where frames come from: camera, video, pictures, or people drawn from nothing."""

import re
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from okdhp_edge.data.frames import PICTURE_SUFFIXES
from okdhp_edge.data.sample import read_picture
from okdhp_edge.data.synthetic import SyntheticScene
from okdhp_edge.errors import DataError, SourceError
from okdhp_edge.pose.preprocess import Image

_SYNTHETIC_SIZE, _SYNTHETIC_FPS, _SYNTHETIC_FRAMES = (640, 480), 30.0, 300


class Frame(NamedTuple):
    """Number from 0, BGR image, `captured_ns` on the monotonic clock, seconds into the stream."""

    number: int
    image: Image
    captured_ns: int
    seconds: float


class Source(ABC):
    """A stream of frames, read from one thread.

    Attributes:
        live: whether frames pass whether or not they are read.
        continuous: whether a frame shows the same scene as the one before.
        fps: nominal rate, None where there is none.
    """

    name: str
    live = False
    continuous = True
    fps: float | None = None

    def __init__(self) -> None:
        self._number = 0

    def read(self) -> Frame | None:
        """The next frame, None at the end.

        Raises:
            SourceError: the stream broke.
        """
        image = self._next()
        if image is None:
            return None
        frame = Frame(self._number, image, time.perf_counter_ns(), self._number / (self.fps or 1.0))
        self._number += 1
        return frame

    @abstractmethod
    def _next(self) -> Image | None:
        """The next picture."""

    def close(self) -> None:  # noqa: B027 - most sources hold nothing
        """Release the device or file; safe to call twice."""


class VideoSource(Source):
    """A video file, every frame."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.name = str(path)
        self._capture = cv2.VideoCapture(str(path))
        if not self._capture.isOpened():
            raise SourceError(
                f"video {path} cannot be opened", "check that it is a video OpenCV can decode"
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

    def close(self) -> None:
        self._capture.release()


class WebcamSource(Source):
    """A camera by number or device path; frames that come too fast are dropped by the loop."""

    live = True

    def __init__(self, device: int | str) -> None:
        super().__init__()
        self.name = f"webcam {device}"
        self._capture = cv2.VideoCapture(device)
        if not self._capture.isOpened():
            raise SourceError(
                f"{self.name} cannot be opened",
                "plug it in, close other programs that use it, or name another: --source webcam:1",
            )
        # Compressed frames: raw ones do not fit USB 2 at full rate. Must be set before the size.
        self._capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG"))
        self._capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        self.fps = self._capture.get(cv2.CAP_PROP_FPS) or None

    def _next(self) -> Image | None:
        good, image = self._capture.read()
        if not good:
            raise SourceError(f"{self.name} stopped giving frames", "check the cable")
        return np.asarray(image, dtype=np.uint8)

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


class SyntheticSource(Source):
    """A drawn person in motion: 300 frames, or as many as asked for."""

    def __init__(self, frames: int = _SYNTHETIC_FRAMES) -> None:
        super().__init__()
        self.name, self.fps = "synthetic", _SYNTHETIC_FPS
        self._frames = frames
        self._scene = SyntheticScene(_SYNTHETIC_SIZE)

    def _next(self) -> Image | None:
        if self._number >= self._frames:
            return None
        return self._scene.frame(self._number / _SYNTHETIC_FPS)[0]


def open_source(text: str) -> Source:
    """Open `webcam`, `webcam:N`, `/dev/videoN`, `synthetic[:FRAMES]`, a video, picture or folder.

    Raises:
        SourceError: nothing of that name can be opened.
    """
    if match := re.fullmatch(r"webcam(?::(\d+))?", text):
        return WebcamSource(int(match[1] or 0))
    if match := re.fullmatch(r"synthetic(?::(\d+))?", text):
        return SyntheticSource(int(match[1] or _SYNTHETIC_FRAMES))
    path = Path(text).expanduser()
    if path.is_char_device() or str(path).startswith("/dev/video"):
        return WebcamSource(str(path))
    if not path.exists():
        raise SourceError(
            f"source {text} does not exist",
            "use webcam, webcam:N, synthetic, or the path of a video, picture or folder",
        )
    if path.is_dir() or path.suffix.lower() in PICTURE_SUFFIXES:
        return PictureSource(path)
    return VideoSource(path)
