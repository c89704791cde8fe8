"""Frames whose inference is under way, and the boxes that theirs come from."""

from collections import deque

from okdhp_edge.inference.pose_estimator import PoseEstimator, PreparedCrop
from okdhp_edge.pose.crop import Box
from okdhp_edge.pose.heatmap import Heatmaps
from okdhp_edge.run.reader import SourceFrame


class BoxHistory:
    """Where a source's person was after its last two frames."""

    def __init__(self) -> None:
        self._boxes: deque[Box | None] = deque([None, None], maxlen=2)
        self._was_queued = False
        self._in_flight = 0

    def begin(self) -> None:
        """A frame is queued."""
        self._in_flight += 1

    def add(self, box: Box | None, *, was_queued: bool) -> None:
        """A frame is finished; `was_queued` behind the one before it."""
        self._boxes.append(box)
        self._was_queued = was_queued
        self._in_flight -= was_queued

    @property
    def next_box(self) -> Box | None:
        """The box of the next frame: that of the joints before last, whether or not the last joints
        are there already; of the last joints where their frame was waited for."""
        if self._was_queued and not self._in_flight:
            return self._boxes[0]
        return self._boxes[1]


class InFlightRequest:
    """A frame whose inference is queued or under way.

    Args:
        overlap: begin it now, beside the caller; else once its result is asked for.
    """

    def __init__(
        self, source_frame: SourceFrame, prepared: PreparedCrop, estimator: PoseEstimator,
        *, overlap: bool,
    ) -> None:  # fmt: skip
        self.source_frame, self.prepared = source_frame, prepared
        self._clock = estimator.clock
        self.begun_ns = self.done_ns = estimator.clock.now()
        self._backend, self._batch = estimator.backend, prepared.crop.image[None]
        self._wait = self._backend.infer_async(self._batch) if overlap else None

    def result(self, following: "InFlightRequest | None") -> Heatmaps:
        """Wait for it; the one queued behind it began when it was done, perhaps long ago."""
        if self._wait is None:
            self.begun_ns = self._clock.now()
            heatmaps = self._backend.infer_all(self._batch)
            self.done_ns = self._clock.now()
            return heatmaps
        heatmaps, self.done_ns = self._wait()
        if following is not None:
            following.begun_ns = max(following.begun_ns, self.done_ns)
        return heatmaps
