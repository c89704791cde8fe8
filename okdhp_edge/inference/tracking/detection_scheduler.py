"""Scheduling of the person detector: synchronous, or in the background for live sources."""

from concurrent.futures import Future, ThreadPoolExecutor

from okdhp_edge.inference.person_detector import Detect, Detection
from okdhp_edge.pose.preprocess import Image


class DetectionScheduler:
    """Runs a detector when it is asked for.

    Args:
        background: beside the loop, its answer some frames late, so that no frame waits for it;
            else at once, so that every run of a file gives the same.
    """

    def __init__(self, detect: Detect, *, background: bool) -> None:
        self._detect = detect
        self._pool = ThreadPoolExecutor(1, "detector") if background else None
        self._asked: Future[list[Detection]] | None = None

    def poll_detections(self, frame: Image, *, wanted: bool) -> list[Detection] | None:
        """Persons' boxes, where an answer is there."""
        if self._pool is None:
            return self._detect(frame) if wanted else None
        if self._asked is not None:
            if not self._asked.done():
                return None
            answer, self._asked = self._asked.result(), None
            return answer
        if wanted:
            # A copy: whoever gets the frame's poses may draw into the frame meanwhile.
            self._asked = self._pool.submit(self._detect, frame.copy())
        return None

    def reset(self) -> None:
        """What was asked concerns another scene."""
        self._asked = None

    def close(self) -> None:
        """End the detector's thread."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
