"""Top-down pose estimation of all boxes of a frame in one batch: warp, infer, decode."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from okdhp_edge.backends.base import Backend
from okdhp_edge.inference.top_down import Crop, crop_for, image_from_heatmap
from okdhp_edge.pose.crop import Box, apply
from okdhp_edge.pose.heatmap import Heatmaps
from okdhp_edge.pose.preprocess import Image
from okdhp_edge.pose.result import Pose
from okdhp_edge.system.latency import StageClock

MAX_WARMUP_BATCH_SIZE = 8
"""Largest batch that is warmed up before a run begins."""


class PreparedCrop(NamedTuple):
    """A crop that waits for the network; times on the monotonic clock."""

    box: Box
    crop: Crop
    begun_ns: int
    done_ns: int


class PoseEstimator:
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

    def warm_up(self, most: int) -> None:
        """Run every batch size up to `most` once, since some runtimes compile for each; what was
        run before with this backend is not run again."""
        for count in range(self.backend.warm_batch_size + 1, most + 1):
            crops = np.zeros((count, self._spec.height, self._spec.width, 3), dtype=np.uint8)
            self.backend.infer_all(crops)
            self.backend.warm_batch_size = count

    def estimate(self, frame: Image, box: Box) -> Pose:
        """The joints of the person in `box` (x, y, w, h, unpadded), in frame pixels."""
        return self.estimate_many(frame, [box])[0]

    def estimate_many(self, frame: Image, boxes: Sequence[Box]) -> list[Pose]:
        """As `estimate`, for several boxes together."""
        if not boxes:
            return []
        with self.clock.stage("preprocess"):
            crops = [crop_for(self._spec, frame, box) for box in boxes]
            batch = np.stack([c.image for c in crops]) if len(crops) > 1 else crops[0].image[None]
        with self.clock.stage("infer"):
            heatmaps = self.backend.infer_all(batch)
        with self.clock.stage("decode"):
            return self._decode_poses(crops, heatmaps)

    def prepare(self, frame: Image, box: Box) -> "PreparedCrop":
        """The first half of `estimate`: the crop, whose inference can then be begun."""
        started = self.clock.now()
        crop = crop_for(self._spec, frame, box)
        return PreparedCrop(box, crop, started, self.clock.now())

    def decode(self, prepared: "PreparedCrop", heatmaps: Heatmaps) -> Pose:
        """The last part of `estimate`."""
        with self.clock.stage("decode"):
            return self._decode_poses([prepared.crop], heatmaps)[0]

    def _decode_poses(self, crops: Sequence[Crop], heatmaps: Heatmaps) -> list[Pose]:
        found = self._decoder.decode(heatmaps, self._skeleton.sigmas)
        return [
            Pose(self._skeleton, self._to_image(crop, xy), score)
            for crop, xy, score in zip(crops, *found, strict=True)
        ]

    def _to_image(self, crop: Crop, xy_K2: NDArray[np.float32]) -> NDArray[np.float32]:
        transform = image_from_heatmap(crop.crop_from_image, self._decoder.stride)
        return apply(transform, xy_K2).astype(np.float32)
