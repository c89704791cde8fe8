"""The segments of a source to its result: each frame once, each person's id whole.

Neighbouring segments both hold the frames of their overlap (`plan.OVERLAP_S`). Persons whose boxes
coincide there are one and keep the earlier segment's id; others get new ids.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from okdhp_edge.batch.plan import Segment
from okdhp_edge.batch.storage import Storage
from okdhp_edge.batch.table import from_parquet, read_metadata, write_parquet
from okdhp_edge.errors import SourceError
from okdhp_edge.pose.crop import box_iou

RESULT_SUFFIX = ".parquet"

_MIN_IOU_SAME_PERSON = 0.5
_TIME_DIGITS = 4
_BOX = ("box_x", "box_y", "box_width", "box_height")


class Part(NamedTuple):
    """A segment's rows.

    Attributes:
        row_frames: (N,) index of each row's frame among those that were read.
        times: of the frames that were read.
        numbers: of the same, in the source; of a video from where reading began.
    """

    segment: Segment
    table: pa.Table
    row_frames: NDArray[np.int64]
    times: NDArray[np.float64]
    numbers: NDArray[np.int64]

    @property
    def own(self) -> NDArray[np.bool_]:
        """Which of the frames that were read are the segment's, and not of its overlap."""
        return _find_own(self.segment, self.times)


def count_own_frames(segment: Segment, metadata: Mapping[str, Any]) -> int:
    """Frames of a segment, without those of its overlap; from the metadata of its file."""
    return int(_find_own(segment, np.array(metadata["times"], np.float64)).sum())


def make_part(
    segment: Segment, table: pa.Table, times: Sequence[float], numbers: Sequence[int]
) -> Part:
    """A segment's rows as `RowCollector` has them."""
    return Part(
        segment, table, np.asarray(table["frame"], dtype=np.int64), np.array(times, np.float64),
        np.array(numbers, np.int64),
    )  # fmt: skip


def read_part(segment: Segment, content: bytes) -> Part:
    """A segment's rows from its file."""
    metadata: dict[str, Any] = read_metadata(content)
    return make_part(segment, from_parquet(content), metadata["times"], metadata["numbers"])


def write_result(
    storage: Storage, parts: Iterable[Part], metadata: Mapping[str, Any], *, has_ids: bool
) -> None:
    """Write the result of a source, whole or not at all.

    Args:
        parts: all segments, in order; two are held at a time.
        metadata: of the result, with the number of its `frames`.
        has_ids: whether persons are tracked, so that ids have to be matched.

    Raises:
        OutputError: it cannot be written.
        SourceError: none of the images of a folder could be read.
    """
    parts = iter(parts)
    first = next(parts)
    source = first.segment.source
    if not metadata["frames"] and source.images:
        raise SourceError(
            f"none of the {len(source.images)} images in {source.url} can be read",
            "check that they are whole",
        )
    tables = join_parts(chain([first], parts), has_ids=has_ids)
    with storage.create(source.name + RESULT_SUFFIX) as file:
        write_parquet(file, tables, metadata)


def join_parts(parts: Iterable[Part], *, has_ids: bool) -> Iterator[pa.Table]:
    """All rows of a source, a table for each segment; see `write_result`."""
    first_frame = next_id = 0
    before: Part | None = None
    for read in parts:
        part, segment = read, read.segment
        persons = np.asarray(part.table["person"], dtype=np.int64)
        if has_ids:
            # Images show other people each.
            comes_after = None if segment.source.images else before
            known = {} if comes_after is None else _match_persons(comes_after, part)
            for person in np.unique(persons).tolist():
                if person not in known:
                    known[person] = next_id
                    next_id += 1
            persons = np.array([known[p] for p in persons.tolist()], np.int64)
            part = part._replace(table=_replace_column(part.table, "person", persons))
        kept = part.own[part.row_frames]
        # The numbers of a video that is cut begin where its reading did.
        counted = not segment.is_whole and not segment.source.images
        index = first_frame + np.cumsum(part.own) - 1 if counted else part.numbers
        frames = index[part.row_frames]
        table = _replace_column(part.table, "frame", frames.astype(np.int64))
        yield table.filter(pa.array(kept))
        first_frame += int(part.own.sum())
        before = part


def _find_own(segment: Segment, times: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which of the frames that were read are the segment's, and not of its overlap."""
    return np.ones(len(times), bool) if segment.source.images else times >= segment.start


def _match_persons(before: Part, part: Part) -> dict[int, int]:
    """The earlier segment's id of each person of the overlap, by the mean IoU of their boxes."""
    scores: dict[tuple[int, int], list[float]] = defaultdict(list)
    earlier, later = _boxes_by_time(before), _boxes_by_time(part)
    for time in earlier.keys() & later.keys():
        for person, box in later[time]:
            for known, other in earlier[time]:
                scores[person, known].append(box_iou(box, other))
    means = sorted(((float(np.mean(v)), pair) for pair, v in scores.items()), reverse=True)
    matched: dict[int, int] = {}
    for mean, (person, known) in means:
        if mean < _MIN_IOU_SAME_PERSON:
            break
        if person not in matched and known not in matched.values():
            matched[person] = known
    return matched


def _boxes_by_time(part: Part) -> dict[float, list[tuple[int, NDArray[np.float64]]]]:
    boxes = np.column_stack([np.asarray(part.table[name], np.float64) for name in _BOX])
    persons = np.asarray(part.table["person"], dtype=np.int64)
    found: dict[float, list[tuple[int, NDArray[np.float64]]]] = defaultdict(list)
    for frame, person, box in zip(part.row_frames, persons, boxes, strict=True):
        found[round(float(part.times[frame]), _TIME_DIGITS)].append((int(person), box))
    return found


def _replace_column(table: pa.Table, name: str, values: NDArray[np.int64]) -> pa.Table:
    return table.set_column(table.schema.get_field_index(name), name, pa.array(values))
