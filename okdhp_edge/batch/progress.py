"""Frames that workers of this machine have done, while they are at a segment.

Each worker keeps its count in a file of a temporary folder; on a cluster segments are counted only
when they are whole.
"""

import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from okdhp_edge.system.progress import Report

_INTERVAL_S = 1.0


class FrameCounter:
    """Counts a worker's frames.

    Args:
        folder: of the driver; None: nobody asks.
    """

    def __init__(self, folder: str | None) -> None:
        self._file = Path(folder) / str(os.getpid()) if folder else None
        self._count = _read_count(self._file) if self._file else 0
        self._written = 0.0

    def add(self) -> None:
        """One more frame."""
        self._count += 1
        if time.monotonic() - self._written >= _INTERVAL_S:
            self.close()

    def close(self) -> None:
        """Write the count; the next counter of this worker goes on from it."""
        self._written = time.monotonic()
        if self._file:
            with suppress(OSError):  # the driver has ended
                self._file.write_text(str(self._count))


def _read_count(file: Path) -> int:
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return 0  # not there yet, or being written


class BatchProgress:
    """Reports frames done of those expected, and the workers' rates.

    Args:
        expected: frames in all; 0: not known.
        folder: where workers count; None: there are only whole segments.
    """

    def __init__(self, report: Report, expected: int, folder: Path | None) -> None:
        self._report, self._expected, self._folder = report, expected, folder
        self._started = time.monotonic()
        self._done = 0
        self._lock = threading.Lock()

    def update(self, done: int = 0) -> None:
        """Report anew.

        Args:
            done: frames of segments that are whole.
        """
        files = sorted(self._folder.iterdir()) if self._folder else []
        counts = [_read_count(file) for file in files if file.is_file()]
        with self._lock:
            self._done = max(self._done, done, sum(counts))
            if self._expected:
                self._done = min(self._done, self._expected)
            self._report("frames", self._done, self._expected, self._describe_rate(counts))

    def _describe_rate(self, counts: Sequence[int]) -> str:
        """Of all workers, and of each."""
        seconds = max(time.monotonic() - self._started, 1e-3)
        whole, *each = (f"{count / seconds:.0f}" for count in (self._done, *counts))
        by_worker = f" ({' + '.join(each)} by worker)" if len(each) > 1 else ""
        return f"{whole} FPS{by_worker}"


@contextmanager
def watch_progress(report: Report, expected: int, folder: str | None) -> Iterator[BatchProgress]:
    """Reports every second, from a thread, until the end."""
    progress = BatchProgress(report, expected, Path(folder) if folder else None)
    ended = threading.Event()

    def repeat() -> None:
        while not ended.wait(_INTERVAL_S):
            progress.update()

    thread = threading.Thread(target=repeat, name="batch-progress", daemon=True)
    if folder:
        thread.start()
    try:
        yield progress
    finally:
        ended.set()
        if folder:
            thread.join()
