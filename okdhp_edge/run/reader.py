"""Threads between sources and loop: the latest frame of a camera, every frame of a file."""

import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

from okdhp_edge.errors import SourceError
from okdhp_edge.run.sources.base import Frame, Source

_FILE_BUFFER_FRAMES = 4
_POLL_S = 0.1
# Longer than the longest a source blocks in a read.
_JOIN_TIMEOUT_S = 12.0


@dataclass(frozen=True, kw_only=True)
class FramePolicy:
    """Which frames are looked at.

    Attributes:
        live: keep the newest frame only (True), every one (False), or as the source is (None).
        stride: every n-th.
        max_fps: no more than so many a second.
        overlap: read, estimate and hand out frames at the same time, in threads of their own; else
            in turn, in the caller's thread: slower by itself, and cheaper for whoever fills the
            other cores.
    """

    live: bool | None = None
    stride: int = 1
    max_fps: float | None = None
    overlap: bool = True

    def __post_init__(self) -> None:
        if self.stride < 1 or (self.max_fps is not None and self.max_fps <= 0):
            raise SourceError(
                f"cannot take every {self.stride}. frame, at most {self.max_fps} a second",
                "set stride to 1 or more, max_fps above 0",
            )

    def drops_frames(self, source: Source) -> bool:
        """Whether only the newest frame of this source is looked at."""
        return source.live if self.live is None else self.live


DEFAULT_POLICY = FramePolicy()
"""Every frame of a file, the newest of a camera."""


class SourceFrame(NamedTuple):
    """A frame, and which source gave it."""

    source_index: int
    frame: Frame


class FrameReader:
    """Reads one source ahead of the loop.

    From a live source only the newest frame is kept, and each one replaced unseen is counted in
    `dropped`. From a file a short buffer is filled and nothing is lost. With a stride all but
    every n-th frame are passed over and counted in `skipped`.
    """

    def __init__(
        self, source: Source, changed: threading.Condition, stride: int = 1, *, live: bool
    ) -> None:
        self.captured = self.dropped = self.skipped = 0
        self.ended = False
        self.error: BaseException | None = None
        self._source, self.stride, self.live = source, stride, live
        self._changed = changed
        self._buffer: deque[Frame] = deque()
        self._stop = threading.Event()
        self.thread = threading.Thread(target=self._read_all, name="frame-reader", daemon=True)

    def take(self) -> Frame | None:
        """A frame if there is one; only while holding the condition."""
        if not self._buffer:
            return None
        self._changed.notify_all()  # there is room again
        return self._buffer.popleft()

    @property
    def unprocessed(self) -> int:
        """Frames that were read and not taken: more than none once a run was ended early."""
        return len(self._buffer)

    @property
    def done(self) -> bool:
        """Whether nothing more will come."""
        return self.ended and not self._buffer

    def stop(self) -> None:
        """End the thread, wherever it waits."""
        self._stop.set()
        self._source.stop()

    def read_if_empty(self) -> None:
        """Read a frame in the caller's thread, unless one waits or there is none."""
        if not self._buffer and not self.ended:
            self._read_one()

    def _read_all(self) -> None:
        while not self.ended:
            self._read_one()

    def _read_one(self) -> None:
        """Read a frame into the buffer, or find that there is none."""
        try:
            if not self._stop.is_set() and (frame := self._source.read()) is not None:
                self.captured += 1
                self._publish(frame)
                self._skip_stride()
                return
        except BaseException as error:
            self.error = error
        with self._changed:
            self.ended = True
            self._changed.notify_all()

    def _skip_stride(self) -> None:
        for _ in range(self.stride - 1):
            if self._stop.is_set() or not self._source.skip():
                return
            self.captured += 1
            self.skipped += 1

    def _publish(self, frame: Frame) -> None:
        with self._changed:
            if self.live:
                self.dropped += len(self._buffer)
                self._buffer.clear()
            while len(self._buffer) >= _FILE_BUFFER_FRAMES and not self._stop.is_set():
                self._changed.wait(_POLL_S)
            self._buffer.append(frame)
            self._changed.notify_all()


class FrameReaders:
    """All sources together. Use as a context manager; leaving it stops threads and sources."""

    def __init__(self, sources: Sequence[Source], policy: FramePolicy = DEFAULT_POLICY) -> None:
        self._sources, self._reads_ahead = sources, policy.overlap
        self._changed = threading.Condition()
        self.each = [
            FrameReader(source, self._changed, policy.stride, live=policy.drops_frames(source))
            for source in sources
        ]
        self._next = 0

    def __enter__(self) -> Self:
        if self._reads_ahead:
            for reader in self.each:
                reader.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for reader in self.each:
            reader.stop()
        deadline = time.monotonic() + _JOIN_TIMEOUT_S
        for reader, source in zip(self.each, self._sources, strict=True):
            if self._reads_ahead:
                reader.thread.join(timeout=max(0.0, deadline - time.monotonic()))
            source.close()

    def take(
        self, *, unless: threading.Event | None = None, wait: bool = True
    ) -> SourceFrame | None:
        """Wait for a frame, of the sources in turn; None when all have ended.

        Args:
            unless: once set, None at once.
            wait: without, None where no frame is there yet; an error waits too.

        Raises:
            SourceError: whatever stopped a source, after the frames before it were handed out.
        """
        with self._changed:
            while unless is None or not unless.is_set():
                for step in range(len(self.each)):
                    source_index = (self._next + step) % len(self.each)
                    reader = self.each[source_index]
                    if not self._reads_ahead:
                        reader.read_if_empty()
                    if frame := reader.take():
                        self._next = source_index + 1
                        return SourceFrame(source_index, frame)
                    # A lost camera is not hidden by another one that goes on.
                    if wait and reader.live and reader.error is not None:
                        raise reader.error
                if not wait:
                    return None
                # A broken file costs no frame of the others.
                if all(reader.done or reader.error is not None for reader in self.each):
                    for reader in self.each:
                        if reader.error is not None:
                            raise reader.error
                    return None
                self._changed.wait(_POLL_S)
        return None
