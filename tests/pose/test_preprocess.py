import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from okdhp_edge.pose.crop import apply, crop_from_frame, invert
from okdhp_edge.pose.preprocess import resize_region, warp

boxes = st.tuples(
    st.floats(-500, 500), st.floats(-500, 500), st.floats(2, 1500), st.floats(2, 1500)
).map(np.array)


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


@pytest.mark.parametrize("size", [(512, 512), (640, 480), (425, 640), (1920, 1080), (100, 75)])
def test_a_resized_image_equals_the_warp_of_its_own_transform(size):
    """Also where it is halved first, is larger than the input, or has borders."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (size[1], size[0], 3)).astype(np.uint8)
    frame = cv2.GaussianBlur(noise, (0, 0), 8)
    wanted = crop_from_frame(np.array([0.0, 0, *size]), (320, 320), 1.0)
    crop, transform = resize_region(frame, wanted, (320, 320), (104, 116, 124))
    np.testing.assert_allclose(transform, wanted, atol=0.51 * max(1, wanted[0, 0]))
    warped = warp(frame, transform, (320, 320), (104, 116, 124))
    difference = np.abs(crop.astype(int) - warped)
    assert np.percentile(difference, 98) <= 4  # but for the border's own row
    assert difference.mean() < 1


@given(boxes, st.sampled_from([(96, 128), (320, 192)]))
def test_any_region_can_be_resized(box, size):
    frame = np.full((120, 160, 3), 200, np.uint8)
    crop, transform = resize_region(frame, crop_from_frame(box, size, 1.25), size, (9, 9, 9))
    assert crop.shape == (size[1], size[0], 3)
    centre = apply(invert(transform), (np.array(size) - 1) / 2)
    pixels_per_crop_pixel = 1 / transform[0, 0]
    np.testing.assert_allclose(
        centre, box[:2] + box[2:] / 2, atol=1.5 * max(1, pixels_per_crop_pixel)
    )
