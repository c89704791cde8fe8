"""A preview image of a data set: samples as labelled, and as the network will see them."""

import cv2
import numpy as np

from okdhp_edge.artifacts.card import InputSpec
from okdhp_edge.data.augment import Augmentation, make_training_crop
from okdhp_edge.data.sample import PoseDataset, Sample
from okdhp_edge.pose.crop import apply, heatmap_from_crop
from okdhp_edge.pose.draw import draw_skeleton
from okdhp_edge.pose.heatmap import gaussians
from okdhp_edge.pose.preprocess import Image, resize_within

_NUM_COLUMNS = 6
_STRIDE = 4
_COLOURMAP = cv2.COLORMAP_JET


def draw_preview(
    poses: PoseDataset,
    spec: InputSpec,
    augmentation: Augmentation,
    sigma: float,
    count: int,
    seed: int,
) -> Image:
    """Columns of: the sample with its box and skeleton, its augmented crop, the crop's targets."""
    rng = np.random.default_rng(seed)
    chosen = rng.choice(len(poses), size=min(count, len(poses)), replace=False)
    columns = [
        _draw_column(poses, poses.samples[i], spec, augmentation, sigma, rng)
        for i in sorted(chosen)
    ]
    blank = np.full_like(columns[0], 255)
    columns += [blank] * (-len(columns) % min(_NUM_COLUMNS, len(columns)))
    width = min(_NUM_COLUMNS, len(columns))
    rows = [np.hstack(columns[i : i + width]) for i in range(0, len(columns), width)]
    return np.vstack(rows)


def _draw_column(
    poses: PoseDataset,
    sample: Sample,
    spec: InputSpec,
    augmentation: Augmentation,
    sigma: float,
    rng: np.random.Generator,
) -> Image:
    crop = make_training_crop(sample, poses.skeleton, spec, augmentation, rng)
    image = np.ascontiguousarray(crop.image[..., :3])  # without a teacher's mask
    drawn = image.copy()
    draw_skeleton(drawn, poses.skeleton, crop.xy, crop.weight > 0, 1)
    size = (spec.width // _STRIDE, spec.height // _STRIDE)
    targets = gaussians(apply(heatmap_from_crop(_STRIDE), crop.xy), size, sigma)
    strongest = (targets * crop.weight[:, None, None]).max(axis=0)
    heat = cv2.resize((strongest * 255).astype(np.uint8), spec.size, interpolation=cv2.INTER_CUBIC)
    tinted = cv2.addWeighted(image, 0.4, cv2.applyColorMap(heat, _COLOURMAP), 0.6, 0)
    tiles = [
        draw_labelled_tile(poses, sample, spec.width),
        drawn,
        np.asarray(tinted, dtype=np.uint8),
    ]
    framed = [cv2.copyMakeBorder(t, 2, 2, 2, 2, cv2.BORDER_CONSTANT, value=(255, 255, 255))
              for t in tiles]  # fmt: skip
    return np.vstack([np.asarray(t, dtype=np.uint8) for t in framed])


def draw_labelled_tile(poses: PoseDataset, sample: Sample, side: int) -> Image:
    """The image around the person, letterboxed to a square, with box and skeleton."""
    image = sample.image.read()
    x, y, w, h = sample.box
    margin = 0.35 * max(w, h)
    left, top = (max(0, int(v - margin)) for v in (x, y))
    right, bottom = (max(0, int(v + margin) + 1) for v in (x + w, y + h))
    shown = image[top:bottom, left:right]
    if not shown.size:  # a box outside of the image
        return np.full((side, side, 3), 230, dtype=np.uint8)
    scale = side / max(shown.shape[:2])
    small = resize_within(shown, (side, side))
    canvas = np.full((side, side, 3), 230, dtype=np.uint8)
    canvas[: small.shape[0], : small.shape[1]] = small
    corner = (np.array([x, y]) - [left, top]) * scale
    opposite = corner + np.array([w, h]) * scale
    cv2.rectangle(canvas, tuple(int(v) for v in corner), tuple(int(v) for v in opposite),
                  (255, 255, 255), 1)  # fmt: skip
    draw_skeleton(canvas, poses.skeleton, (sample.xy - [left, top]) * scale, sample.labelled, 1)
    return canvas
