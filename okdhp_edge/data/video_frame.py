"""A decoded video frame to an image."""

from typing import cast

import av
import cv2
import numpy as np
from av.video.reformatter import VideoReformatter

from okdhp_edge.pose.preprocess import Image

_CV2_ROTATIONS = {
    90: cv2.ROTATE_90_COUNTERCLOCKWISE,
    180: cv2.ROTATE_180,
    270: cv2.ROTATE_90_CLOCKWISE,
}


def convert_frame(frame: av.VideoFrame, reformatter: VideoReformatter) -> Image:
    """(H, W, 3) BGR, turned as the file says.

    Args:
        reformatter: kept from frame to frame, which saves its preparation.
    """
    converted = reformatter.reformat(frame, format="bgr24")
    plane = converted.planes[0]
    rows = np.frombuffer(cast("bytes", plane), np.uint8).reshape(-1, abs(plane.line_size))
    if plane.line_size < 0:  # stored from the bottom up, as in uncompressed AVI
        rows = np.ascontiguousarray(rows[::-1])
    image = rows[: frame.height, : 3 * frame.width].reshape(frame.height, frame.width, 3)
    turn = _CV2_ROTATIONS.get(round(frame.rotation) % 360)
    return np.asarray(image if turn is None else cv2.rotate(image, turn), dtype=np.uint8)
