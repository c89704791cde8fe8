"""Frames whose inference is under way, and the boxes that theirs come from."""

from collections import deque
from functools import partial

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
        self._clock, self._overlap = estimator.clock, overlap
        self.begun_ns = self.done_ns = estimator.clock.now()
        backend, batch = estimator.backend, prepared.crop.image[None]
        self._wait = backend.infer_async(batch) if overlap else partial(backend.infer_all, batch)

    def result(self, following: "InFlightRequest | None") -> Heatmaps:
        """Wait for it; the one queued behind it begins then."""
        if not self._overlap:
            self.begun_ns = self._clock.now()
        heatmaps = self._wait()
        self.done_ns = self._clock.now()
        if following is not None:
            following.begun_ns = self.done_ns
        return heatmaps
