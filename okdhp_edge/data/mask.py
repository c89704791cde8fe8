"""Person masks: annotated or synthetic outlines, or the convex hull of the joints."""

from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from okdhp_edge.pose.crop import Affine, apply

MaskImage = NDArray[np.uint8]
"""(H, W), 255 on the person, 0 elsewhere."""

# A hull of joints runs inside the limbs: it is grown by this share of its own extent.
_HULL_MARGIN = 0.06
_FRACTION_BITS = 4


class Mask(Protocol):
    """A person's silhouette."""

    def warped(self, crop_from_frame: Affine, size: tuple[int, int]) -> MaskImage:
        """The silhouette as it lies in a crop of `size` (width, height)."""
        ...


@dataclass(frozen=True)
class PolygonMask:
    """Polygons (N, 2) in image pixels; their union is the person (COCO's `segmentation`)."""

    polygons: tuple[NDArray[np.float64], ...]

    def warped(self, crop_from_frame: Affine, size: tuple[int, int]) -> MaskImage:
        """The mask (H, W) uint8 in crop pixels of `size` (width, height)."""
        canvas = np.zeros((size[1], size[0]), dtype=np.uint8)
        for polygon in self.polygons:
            points = np.rint(apply(crop_from_frame, polygon) * 2**_FRACTION_BITS).astype(np.int32)
            cv2.fillPoly(canvas, [points], 255, cv2.LINE_8, _FRACTION_BITS)
        return canvas


@dataclass(frozen=True)
class HullMask:
    """The convex hull of the labelled joints, grown a little: for sets without outlines."""

    joints: NDArray[np.float32]

    def warped(self, crop_from_frame: Affine, size: tuple[int, int]) -> MaskImage:
        """The mask (H, W) uint8 in crop pixels of `size` (width, height)."""
        canvas = np.zeros((size[1], size[0]), dtype=np.uint8)
        if not len(self.joints):  # a box without anybody
            return canvas
        points = apply(crop_from_frame, self.joints)
        extent = float(np.ptp(points, axis=0).max())
        hull = np.rint(cv2.convexHull(points.astype(np.float32))).astype(np.int32)
        cv2.fillConvexPoly(canvas, hull, 255)
        # A stroke round the hull grows it, and shows even a hull of one point.
        stroke = max(1, round(2 * _HULL_MARGIN * extent))
        cv2.polylines(canvas, [hull], isClosed=True, color=255, thickness=stroke)
        return canvas
