"""Poses as a table: a row per person and frame, and what made them in the file's metadata."""

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from okdhp_edge.pose.crop import box_around
from okdhp_edge.pose.result import Pose
from okdhp_edge.pose.skeleton import Skeleton

METADATA_KEY = b"okdhp_edge"
_FRAMES_PER_TABLE = 512
_FIXED = (
    ("source", pa.string()), ("frame", pa.int64()), ("seconds", pa.float64()),
    ("image", pa.string()), ("person", pa.int64()), ("score", pa.float32()),
    ("box_x", pa.float32()), ("box_y", pa.float32()),
    ("box_width", pa.float32()), ("box_height", pa.float32()),
)  # fmt: skip


class FrameRecord(NamedTuple):
    """A frame of a segment.

    Attributes:
        seconds: into the source.
        image: file name of an image, else empty.
        poses: everybody in it.
    """

    seconds: float
    image: str
    poses: list[Pose]


def make_schema(skeleton: Skeleton) -> pa.Schema:
    """`source, frame, seconds, image, person, score, box_*`, and `JOINT_x, _y, _score` of each
    joint."""
    joints = [
        (f"{j}_{what}", pa.float32()) for j in skeleton.joints for what in ("x", "y", "score")
    ]
    return pa.schema([*_FIXED, *joints])


def make_table(
    source: str, frames: Sequence[tuple[int, FrameRecord]], skeleton: Skeleton
) -> pa.Table:
    """A row for each person.

    Args:
        frames: each with its index in the source.
    """
    rows = [
        (index, record, person, pose)
        for index, record in frames
        for person, pose in enumerate(record.poses)
    ]
    boxes = np.array(
        [box_around(pose.xy) if pose.box is None else pose.box for *_, pose in rows], np.float32
    ).reshape(-1, 4)
    columns: dict[str, Any] = {
        "source": [source] * len(rows),
        "frame": [index for index, *_ in rows],
        "seconds": [record.seconds for _, record, *_ in rows],
        "image": [record.image or None for _, record, *_ in rows],
        "person": [person if pose.id is None else pose.id for *_, person, pose in rows],
        "score": np.array([pose.confidence for *_, pose in rows], np.float32),
    }
    for i, name in enumerate(("box_x", "box_y", "box_width", "box_height")):
        columns[name] = boxes[:, i]
    values = np.array(
        [np.column_stack([pose.xy, pose.score]) for *_, pose in rows], np.float32
    ).reshape(len(rows), len(skeleton), 3)
    for j, joint in enumerate(skeleton.joints):
        for k, what in enumerate(("x", "y", "score")):
            columns[f"{joint}_{what}"] = values[:, j, k]
    return pa.table(columns, schema=make_schema(skeleton))


class RowCollector:
    """The rows of a segment. Poses become columns every few frames: as objects those of a long
    video take gigabytes.

    Attributes:
        times, numbers: seconds and number of each frame, with or without people.
    """

    def __init__(self, source: str, skeleton: Skeleton) -> None:
        self.times: list[float] = []
        self.numbers: list[int] = []
        self._source, self._skeleton = source, skeleton
        self._tables: list[pa.Table] = []
        self._frames: list[tuple[int, FrameRecord]] = []

    def add(self, number: int, record: FrameRecord) -> None:
        """A frame; its index in the table is the count of those before."""
        self._frames.append((len(self.times), record))
        self.times.append(record.seconds)
        self.numbers.append(number)
        if len(self._frames) >= _FRAMES_PER_TABLE:
            self._flush()

    def _flush(self) -> None:
        self._tables.append(make_table(self._source, self._frames, self._skeleton))
        self._frames = []

    def make_table(self) -> pa.Table:
        """All rows so far."""
        self._flush()
        self._tables = [pa.concat_tables(self._tables)]
        return self._tables[0]


def to_parquet(table: pa.Table, metadata: Mapping[str, Any]) -> bytes:
    """A Parquet file with JSON under the key `okdhp_edge`."""
    buffer = io.BytesIO()
    write_parquet(buffer, [table], metadata)
    return buffer.getvalue()


def write_parquet(file: BinaryIO, tables: Iterable[pa.Table], metadata: Mapping[str, Any]) -> None:
    """Write tables of one schema, at least one, as `to_parquet` does, one after the other."""
    described = {METADATA_KEY: json.dumps(metadata).encode()}
    with ExitStack() as closing:
        writer: pq.ParquetWriter | None = None
        for table in tables:
            schema = table.schema.with_metadata(described)
            writer = writer or closing.enter_context(
                pq.ParquetWriter(file, schema, compression="zstd")
            )
            writer.write_table(table.cast(schema))


def read_metadata(content: bytes | BinaryIO) -> dict[str, Any]:
    """What `to_parquet` was given; of a file its end alone is read.

    Raises:
        ValueError: no Parquet file of this project.
        OSError: it cannot be read.
    """
    file = io.BytesIO(content) if isinstance(content, bytes) else content
    try:
        found = pq.read_schema(file).metadata or {}
    except pa.ArrowException as error:
        raise ValueError(f"no Parquet file ({error})") from error
    if METADATA_KEY not in found:
        raise ValueError("no file of okdhp-edge")
    metadata: dict[str, Any] = json.loads(found[METADATA_KEY])
    return metadata


def from_parquet(content: bytes) -> pa.Table:
    """The rows of a Parquet file."""
    return pq.read_table(io.BytesIO(content))
