"""One person's joints in a box of a frame: warp, infer, decode."""

import numpy as np

from okdhp_edge.backends.base import Backend
from okdhp_edge.latency import StageClock
from okdhp_edge.pose.crop import Box, apply, compose, crop_from_frame, heatmap_from_crop, invert
from okdhp_edge.pose.heatmap import decode
from okdhp_edge.pose.preprocess import Image, warp
from okdhp_edge.pose.result import Pose


class Estimator:
    """Joints from a loaded model; its card says how to cut, and how to read the heatmaps."""

    def __init__(self, backend: Backend, clock: StageClock) -> None:
        self._backend = backend
        self._clock = clock
        self._spec = backend.card.input
        self._decoder = backend.card.decoder
        self._skeleton = backend.card.skeleton.skeleton()
        self._crop_from_heatmap = invert(heatmap_from_crop(self._decoder.stride))

    def pose_in(self, frame: Image, box: Box) -> Pose:
        """The joints of the person in `box` (x, y, w, h, unpadded), in frame pixels."""
        with self._clock.stage("preprocess"):
            transform = crop_from_frame(box, self._spec.size, self._spec.box_padding)
            crop = warp(frame, transform, self._spec.size, self._spec.border)
        with self._clock.stage("infer"):
            heatmaps = self._backend.infer(crop[None])
        with self._clock.stage("decode"):
            decoded = decode(heatmaps, self._decoder.kind, self._decoder.sigma)
            frame_from_heatmap = compose(invert(transform), self._crop_from_heatmap)
            xy = apply(frame_from_heatmap, decoded.xy_BK2[0]).astype(np.float32)
            return Pose(self._skeleton, xy, decoded.score_BK[0])
