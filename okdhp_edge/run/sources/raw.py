"""Raw frames from standard input, and screen capture."""

import selectors
import time
from typing import BinaryIO

import numpy as np

from okdhp_edge.errors import SourceError
from okdhp_edge.pose.preprocess import Image
from okdhp_edge.run.sources.base import Source

_POLL_S = 0.1
_SCREEN_FPS = 30.0


class RawSource(Source):
    """Frames of `size` (width, height) one after the other, three bytes a pixel, BGR.

    Args:
        stream: unbuffered and binary.
        fps: a rate makes it live: what comes while a frame is looked at is dropped. Without one,
            whoever writes has to wait.
    """

    def __init__(self, stream: BinaryIO, size: tuple[int, int], fps: float | None) -> None:
        super().__init__()
        self.name = f"raw frames of {size[0]}x{size[1]}"
        self.live, self.fps = fps is not None, fps
        self._stream, self._size = stream, size
        self._ready = selectors.DefaultSelector()
        try:
            self._ready.register(stream, selectors.EVENT_READ)
        except PermissionError:  # a file is always ready
            self._ready.close()
            self._waits = False
        else:
            self._waits = True

    def _next(self) -> Image | None:
        width, height = self._size
        image = np.empty((height, width, 3), dtype=np.uint8)
        rest = image.data.cast("B")
        while rest:
            count = self._fill(rest)
            if not count:
                if self._stopped.is_set() or (self._number and len(rest) == image.nbytes):
                    return None
                if len(rest) == image.nbytes:
                    raise SourceError("the input is empty", "check the program that sends frames")
                raise SourceError(
                    f"the input ended {len(rest)} bytes before the end of a {width}x{height} frame",
                    "send BGR frames of the size given in --source stdin:WIDTHxHEIGHT",
                )
            rest = rest[count:]
        return image

    def _fill(self, rest: memoryview) -> int:
        """Bytes read; none at the end of the stream, or when asked to stop."""
        while self._waits and not self._ready.select(_POLL_S):
            if self._stopped.is_set():
                return 0
        return self._stream.readinto(rest) or 0  # type: ignore[attr-defined]

    def _release(self) -> None:
        if self._waits:
            self._ready.close()


class ScreenSource(Source):
    """What is on the screen, or on a part (x, y, width, height) of it."""

    live = True

    def __init__(self, region: tuple[int, int, int, int] | None, fps: float | None) -> None:
        super().__init__()
        try:
            import mss
        except ImportError as error:
            raise SourceError(
                "the screen cannot be read", "pip install okdhp-edge[screen]"
            ) from error
        self.name, self.fps = "screen", fps or _SCREEN_FPS
        try:
            self._screen = mss.mss()
            whole = self._screen.monitors[0]
        except Exception as error:  # its own kinds, by platform
            raise SourceError(
                f"the screen cannot be read ({error})", "run it in a desktop session"
            ) from error
        names = ("left", "top", "width", "height")
        self._region = dict(zip(names, region, strict=True)) if region else whole
        self._due = time.perf_counter()

    def _next(self) -> Image | None:
        assert self.fps
        if self._stopped.wait(max(0.0, self._due - time.perf_counter())):
            return None
        self._due = max(self._due + 1 / self.fps, time.perf_counter() - 1 / self.fps)
        try:
            shown = self._screen.grab(self._region)
        except Exception as error:  # its own kinds, by platform
            raise SourceError(
                f"the screen cannot be read any more ({error})", "check the region and the session"
            ) from error
        return np.ascontiguousarray(np.asarray(shown)[..., :3])

    def _release(self) -> None:
        self._screen.close()
