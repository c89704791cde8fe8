"""A synthetic moving person, for running without a camera."""

import time

from okdhp_edge.data.synthetic import SyntheticScene
from okdhp_edge.pose.preprocess import Image
from okdhp_edge.run.sources.base import Source

DEFAULT_NUM_FRAMES = 300
_SIZE_PX, _FPS = (640, 480), 30.0
_LOOP_FRAMES = 60


class SyntheticSource(Source):
    """Frames drawn one by one; a rate makes it live, as a camera would be.

    Drawing takes longer than some models do: live frames are drawn before the first is given, two
    seconds of them, and shown to and fro.

    Args:
        frames: how many there are.
        rate: frames per second of a live source; None gives every frame when it is asked for.
    """

    def __init__(self, frames: int = DEFAULT_NUM_FRAMES, rate: float | None = None) -> None:
        super().__init__()
        self.name, self.fps, self.live = "synthetic", rate or _FPS, rate is not None
        self._frames = frames
        self._scene = SyntheticScene(_SIZE_PX)
        self._drawn = [self._draw(i) for i in range(_LOOP_FRAMES)] if self.live else []
        self._start: float | None = None

    def _draw(self, number: int) -> Image:
        return self._scene.frame(number / _FPS)[0]

    def _next(self) -> Image | None:
        if self._number >= self._frames:
            return None
        if not self.live:
            return self._draw(self._number)
        now = time.perf_counter()
        self._start = now if self._start is None else self._start
        assert self.fps
        if self._stopped.wait(max(0.0, self._start + self._number / self.fps - now)):
            return None
        place = self._number % (2 * _LOOP_FRAMES - 2)
        return self._drawn[min(place, 2 * _LOOP_FRAMES - 2 - place)]
