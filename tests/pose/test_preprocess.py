import numpy as np

from okdhp_edge.pose.crop import apply, crop_from_frame
from okdhp_edge.pose.preprocess import warp


def test_a_dot_in_the_frame_lands_where_the_transform_says():
    frame = np.zeros((200, 300, 3), np.uint8)
    frame[117:120, 203:206] = 255
    transform = crop_from_frame(np.array([150.0, 60, 100, 100]), (128, 128), 1.25)
    crop = warp(frame, transform, (128, 128), (0, 0, 0))
    rows, columns = np.nonzero(crop[:, :, 0] > 127)
    np.testing.assert_allclose(
        [columns.mean(), rows.mean()], apply(transform, np.array([204.0, 118.0])), atol=0.3
    )


def test_outside_the_frame_stands_the_border():
    crop = warp(
        np.full((10, 10, 3), 200, np.uint8),
        crop_from_frame(np.array([-50.0, -50, 20, 20]), (32, 32), 1.0),
        (32, 32),
        (104, 116, 124),
    )
    assert (crop == [104, 116, 124]).all()
