"""Where poses and pictures go: a video, a JSON-lines file, a window."""

import json
import os
from pathlib import Path
from typing import IO, Protocol

import cv2

from okdhp_edge.card import writing
from okdhp_edge.errors import OutputError
from okdhp_edge.pose.preprocess import Image
from okdhp_edge.pose.result import Pose
from okdhp_edge.run.source import Frame


class Sink(Protocol):
    """Takes each frame's result."""

    def put(self, frame: Frame, drawn: Image, pose: Pose | None) -> bool:
        """Store or show; False asks the loop to end."""
        ...

    def close(self, *, good: bool) -> None:
        """Finish; without `good` nothing half-written stays behind."""
        ...


class VideoSink:
    """An annotated MP4. It gets its name only when it is whole."""

    def __init__(self, path: Path, fps: float) -> None:
        self._path, self._fps = path, fps
        self._partial = path.with_name(f".{path.stem}.part{path.suffix or '.mp4'}")
        self._writer: cv2.VideoWriter | None = None
        self._written = 0
        _check_writable(path)

    def put(self, frame: Frame, drawn: Image, pose: Pose | None) -> bool:  # noqa: ARG002
        if self._writer is None:
            size = (drawn.shape[1], drawn.shape[0])
            fourcc = cv2.VideoWriter.fourcc(*("MJPG" if self._path.suffix == ".avi" else "mp4v"))
            self._writer = cv2.VideoWriter(str(self._partial), fourcc, self._fps, size)
            if not self._writer.isOpened():
                raise OutputError(f"cannot write video {self._path}", "use a .mp4 or .avi path")
        self._writer.write(drawn)
        self._written += 1
        return True

    def close(self, *, good: bool) -> None:
        if self._writer is None:
            return
        self._writer.release()
        whole = good and _holds(self._partial, self._written)
        if not whole:
            self._partial.unlink(missing_ok=True)
            if good:
                raise OutputError(f"video {self._path} could not be completed",
                                  "check free space")  # fmt: skip
            return
        with writing(self._path):
            self._partial.replace(self._path)


def _holds(path: Path, frames: int) -> bool:
    """OpenCV reports no write error, a full disk included; only reading back tells."""
    capture = cv2.VideoCapture(str(path))
    try:
        return capture.get(cv2.CAP_PROP_FRAME_COUNT) == frames and capture.read()[0]
    finally:
        capture.release()


class JsonSink:
    """One JSON object a frame. The file gets its name only when it is whole."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._partial = path.with_name(f".{path.name}.part")
        _check_writable(path)
        with writing(path):
            self._file: IO[str] = self._partial.open("w", encoding="utf-8")

    def put(self, frame: Frame, drawn: Image, pose: Pose | None) -> bool:  # noqa: ARG002
        record = {
            "frame": frame.number,
            "seconds": round(frame.seconds, 6),
            "people": [pose.to_dict()] if pose else [],
        }
        with writing(self._path):
            self._file.write(json.dumps(record) + "\n")
        return True

    def close(self, *, good: bool) -> None:
        try:
            with writing(self._path):
                self._file.close()
                if good:
                    self._partial.replace(self._path)
        finally:
            self._partial.unlink(missing_ok=True)


class WindowSink:
    """A window on the screen; `q` or Esc ends the run."""

    def __init__(self, title: str) -> None:
        self._title = title

    def put(self, frame: Frame, drawn: Image, pose: Pose | None) -> bool:  # noqa: ARG002
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


def _check_writable(path: Path) -> None:
    if not path.parent.is_dir():
        raise OutputError(f"folder {path.parent} does not exist", "create it first")
    if not os.access(path.parent, os.W_OK) or path.is_dir():
        raise OutputError(f"cannot write {path}", "check permissions, or choose another place")
