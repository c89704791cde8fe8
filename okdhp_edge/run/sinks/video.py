"""The annotated picture: in a video file, in a window."""

import os
from pathlib import Path

import cv2

from okdhp_edge.card import writing
from okdhp_edge.errors import OutputError
from okdhp_edge.pose.preprocess import Image
from okdhp_edge.run.pipeline import Seen
from okdhp_edge.run.sinks.base import check_writable


class VideoSink:
    """An annotated MP4 or AVI. It gets its name only when it is whole."""

    wants_picture = True

    def __init__(self, path: Path, fps: float) -> None:
        self._path, self._fps = path, fps
        self._partial = path.with_name(f".{path.stem}.part{path.suffix or '.mp4'}")
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)
        self._written = 0
        check_writable(path)

    def put(self, seen: Seen, drawn: Image) -> bool:  # noqa: ARG002
        if self._writer is None:
            self._size = (drawn.shape[1], drawn.shape[0])
            fourcc = cv2.VideoWriter.fourcc(*("MJPG" if self._path.suffix == ".avi" else "mp4v"))
            self._writer = cv2.VideoWriter(str(self._partial), fourcc, self._fps, self._size)
            if not self._writer.isOpened():
                raise OutputError(f"cannot write video {self._path}", "use a .mp4 or .avi path")
        if self._size != (drawn.shape[1], drawn.shape[0]):
            # A video has one size; OpenCV would leave the frame out without a word.
            drawn = fitted(drawn, self._size)
        self._writer.write(drawn)
        self._written += 1
        return True

    def close(self, *, good: bool) -> None:
        if self._writer is None:
            return
        self._writer.release()
        self._writer = None
        whole = good and _holds(self._partial, self._written)
        if not whole:
            self._partial.unlink(missing_ok=True)
            if good:
                raise OutputError(f"video {self._path} could not be completed",
                                  "check free space")  # fmt: skip
            return
        with writing(self._path):
            self._partial.replace(self._path)


def fitted(image: Image, size: tuple[int, int]) -> Image:
    """The whole picture within (width, height), on black."""
    scale = min(size[0] / image.shape[1], size[1] / image.shape[0])
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    small = small[: size[1], : size[0]]
    bottom, right = size[1] - small.shape[0], size[0] - small.shape[1]
    return cv2.copyMakeBorder(small, 0, bottom, 0, right, cv2.BORDER_CONSTANT).astype("uint8")


def _holds(path: Path, frames: int) -> bool:
    """OpenCV reports no write error, a full disk included; only reading back tells."""
    capture = cv2.VideoCapture(str(path))
    try:
        return capture.get(cv2.CAP_PROP_FRAME_COUNT) == frames and capture.read()[0]
    finally:
        capture.release()


class WindowSink:
    """A window on the screen; `q` or Esc ends the run."""

    wants_picture = True

    def __init__(self, title: str) -> None:
        self._title = title

    def put(self, seen: Seen, drawn: Image) -> bool:  # noqa: ARG002
        cv2.imshow(self._title, drawn)
        return cv2.waitKey(1) & 0xFF not in (ord("q"), 27)

    def close(self, *, good: bool) -> None:  # noqa: ARG002
        cv2.destroyAllWindows()


def window_possible() -> bool:
    """Whether there is a display, and an OpenCV build that can open windows."""
    display = os.name == "nt" or bool(
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    )
    return display and "GUI:                           NONE" not in cv2.getBuildInformation()
