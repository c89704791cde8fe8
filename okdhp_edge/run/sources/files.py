"""Videos and pictures: every frame, as fast as it is wanted."""

from pathlib import Path

import cv2
import numpy as np

from okdhp_edge.data.frames import IMAGE_SUFFIXES
from okdhp_edge.data.sample import read_image
from okdhp_edge.errors import DataError, SourceError
from okdhp_edge.pose.preprocess import Image
from okdhp_edge.run.sources.base import Source
from okdhp_edge.system.redact import public_name

_HIGHEST_RATE = 1000.0
# How far before its announced end a whole video may stop.
_END_WITHIN_S, _END_WITHIN_SHARE = 1.0, 0.05


class VideoSource(Source):
    """A video file or the address of one, every frame."""

    def __init__(self, place: Path | str) -> None:
        super().__init__()
        self.name = public_name(str(place))
        self._capture = cv2.VideoCapture(str(place))
        if not self._capture.isOpened():
            raise SourceError(
                f"video {self.name} cannot be opened", "check that it is a video OpenCV can decode"
            )
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        self._announced = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self._length = self._announced / fps if fps > 0 else 0.0
        self.fps = fps if 0 < fps <= _HIGHEST_RATE else 30.0
        self._seconds = 0.0

    def _next(self) -> Image | None:
        good, image = self._capture.read()
        if good:
            self._seconds = self._time()
            return np.asarray(image, dtype=np.uint8)
        self._check_end()
        return None

    def _check_end(self) -> None:
        """A file that ends long before its announced end is cut off, and that is no end."""
        if self._number == 0:
            raise SourceError(f"video {self.name} has no frame that decodes", "check the file")
        missing = self._length - self._seconds
        if missing > max(_END_WITHIN_S, _END_WITHIN_SHARE * self._length):
            raise SourceError(
                f"video {self.name} is cut off: {self._number} of {self._announced:.0f} announced "
                f"frames could be read, {self._seconds:.1f} of {self._length:.1f} s",
                "copy it again or re-encode it; what was read is kept",
            )

    def _time(self) -> float:
        """Where the file puts the frame; by its rate where it does not say."""
        seconds = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        known = seconds > self._seconds or self._number == 0
        return float(seconds) if known else self._seconds + 1 / (self.fps or 30.0)

    def _seconds_in(self, now_ns: int) -> float:  # noqa: ARG002
        return self._seconds

    def _pass_over(self) -> bool:
        # Decoded all the same, since later frames build on it, but not converted to a picture.
        if not self._capture.grab():
            return False
        self._seconds = self._time()
        return True

    def close(self) -> None:
        """Close the video file."""
        self._capture.release()


class ImageSource(Source):
    """One picture, or every picture of a folder in name order."""

    continuous = False

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.name = str(path)
        self._files = _pictures_in(path, self.notes) if path.is_dir() else [path]
        self._whole = path.is_dir()
        if not self._files:
            raise SourceError(
                f"folder {path} holds no picture", f"use {', '.join(sorted(IMAGE_SUFFIXES))}"
            )
        self._place = 0
        self._broken = 0

    def _next(self) -> Image | None:
        """The next that can be read: of a folder one broken picture costs no other."""
        while self._place < len(self._files):
            self._place += 1
            try:
                return read_image(self._files[self._place - 1])
            except DataError as error:
                if not self._whole:
                    raise SourceError(error.cause, error.remedy) from error
                self._broken += 1
                self.notes.append(f"left out: {error.cause}")
        if self._broken == len(self._files):
            raise SourceError(
                f"none of the {self._broken} pictures in {self.name} can be read", "check them"
            )
        return None

    def _image_name(self) -> str:
        return self._files[self._place - 1].name

    def _pass_over(self) -> bool:
        if self._place >= len(self._files):
            return False
        self._place += 1
        return True


def _pictures_in(folder: Path, notes: list[str]) -> list[Path]:
    """In name order; what is left out is noted, but for hidden files."""
    files = sorted(f for f in folder.iterdir() if f.is_file() and not f.name.startswith("."))
    found = [f for f in files if f.suffix.lower() in IMAGE_SUFFIXES]
    others = sorted({f.suffix.lower() or f.name for f in files} - IMAGE_SUFFIXES)
    if others:
        count = len(files) - len(found)
        notes.append(f"left out: {count} files of other kinds ({', '.join(others[:5])})")
    return found
