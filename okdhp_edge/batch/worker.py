"""One segment to a Parquet file of its rows, which is the result where it is all of its source;
runs in a process of its own."""

import contextlib
import errno
import os
import posixpath
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from okdhp_edge.backends.base import Backend
from okdhp_edge.backends.selection import AUTO, load_backend
from okdhp_edge.batch.join import make_part, write_result
from okdhp_edge.batch.plan import Segment
from okdhp_edge.batch.progress import FrameCounter
from okdhp_edge.batch.sources import BatchSource
from okdhp_edge.batch.storage import Storage, find_file_system, wrap_read_errors
from okdhp_edge.batch.table import FrameRecord, RowCollector, to_parquet
from okdhp_edge.errors import DataError, OkdhpError, OutputError, SourceError
from okdhp_edge.inference.open_detector import NO_DETECTOR, Detector, open_detector
from okdhp_edge.pose.preprocess import Image
from okdhp_edge.run.assemble import TrackingConfig, assemble
from okdhp_edge.run.controls import Controls
from okdhp_edge.run.reader import FramePolicy
from okdhp_edge.run.sources.base import Source
from okdhp_edge.run.sources.images import ImageSource
from okdhp_edge.run.sources.videos import VideoSource


@dataclass(frozen=True, kw_only=True)
class BatchOptions:
    """What all segments of a batch share; travels to the workers.

    Attributes:
        out: folder of the results, a path or URL.
        threads: CPU threads of a worker's inference.
        cores: that a worker may use; with one, frames are read and estimated in turn.
        key: hash of model and options, which results carry.
        stride: every n-th frame.
        progress: folder on this machine in which workers count their frames, and copy remote
            sources to; None for none.
        metadata: of each result: key, command, version and model card.
    """

    out: str
    model: str
    backend: str
    precision: str
    threads: int
    cores: int
    key: str
    people: Literal["auto", "one", "many"] = "auto"
    detector: str | None = None
    detector_backend: str = AUTO
    smooth: bool = False
    stride: int = 1
    progress: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class SegmentResult:
    """What a worker reports of a segment.

    Attributes:
        error: one line where it failed; empty where it is done.
        persons: rows of its own frames, those it shares with the segment before not counted.
        notes: what of the source was left out and why, a line each.
        wall_s, cpu_s: seconds, and those of all cores, without loading models.
        decode_s, infer_s: seconds of the frames' stages.
        storage_s: seconds for fetching the source and writing the rows.
    """

    segment: Segment
    worker: int
    error: str = ""
    notes: tuple[str, ...] = ()
    frames: int = 0
    persons: int = 0
    video_s: float = 0.0
    wall_s: float = 0.0
    cpu_s: float = 0.0
    decode_s: float = 0.0
    infer_s: float = 0.0
    storage_s: float = 0.0


def get_part_name(options: BatchOptions, segment: Segment) -> str:
    """Where a segment's rows lie until its source is whole."""
    return f".parts/{options.key[:16]}/{segment.source.name}/{segment.name}"


def describe_part(segment: Segment) -> dict[str, Any]:
    """What a part was made of: its source, and where that was cut."""
    return {
        "fingerprint": segment.source.fingerprint, "start": segment.start, "end": segment.end,
    }  # fmt: skip


def describe_result(options: BatchOptions, source: BatchSource, frames: int) -> dict[str, Any]:
    """The metadata of a source's result."""
    return options.metadata | {
        "source": source.url, "fingerprint": source.fingerprint, "frames": frames,
    }  # fmt: skip


def process_segment(options: BatchOptions, segment: Segment) -> SegmentResult:
    """Estimate a segment's poses and write them; errors of the source are in the result.

    Raises:
        OutputError: the results cannot be written, and so no other segment's.
        MemoryError: likewise, of this machine's memory.
    """
    try:
        return _process(options, segment)
    except (OutputError, MemoryError):
        raise
    except OkdhpError as error:
        text = str(error)
    except Exception as error:  # one source must not end the batch of an archive
        text = f"{segment.source.url}: {type(error).__name__}: {error}; please report this"
    return SegmentResult(segment, os.getpid(), error=text)


@lru_cache(maxsize=1)
def _load(model: str, backend: str, precision: str, threads: int) -> Backend:
    """One model per process, whatever number of segments it gets."""
    import cv2

    cv2.setNumThreads(1)
    return load_backend(model, backend, precision, threads, lambda _: None).backend


@lru_cache(maxsize=1)
def _load_detector(model: str, backend: str, threads: int) -> Detector:
    """Likewise."""
    return open_detector(model, backend=backend, threads=threads)


