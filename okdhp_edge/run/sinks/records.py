"""Poses as text: JSON lines, COCO results, CSV. A file gets its name only when it is whole."""

import csv
import json
from abc import ABC, abstractmethod
from pathlib import Path
from typing import IO, Any

from okdhp_edge.card import writing
from okdhp_edge.pose.preprocess import Image
from okdhp_edge.pose.result import Pose
from okdhp_edge.pose.skeleton import Skeleton
from okdhp_edge.run.pipeline import Seen
from okdhp_edge.run.sinks.base import check_writable
from okdhp_edge.run.sources.base import Frame

_PERSON = 1
"""COCO's category."""


class RecordSink(ABC):
    """A text file that is written as the run goes."""

    wants_picture = False

    def __init__(self, path: Path) -> None:
        self._path = path
        self._partial = path.with_name(f".{path.name}.part")
        check_writable(path)
        with writing(path):
            self._file: IO[str] = self._partial.open("w", encoding="utf-8", newline="")
            self._begin()

    def put(self, seen: Seen, drawn: Image) -> bool:  # noqa: ARG002
        with writing(self._path):
            self._write(seen.frame, seen.poses)
        return True

    def _begin(self) -> None:  # noqa: B027 - most kinds begin with nothing
        """What stands before the first frame."""

    @abstractmethod
    def _write(self, frame: Frame, poses: list[Pose]) -> None:
        """One frame."""

    def _end(self) -> None:  # noqa: B027 - most kinds end with nothing
        """What stands after the last frame."""

    def close(self, *, good: bool) -> None:
        try:
            with writing(self._path):
                if good:
                    self._end()
                self._file.close()
                if good:
                    self._partial.replace(self._path)
        finally:
            self._partial.unlink(missing_ok=True)


class JsonSink(RecordSink):
    """One JSON object a frame."""

    def _write(self, frame: Frame, poses: list[Pose]) -> None:
        record: dict[str, Any] = {"frame": frame.number, "seconds": round(frame.seconds, 6)}
        if frame.name:
            record["picture"] = frame.name
        record["people"] = [pose.to_dict() for pose in poses]
        self._file.write(json.dumps(record) + "\n")


class CocoSink(RecordSink):
    """A list of detections as COCO's evaluation reads them.

    `image_id` is the number in a picture's file name, as COCO names its pictures, else the frame's.
    """

    def _begin(self) -> None:
        self._between = "[\n"

    def _write(self, frame: Frame, poses: list[Pose]) -> None:
        stem = Path(frame.name).stem
        image = int(stem) if stem.isdecimal() else frame.number
        for pose in poses:
            keypoints = [
                round(float(value), 3)
                for (x, y), score in zip(pose.xy, pose.score, strict=True)
                for value in (x, y, score)
            ]
            result = {
                "image_id": image, "category_id": _PERSON, "keypoints": keypoints,
                "score": round(pose.confidence, 4),
            }  # fmt: skip
            self._file.write(self._between + json.dumps(result))
            self._between = ",\n"

    def _end(self) -> None:
        self._file.write("\n]\n" if self._between == ",\n" else "[]\n")


class CsvSink(RecordSink):
    """One row for each person in each frame: x, y and score of every joint."""

    def __init__(self, path: Path, skeleton: Skeleton) -> None:
        self._skeleton = skeleton
        super().__init__(path)

    def _begin(self) -> None:
        self._rows = csv.writer(self._file, lineterminator="\n")
        joints = [
            f"{joint}_{what}" for joint in self._skeleton.joints for what in ("x", "y", "score")
        ]
        self._rows.writerow(["frame", "seconds", "picture", "id", "score", *joints])

    def _write(self, frame: Frame, poses: list[Pose]) -> None:
        for pose in poses:
            values = [
                value
                for (x, y), score in zip(pose.xy, pose.score, strict=True)
                for value in (f"{x:.2f}", f"{y:.2f}", f"{score:.4f}")
            ]
            who = "" if pose.id is None else pose.id
            where = [frame.number, f"{frame.seconds:.6f}", frame.name]
            self._rows.writerow([*where, who, f"{pose.confidence:.4f}", *values])
