"""The One-Euro filter (Casiez et al., CHI 2012): steady when still, quick when moving.

A low-pass filter whose cut-off rises with speed. Positions are divided by the person's size before
they are filtered, so that the same settings suit people near and far.
"""

import math

import numpy as np
from numpy.typing import NDArray

# Of the paper, section 3; speeds in person sizes per second. At rest: lower trembles less and lags
# more; by how much the cut-off rises with speed: higher lags less; of the speed itself.
_MIN_CUTOFF_HZ, _BETA, _SPEED_CUTOFF_HZ = 1.5, 4.0, 1.0


class OneEuro:
    """Filters the joints of one person; times may be uneven."""

    def __init__(self) -> None:
        self._seconds: float | None = None
        self._xy: NDArray[np.float64]
        self._speed: NDArray[np.float64]

    def __call__(
        self, xy_K2: NDArray[np.floating], seconds: float, size: float
    ) -> NDArray[np.float32]:
        """The filtered joints.

        Args:
            xy_K2: joints in pixels.
            seconds: when they were seen; a time not after the last starts afresh.
            size: of the person in pixels.
        """
        xy = np.asarray(xy_K2, dtype=np.float64)
        elapsed = 0.0 if self._seconds is None else seconds - self._seconds
        if elapsed <= 0:
            self._xy, self._speed = xy, np.zeros_like(xy)
        else:
            speed = (xy - self._xy) / elapsed
            self._speed = _blend(self._speed, speed, _compute_weight(_SPEED_CUTOFF_HZ, elapsed))
            fast = np.linalg.norm(self._speed, axis=1, keepdims=True) / max(size, 1.0)
            cutoff = _MIN_CUTOFF_HZ + _BETA * fast
            self._xy = _blend(self._xy, xy, _compute_weight(cutoff, elapsed))
        self._seconds = seconds
        return self._xy.astype(np.float32)


def _compute_weight(cutoff_hz: float | NDArray[np.float64], elapsed: float) -> NDArray[np.float64]:
    """Share of the new value (the paper's equation 5)."""
    return np.asarray(1 / (1 + 1 / (2 * math.pi * cutoff_hz * elapsed)))


def _blend(
    old: NDArray[np.float64], new: NDArray[np.float64], share: NDArray[np.float64]
) -> NDArray[np.float64]:
    return np.asarray(old + share * (new - old))