def _process(options: BatchOptions, segment: Segment) -> SegmentResult:
    backend = _load(options.model, options.backend, options.precision, options.threads)
    detector = None
    if options.detector not in (None, NO_DETECTOR):
        detector = _load_detector(str(options.detector), options.detector_backend, options.threads)
    started, cpu_started = time.perf_counter(), time.process_time()
    rows = RowCollector(segment.source.url, backend.card.skeleton.skeleton())
    decode_ns = infer_ns = 0
    with ExitStack() as closing:
        frames = closing.enter_context(contextlib.closing(FrameCounter(options.progress)))
        begun = time.perf_counter()
        source = open_segment(segment, closing, options.cores, options.progress)
        storage_s = time.perf_counter() - begun
        people = TrackingConfig(
            mode=options.people, smooth=options.smooth, detector=options.detector
        )
        policy = FramePolicy(live=False, stride=options.stride, overlap=options.cores > 1)
        pipeline = assemble([source], backend, people, policy, Controls(), closing, detector)
        for result in closing.enter_context(pipeline):
            frame = result.frame
            rows.add(frame.number, FrameRecord(frame.seconds, frame.name, result.poses))
            frames.add()
            decode_ns += result.stages.get("capture", 0)
            infer_ns += result.stages.get("infer", 0) + result.stages.get("detect", 0)
    table = rows.make_table()
    own = rows.times if segment.source.images else [t for t in rows.times if t >= segment.start]
    begun = time.perf_counter()
    _write(options, segment, rows, table, len(own))
    storage_s += time.perf_counter() - begun
    is_video = not segment.source.images and len(own) > 1
    return SegmentResult(
        segment, os.getpid(), notes=tuple(source.notes), frames=len(own),
        persons=int(np.count_nonzero(np.asarray(table["frame"]) >= len(rows.times) - len(own))),
        video_s=_measure_duration(own) if is_video else 0.0, wall_s=time.perf_counter() - started,
        cpu_s=time.process_time() - cpu_started,
        decode_s=decode_ns / 1e9, infer_s=infer_ns / 1e9, storage_s=storage_s,
    )  # fmt: skip


def _measure_duration(times: Sequence[float]) -> float:
    """Seconds of a video's frames, the last one's own included."""
    return (times[-1] - times[0]) * len(times) / (len(times) - 1)


def _write(
    options: BatchOptions, segment: Segment, rows: RowCollector, table: pa.Table, own_frames: int
) -> None:
    """A segment's file, or the result of a source that is not cut."""
    storage = Storage(options.out)
    if segment.is_whole:
        part = make_part(segment, table, rows.times, rows.numbers)
        metadata = describe_result(options, segment.source, own_frames)
        write_result(storage, [part], metadata, has_ids=options.people == "many")
        return
    metadata = describe_part(segment) | {"times": rows.times, "numbers": rows.numbers}
    storage.write(get_part_name(options, segment), to_parquet(table, metadata))


def open_segment(
    segment: Segment, closing: ExitStack, threads: int, folder: str | None = None
) -> Source:
    """The segment's frames, from a local copy where the source lies elsewhere.

    Args:
        threads: of the decoder.
        folder: for the copies; one that the command removes, should this process be ended.
    """
    place = tempfile.TemporaryDirectory(dir=folder, ignore_cleanup_errors=True)
    copies = Path(closing.enter_context(place))
    if segment.source.images:
        first = int(segment.start)
        chosen = segment.source.images[first : int(segment.end or 0)]
        return ImageListSource([_fetch(url, copies) for url in chosen], first)
    video = _fetch(segment.source.url, copies)
    return VideoPart(video, segment.begin, segment.end, threads)


def _fetch(url: str, folder: Path) -> Path:
    """The file, copied to a folder of this machine if it is not on it; its name stays."""
    if "://" not in url:
        return Path(url)
    fs, path = find_file_system(url, SourceError)
    copy = folder / posixpath.basename(path)
    with wrap_read_errors(url, fs):
        try:
            fs.get_file(path, str(copy))
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise OutputError(
                    f"no space for a copy of {url} in {folder.parent}", "set TMPDIR to another disk"
                ) from error
            raise
    return copy


class VideoPart(VideoSource):
    """The frames of a video between two times."""

    _truncated_remedy = "copy it again or re-encode it"

    def __init__(self, path: Path, begin: float, end: float | None, threads: int) -> None:
        super().__init__(path, threads)
        self._end = end
        self._is_cut = begin > 0 or end is not None
        if self._is_cut:
            try:
                self._reader.seek(begin)
            except DataError as error:
                raise SourceError(error.cause, error.remedy) from error

    def _next(self) -> Image | None:
        if self._end is None:
            return super()._next()
        found = self._reader.read()
        if found is None:
            self._check_end()
            return None
        return found.image if self._reader.seconds < self._end else None

    def _check_end(self) -> None:
        """One frame may be shown for long, so a part may end early or be empty. Whether the file is
        cut off is found with its last part, by what it holds."""
        reader = self._reader
        if not self._is_cut:
            super()._check_end()
            return
        doubtful = self._end is None and (reader.is_cut_off or self._number == 0)
        if reader.error or (doubtful and not reader.has_announced_packets()):
            why = f" ({reader.error})" if reader.error else ""
            raise SourceError(
                f"video {self.name} is truncated: nothing can be read after "
                f"{reader.seconds:.1f} of {reader.duration_s:.1f} s{why}",
                self._truncated_remedy,
            )


class ImageListSource(ImageSource):
    """Images by their paths; one that cannot be read costs no other, and none at all is no error:
    other segments of the folder may have some.

    Args:
        first: number of the first, in the whole source.
    """

    def __init__(self, files: list[Path], first: int) -> None:
        super().__init__(files[0])
        self._files, self._whole, self._number = files, True, first

    def _check_any_read(self) -> None:
        """The driver does, of the whole folder."""
