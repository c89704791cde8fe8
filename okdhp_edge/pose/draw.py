"""Draw skeletons into images."""

import cv2
import numpy as np
from numpy.typing import NDArray

from okdhp_edge.pose.preprocess import Image
from okdhp_edge.pose.skeleton import Skeleton

_LEFT_COLOUR, _RIGHT_COLOUR, _MIDDLE_COLOUR = (80, 200, 80), (60, 120, 250), (230, 190, 60)
_FRACTION_BITS = 3


def get_colour(joint: str) -> tuple[int, int, int]:
    """BGR: the person's left in green, right in orange, the middle in blue."""
    if joint.startswith("left_"):
        return _LEFT_COLOUR
    return _RIGHT_COLOUR if joint.startswith("right_") else _MIDDLE_COLOUR


def draw_skeleton(
    image: Image,
    skeleton: Skeleton,
    xy_K2: NDArray[np.floating],
    shown_K: NDArray[np.bool_],
    thickness: int | None = None,
) -> None:
    """Draw limbs and joints into `image`; a limb appears where both of its ends are shown."""
    line = thickness or max(1, round(max(image.shape[:2]) / 320))
    points = [_to_fixed_point(p) for p in np.nan_to_num(xy_K2)]
    for (a, b), (name_a, name_b) in zip(skeleton.limb_index, skeleton.limbs, strict=True):
        if shown_K[a] and shown_K[b]:
            colour = (
                get_colour(name_a) if get_colour(name_a) == get_colour(name_b) else _MIDDLE_COLOUR
            )
            cv2.line(image, points[a], points[b], colour, line, cv2.LINE_AA, _FRACTION_BITS)
    for point, joint, shown in zip(points, skeleton.joints, shown_K, strict=True):
        if shown:
            radius = (line + 1) << _FRACTION_BITS
            cv2.circle(image, point, radius, get_colour(joint), -1, cv2.LINE_AA, _FRACTION_BITS)


def draw_label(
    image: Image, text: str, corner_xy: NDArray[np.floating], scale: float = 0.5
) -> None:
    """Small white text with a dark edge above a corner, within the image; larger in larger
    images."""
    scale *= max(1.0, max(image.shape[:2]) / 800)
    edge = max(1, round(2 * scale))
    (width, height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
    x = int(np.clip(corner_xy[0], edge, max(edge, image.shape[1] - width - edge)))
    y = int(np.clip(corner_xy[1] - 2 * edge, height + edge, max(height + edge, image.shape[0])))
    # Shadows, not a thicker pen: that would make the letters wider too.
    for shift in ((-edge, 0), (edge, 0), (0, -edge), (0, edge)):
        _put(image, text, (x + shift[0], y + shift[1]), scale, (0, 0, 0))
    _put(image, text, (x, y), scale, (255, 255, 255))


def _put(
    image: Image, text: str, origin: tuple[int, int], scale: float, colour: tuple[int, int, int]
) -> None:
    font, pen = cv2.FONT_HERSHEY_SIMPLEX, max(1, round(scale))
    cv2.putText(image, text, origin, font, scale, colour, pen, cv2.LINE_AA)


def _to_fixed_point(xy: NDArray[np.floating]) -> tuple[int, int]:
    limited = np.clip(xy, -1e5, 1e5) * (1 << _FRACTION_BITS)
    return round(float(limited[0])), round(float(limited[1]))
