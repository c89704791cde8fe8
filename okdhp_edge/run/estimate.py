"""Joints of the persons in boxes of a frame: warp, infer, decode, all boxes in one batch."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from okdhp_edge.backends.base import Backend
from okdhp_edge.pose.crop import (
    Affine,
    Box,
    apply,
    compose,
    crop_from_frame,
    heatmap_from_crop,
    invert,
)
from okdhp_edge.pose.heatmap import Heatmaps
from okdhp_edge.pose.preprocess import Image, warp
from okdhp_edge.pose.result import Pose
from okdhp_edge.system.latency import StageClock

MOST_AT_ONCE = 8
"""Largest batch that is warmed up before a run begins."""


class PreparedCrop(NamedTuple):
    """A crop that waits for the network; times on the monotonic clock."""

    box: Box
    transform: Affine
    crop: Image
    begun_ns: int
    done_ns: int


class Estimator:
    """Joints from a loaded model; its card says how to crop, and how to read the heatmaps."""

    def __init__(self, backend: Backend, clock: StageClock) -> None:
        self.clock = clock
        self.set_backend(backend)

    def set_backend(self, backend: Backend) -> None:
        """From now on this model."""
        self.backend = backend
        self._spec = backend.card.input
        self._decoder = backend.card.decoder
        self._skeleton = backend.card.skeleton.skeleton()
        self._crop_from_heatmap = invert(heatmap_from_crop(self._decoder.stride))

    def warm_up(self, most: int) -> None:
        """Run every batch size up to `most` once: some runtimes compile for each."""
        for count in range(1, most + 1):
            crops = np.zeros((count, self._spec.height, self._spec.width, 3), dtype=np.uint8)
            self.backend.infer_all(crops)

    def estimate(self, frame: Image, box: Box) -> Pose:
        """The joints of the person in `box` (x, y, w, h, unpadded), in frame pixels."""
        return self.estimate_many(frame, [box])[0]

    def estimate_many(self, frame: Image, boxes: Sequence[Box]) -> list[Pose]:
        """As `estimate`, for several boxes together."""
        if not boxes:
            return []
        spec = self._spec
        with self.clock.stage("preprocess"):
            transforms = [crop_from_frame(box, spec.size, spec.box_padding) for box in boxes]
            crops = [warp(frame, transform, spec.size, spec.border) for transform in transforms]
            batch = np.stack(crops) if len(crops) > 1 else crops[0][None]
        with self.clock.stage("infer"):
            heatmaps = self.backend.infer_all(batch)
        with self.clock.stage("decode"):
            decoded = self._decoder.decode(heatmaps)
            return [
                Pose(self._skeleton, self._in_frame(transform, xy), score)
                for transform, xy, score in zip(transforms, *decoded, strict=True)
            ]

    def prepare(self, frame: Image, box: Box) -> "PreparedCrop":
        """The first half of `estimate`: the crop, whose inference can then be begun."""
        started = self.clock.now()
        transform = crop_from_frame(box, self._spec.size, self._spec.box_padding)
        crop = warp(frame, transform, self._spec.size, self._spec.border)[None]
        return PreparedCrop(box, transform, crop, started, self.clock.now())

    def decode(self, prepared: "PreparedCrop", heatmaps: Heatmaps) -> Pose:
        """The last part of `estimate`."""
        with self.clock.stage("decode"):
            decoded = self._decoder.decode(heatmaps)
            xy = self._in_frame(prepared.transform, decoded.xy_BK2[0])
            return Pose(self._skeleton, xy, decoded.score_BK[0])

    def _in_frame(self, transform: Affine, xy_K2: NDArray[np.float32]) -> NDArray[np.float32]:
        frame_from_heatmap = compose(invert(transform), self._crop_from_heatmap)
        return apply(frame_from_heatmap, xy_K2).astype(np.float32)
