"""A thread between source and loop: the latest frame of a camera, every frame of a file."""

import queue
import threading
from collections import deque
from types import TracebackType
from typing import Self

from okdhp_edge.run.source import Frame, Source

_FILE_BUFFER = 4
_POLL_S = 0.1


class FrameReader:
    """Reads ahead of the loop. Use as a context manager; leaving it stops the thread.

    From a live source only the newest frame is kept, and each one replaced unseen is counted in
    `dropped`. From a file a short queue is filled and nothing is lost.
    """

    def __init__(self, source: Source) -> None:
        self.dropped = 0
        self.captured = 0
        self._source = source
        self._latest: deque[Frame] = deque(maxlen=1)
        self._queue: queue.Queue[Frame] = queue.Queue(_FILE_BUFFER)
        self._lock = threading.Condition()
        self._ended = False
        self._error: BaseException | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read_all, name="frame-reader", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join(timeout=5)
        self._source.close()

    def next(self) -> Frame | None:
        """Wait for a frame; None at the end of the stream.

        Raises:
            SourceError: whatever stopped the source, after the frames before it were handed out.
        """
        frame = self._next_live() if self._source.live else self._next_queued()
        if frame is None and self._error is not None:
            raise self._error
        return frame

    def _next_live(self) -> Frame | None:
        with self._lock:
            while not self._latest and not self._ended:
                self._lock.wait(_POLL_S)
            return self._latest.popleft() if self._latest else None

    def _next_queued(self) -> Frame | None:
        while True:
            try:
                return self._queue.get(timeout=_POLL_S)
            except queue.Empty:
                # Ended is set after the last put, so an empty queue then stays empty.
                if self._ended and self._queue.empty():
                    return None

    def _read_all(self) -> None:
        try:
            while not self._stop.is_set() and (frame := self._source.read()) is not None:
                self.captured += 1
                self._hand_over(frame)
        except BaseException as error:
            self._error = error
        finally:
            with self._lock:
                self._ended = True
                self._lock.notify_all()

    def _hand_over(self, frame: Frame) -> None:
        if self._source.live:
            with self._lock:
                self.dropped += len(self._latest)
                self._latest.append(frame)
                self._lock.notify_all()
            return
        while not self._stop.is_set():
            try:
                self._queue.put(frame, timeout=_POLL_S)
            except queue.Full:
                continue
            return
