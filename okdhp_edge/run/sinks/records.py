"""Poses as text: JSON lines, COCO results, CSV."""

import csv
import io
import json
import os
import re
import sys
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from okdhp_edge.errors import OutputError
from okdhp_edge.pose.preprocess import Image
from okdhp_edge.pose.result import Pose
from okdhp_edge.pose.skeleton import Skeleton
from okdhp_edge.run.pipeline import FrameResult
from okdhp_edge.run.sinks.base import check_writable
from okdhp_edge.run.sources.base import Frame
from okdhp_edge.system.files import wrap_write_errors

_PERSON_CATEGORY_ID = 1
"""COCO's category."""
_EMPTY_JSON_ARRAY, _CLOSING_BRACKET = b"[]\n", b"\n]\n"


_COCO_NAME_PATTERN = re.compile(r"(?:COCO_[a-z]+\d{4}_)?(\d+)", re.ASCII)
STDOUT_PATH = "-"
"""As a path: write to stdout."""


def _open_stdout() -> BinaryIO:
    if sys.stdout is None:
        raise OutputError("stdout is closed", "write to a file")
    return os.fdopen(os.dup(sys.stdout.fileno()), "wb", buffering=0)


def _appends(descriptor: int) -> bool:
    """Whether all that is written goes to the end, as in a file that a shell opened with `>>`."""
    try:
        import fcntl
    except ImportError:  # Windows
        return False
    return bool(fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_APPEND)


class RecordSink(ABC):
    """Text that is written as the run goes, a whole record at a time: whatever ends the run, what
    was written before is there. `-` is stdout; a pipe, a device or a link is written into, not
    replaced."""

    wants_image = False

    def __init__(self, path: Path) -> None:
        self._path = path
        self._closed = False
        if str(path) != STDOUT_PATH and not path.exists():
            check_writable(path)
        with wrap_write_errors(path):
            # Unbuffered: a record goes to the system in one call.
            self._file: BinaryIO = (
                _open_stdout() if str(path) == STDOUT_PATH else path.open("wb", buffering=0)
            )
        self._is_file = self._file.seekable() and not _appends(self._file.fileno())
        self._whole = 0
        self._write(self._begin())

    def write(self, result: FrameResult, annotated: Image) -> bool:  # noqa: ARG002
        """Write the frame's record; True: the run goes on."""
        self._write(self._record(result.frame, result.poses))
        return True

    def _write(self, text: str) -> None:
        if not text:
            return
        with wrap_write_errors(self._path):
            try:
                self._put(text.encode())
            except OSError:
                self._take_back()
                raise
            self._mark()

    def _mark(self) -> None:
        """Remember how much is whole."""
        if self._is_file:
            self._whole = self._file.seek(0, os.SEEK_END)

    def _take_back(self) -> None:
        """What a full disk has cut short."""
        if self._is_file:
            with suppress(OSError):
                self._file.truncate(self._whole)

    def _put(self, data: bytes) -> None:
        """Whatever a pipe takes at once, until all is written."""
        while data:
            data = data[self._file.write(data) :]

    def _begin(self) -> str:
        """What stands before the first frame."""
        return ""

    @abstractmethod
    def _record(self, frame: Frame, poses: list[Pose]) -> str:
        """Of one frame."""

    def _end(self) -> str:
        """What stands after the last frame."""
        return ""

    def close(self, *, success: bool) -> None:
        """End the file so that it is whole."""
        if self._closed:
            return
        self._closed = True
        try:
            if success:
                self._write(self._end())
            else:
                with suppress(OutputError):
                    self._write(self._end())
        finally:
            self._file.close()


class JsonSink(RecordSink):
    """One JSON object a frame."""

    def _record(self, frame: Frame, poses: list[Pose]) -> str:
        record: dict[str, Any] = {"frame": frame.number, "seconds": round(frame.seconds, 6)}
        if frame.name:
            record["image"] = frame.name
        record["people"] = [pose.to_dict() for pose in poses]
        return json.dumps(record) + "\n"


class CocoSink(RecordSink):
    """A list of detections as COCO's evaluation reads them; a file is a whole list at any time.

    `image_id` is the number in an image's file name where COCO names its images so
    (`000000397133.jpg`, `COCO_val2014_000000397133.jpg`), else the frame's.

    Raises:
        OutputError: two images get one number.
    """

    def _begin(self) -> str:
        self._between = "[\n"
        self._names: dict[int, str] = {}
        return "[]\n" if self._is_file else ""

    def _record(self, frame: Frame, poses: list[Pose]) -> str:
        number = _COCO_NAME_PATTERN.fullmatch(Path(frame.name).stem)
        image = int(number[1]) if number else frame.number
        # Frames of a stream have no names, and no end either.
        other = self._names.setdefault(image, frame.name) if frame.name else ""
        if other != frame.name:
            raise OutputError(
                f"images {other} and {frame.name} both have number {image}, COCO's `image_id`",
                "rename one: all by numbers, or none",
            )
        text = ""
        for pose in poses:
            keypoints = [
                round(float(value), 3)
                for (x, y), score in zip(pose.xy, pose.score, strict=True)
                for value in (x, y, score)
            ]
            result = {
                "image_id": image, "category_id": _PERSON_CATEGORY_ID, "keypoints": keypoints,
                "score": round(pose.confidence, 4),
            }  # fmt: skip
            text += self._between + json.dumps(result)
            self._between = ",\n"
        return text

    def _put(self, data: bytes) -> None:
        """A file's closing bracket is written over by the next record, and follows it."""
        if self._is_file and data != b"[]\n":
            end = self._file.seek(0, os.SEEK_END)
            self._file.seek(
                end - len(_EMPTY_JSON_ARRAY if data.startswith(b"[") else _CLOSING_BRACKET)
            )
            data += _CLOSING_BRACKET
        super()._put(data)

    def _take_back(self) -> None:
        """The bracket has been written over."""
        if not self._is_file or not self._whole:
            return
        ending = _EMPTY_JSON_ARRAY
        if self._whole > len(_EMPTY_JSON_ARRAY):
            ending = _CLOSING_BRACKET
        with suppress(OSError):
            self._file.truncate(self._whole - len(ending))
            self._file.seek(0, os.SEEK_END)
            super()._put(ending)

    def _end(self) -> str:
        if self._is_file:
            return ""
        return "\n]\n" if self._between == ",\n" else "[]\n"


class CsvSink(RecordSink):
    """One row for each person in each frame: x, y and score of every joint."""

    def __init__(self, path: Path, skeleton: Skeleton) -> None:
        self._skeleton = skeleton
        super().__init__(path)

    def _begin(self) -> str:
        joints = [
            f"{joint}_{what}" for joint in self._skeleton.joints for what in ("x", "y", "score")
        ]
        return _format_row(["frame", "seconds", "image", "id", "score", *joints])

    def _record(self, frame: Frame, poses: list[Pose]) -> str:
        rows = ""
        for pose in poses:
            values = [
                value
                for (x, y), score in zip(pose.xy, pose.score, strict=True)
                for value in (f"{x:.2f}", f"{y:.2f}", f"{score:.4f}")
            ]
            who = "" if pose.id is None else pose.id
            where = [frame.number, f"{frame.seconds:.6f}", frame.name]
            rows += _format_row([*where, who, f"{pose.confidence:.4f}", *values])
        return rows


def _format_row(values: list[Any]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue()
