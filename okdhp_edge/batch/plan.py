"""A source to segments of equal work."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from okdhp_edge.batch.sources import BatchSource

OVERLAP_S = 2.0
"""Before its own part each segment reads so much of the one before: its tracker settles there, and
ids are matched there."""
MAX_IMAGES_PER_SEGMENT = 500


@dataclass(frozen=True)
class Segment:
    """A part of a source: its frames with `start <= seconds < end`, or its images by index.

    Attributes:
        index: in the source.
        end: None for the rest.
        is_whole: whether it is all of its source.
    """

    source: BatchSource
    index: int
    start: float
    end: float | None
    is_whole: bool = False

    @property
    def begin(self) -> float:
        """Where reading begins."""
        return max(0.0, self.start - OVERLAP_S)

    @property
    def name(self) -> str:
        """Of its file."""
        return f"{self.index:06d}.parquet"


class WorkerPlan(NamedTuple):
    """How many processes do the work.

    Attributes:
        threads: of each one's inference; None: to be found by timing, up to `cores`.
        cores: that each one may use.
        is_one_piece: whether there is one piece of work in all, which the driver can do itself:
            a process of its own takes a second to start.
    """

    workers: int
    threads: int | None
    cores: int
    is_one_piece: bool = False


def plan_workers(
    sources: Sequence[BatchSource],
    workers: int | None,
    threads: int | None,
    segment_s: float | None,
    usable_cores: int,
) -> WorkerPlan:
    """One worker a core, or fewer with more cores each where there is less to share.

    Args:
        workers, threads: as asked for; None: chosen here.
        segment_s: as for `plan_segments`.
        usable_cores: of the machine that the work is done on.
    """
    pieces = sum(math.ceil(len(s.images) / MAX_IMAGES_PER_SEGMENT) or 1 for s in sources)
    if workers is None:
        workers = max(1, usable_cores // (threads or 1))
        workers = workers if segment_s else min(workers, pieces)
    cores = threads or max(1, usable_cores // workers)
    is_one_piece = pieces == 1 and not segment_s
    return WorkerPlan(workers, threads if workers == 1 else cores, cores, is_one_piece)


def plan_segments(
    source: BatchSource, duration_s: float, segment_s: float | None, stride: int = 1
) -> list[Segment]:
    """Cut a source.

    Args:
        duration_s: length of a video; 0 where it is not known: then it is not cut.
        segment_s: length of a segment; None: sources stay whole.
        stride: every how many images one is processed; segments begin with one that is.
    """
    if source.images:
        size = max(1, MAX_IMAGES_PER_SEGMENT // stride) * stride
        images = len(source.images)
        return [
            Segment(source, i, start, min(start + size, images), is_whole=images <= size)
            for i, start in enumerate(range(0, images, size))
        ]
    count = 1 if not segment_s or not duration_s else max(1, math.ceil(duration_s / segment_s))
    edges = [duration_s / count * i for i in range(count)]
    return [
        Segment(source, i, start, edges[i + 1] if i + 1 < count else None, is_whole=count == 1)
        for i, start in enumerate(edges)
    ]
