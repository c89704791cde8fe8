"""The interface of every frame source."""

import threading
import time
from abc import ABC, abstractmethod
from typing import Any, NamedTuple

from okdhp_edge.pose.preprocess import Image

DEFAULT_FPS = 30.0
"""Of streams that say no rate."""


class Frame(NamedTuple):
    """One image and when it came.

    Attributes:
        number: counted from 0 over all that the source gave.
        image: BGR.
        read_ns: what reading it took, waiting for a camera included.
        captured_ns: when it was there, on the monotonic clock.
        seconds: into the stream: of a video as the file says, of a live source by the clock.
        name: of an image file, else empty.
    """

    number: int
    image: Image
    read_ns: int
    captured_ns: int
    seconds: float
    name: str = ""


class Source(ABC):
    """A stream of frames, read from one thread.

    Attributes:
        name: for people.
        live: whether frames pass whether or not they are read.
        continuous: whether a frame shows the same scene as the one before.
        fps: nominal rate, None where there is none.
        facts: what a report should know: what a device granted, how often it came back.
        notes: what was left out and why, a line each, for people.
    """

    name: str
    live = False
    continuous = True
    fps: float | None = None

    def __init__(self) -> None:
        self.facts: dict[str, Any] = {}
        self.notes: list[str] = []
        self._number = 0
        self._first_ns = self._skipping_ns = 0
        self._stopped = threading.Event()
        self._reading = threading.Lock()

    def read(self) -> Frame | None:
        """The next frame, None at the end.

        Raises:
            SourceError: the stream broke.
        """
        started = time.perf_counter_ns()
        with self._reading:
            image = self._next()
        now = time.perf_counter_ns()
        if image is None:
            return None
        self._first_ns = self._first_ns or now
        seconds, name = self._seconds_in(now), self._image_name()
        frame = Frame(self._number, image, now - started + self._skipping_ns, now, seconds, name)
        self._skipping_ns = 0
        self._number += 1
        return frame

    def _seconds_in(self, now_ns: int) -> float:
        """How far into the stream the frame that has just been read stands."""
        if self.live:
            return (now_ns - self._first_ns) / 1e9
        return self._number / (self.fps or (DEFAULT_FPS if self.continuous else 1.0))

    def skip(self) -> bool:
        """Pass over a frame; False at the end. The time counts as the next frame's."""
        started = time.perf_counter_ns()
        with self._reading:
            passed = self._pass_over()
        self._skipping_ns += time.perf_counter_ns() - started
        self._number += passed
        return passed

    @abstractmethod
    def _next(self) -> Image | None:
        """The next image."""

    def _image_name(self) -> str:
        """Of the frame that has just been read."""
        return ""

    def _pass_over(self) -> bool:
        """What `skip` does; sources that can leave out the decoding override it."""
        return self._next() is not None

    def stop(self) -> None:
        """Asks a read that waits to end the stream; from any thread."""
        self._stopped.set()

    def close(self) -> None:
        """Release the device or file; safe to call twice.

        Under a thread that still reads, nothing is released: its decoder would read freed memory.
        """
        if self._reading.acquire(blocking=False):
            try:
                self._release()
            finally:
                self._reading.release()

    def _release(self) -> None:  # noqa: B027 - most sources hold nothing
        """Release the device or file; called once or more."""
