import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from okdhp_edge.pose.crop import apply, crop_from_frame
from okdhp_edge.pose.preprocess import letterbox, resize_within, warp


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


def test_a_large_person_is_averaged_down_without_moving():
    frame = np.zeros((1200, 1600, 3), np.uint8)
    frame[690:721, 890:921] = 255
    transform = crop_from_frame(np.array([400.0, 300, 900, 800]), (128, 128), 1.25)
    crop = warp(frame, transform, (128, 128), (0, 0, 0)).astype(float)[:, :, 0]
    rows, columns = np.mgrid[:128, :128]
    centre = [(columns * crop).sum() / crop.sum(), (rows * crop).sum() / crop.sum()]
    np.testing.assert_allclose(centre, apply(transform, np.array([905.0, 705.0])), atol=0.1)


def test_fine_texture_becomes_its_mean_rather_than_a_pattern():
    frame = np.zeros((1024, 1024, 3), np.uint8)
    frame[:, ::2] = 255  # stripes one pixel wide
    transform = crop_from_frame(np.array([100.0, 100, 800, 800]), (128, 128), 1.0)
    crop = warp(frame, transform, (128, 128), (0, 0, 0))
    assert abs(float(crop.mean()) - 127.5) < 2
    assert crop.std() < 30


def test_a_box_wholly_outside_is_all_border():
    transform = crop_from_frame(np.array([-9000.0, -9000, 900, 900]), (64, 64), 1.25)
    assert (warp(np.zeros((400, 400, 3), np.uint8), transform, (64, 64), (9, 9, 9)) == 9).all()


@pytest.mark.parametrize("size", [(512, 512), (640, 480), (425, 641), (1921, 1080), (100, 75)])
def test_a_letterboxed_image_equals_the_warp_of_its_own_transform(size):
    """Also where it is halved first, is larger than the input, or has borders."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (size[1], size[0], 3)).astype(np.uint8)
    frame = cv2.GaussianBlur(noise, (0, 0), 8)
    crop, transform = letterbox(frame, (320, 320), 1.0, (104, 116, 124))
    wanted = crop_from_frame(np.array([0.0, 0, *size]), (320, 320), 1.0)
    np.testing.assert_allclose(transform, wanted, atol=0.51, rtol=0.01)
    from_centers = transform.copy()
    from_centers[:, 2] += np.diag(transform) / 2
    warped = warp(frame, from_centers, (320, 320), (104, 116, 124))
    difference = np.abs(crop.astype(int) - warped)
    assert np.percentile(difference, 97) <= 4  # but for the border's own row
    assert difference.mean() < 1.5


@given(
    st.integers(1, 300), st.integers(1, 300), st.sampled_from([(96, 128), (320, 192)]),
    st.floats(1, 2),
)  # fmt: skip
def test_an_image_of_any_shape_is_letterboxed(width, height, size, padding):
    crop, transform = letterbox(np.full((height, width, 3), 200, np.uint8), size, padding, (9,) * 3)
    assert crop.shape == (size[1], size[0], 3)
    rows, columns = np.nonzero(crop[..., 0] == 200)
    shown = np.array([[columns.min(), rows.min()], [columns.max() + 1, rows.max() + 1]]) - 0.5
    corners = apply(transform, np.array([[0, 0], [width, height]], float))
    np.testing.assert_allclose(shown, corners, atol=1.01 * max(1, transform[0, 0]))


@pytest.mark.parametrize("shape", [(4000, 1), (1, 4000), (300, 400)])
def test_an_image_is_made_smaller_and_never_to_nothing(shape):
    small = resize_within(np.full((*shape, 3), 7, np.uint8), (200, 100))
    assert small.shape[0] <= 100 and small.shape[1] <= 200 and (small == 7).all()
