import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from okdhp_edge.pose.crop import (
    HeatmapGrid,
    apply,
    box_around,
    box_iou,
    compose,
    crop_from_frame,
    heatmap_from_crop,
    invert,
)

boxes = st.tuples(
    st.floats(-500, 2000), st.floats(-500, 2000), st.floats(2, 1500), st.floats(2, 1500)
).map(np.array)


@given(boxes, st.floats(-180, 180), st.floats(0.5, 2), st.booleans())
def test_there_and_back_is_identity(box, rotation, scale, mirror):
    transform = crop_from_frame(
        box, (128, 96), 1.25, rotation_deg=rotation, scale=scale, mirror=mirror
    )
    points = np.random.default_rng(0).uniform(-100, 3000, (8, 2))
    np.testing.assert_allclose(
        apply(invert(transform), apply(transform, points)), points, atol=1e-6
    )
    np.testing.assert_allclose(
        compose(invert(transform), transform), np.eye(2, 3), atol=1e-6 * (1 + np.abs(box).max())
    )


@given(boxes)
def test_the_box_fits_and_its_centre_is_the_crops_centre(box):
    transform = crop_from_frame(box, (128, 128), 1.25)
    np.testing.assert_allclose(apply(transform, box[:2] + box[2:] / 2), [63.5, 63.5], atol=1e-6)
    corners = apply(transform, np.array([box[:2], box[:2] + box[2:]]))
    assert (corners >= -0.5).all()
    assert (corners <= 127.5).all()
    assert np.ptp(corners, axis=0).max() == pytest.approx(128 / 1.25)


@given(boxes)
def test_mirroring_twice_is_not_mirroring(box):
    plain = crop_from_frame(box, (128, 128), 1.25)
    mirrored = crop_from_frame(box, (128, 128), 1.25, mirror=True)
    flip = np.array([[-1.0, 0, 127], [0, 1, 0]])
    np.testing.assert_allclose(compose(flip, mirrored), plain, atol=1e-6)


def test_positive_rotation_turns_counter_clockwise_as_seen():
    transform = crop_from_frame(np.array([0.0, 0, 100, 100]), (100, 100), 1.0, rotation_deg=90)
    right_of_centre = np.array([90.0, 50.0])
    x, y = apply(transform, right_of_centre)
    assert x == pytest.approx(49.5)
    assert y < 20  # up in the picture


@pytest.mark.parametrize("stride", [1, 2, 4, 8])
def test_a_heatmap_cell_stands_for_the_middle_of_its_pixels(stride):
    first = apply(heatmap_from_crop(stride), np.array([(stride - 1) / 2] * 2))
    np.testing.assert_allclose(first, [0, 0], atol=1e-12)


def test_box_around_is_tight():
    box = box_around(np.array([[3.0, 8], [10, 2], [5, 5]]))
    np.testing.assert_allclose(box, [3, 2, 7, 6])


@pytest.mark.parametrize(
    ("other", "expected"),
    [((0, 0, 10, 10), 1.0), ((5, 0, 10, 10), 1 / 3), ((20, 0, 5, 5), 0.0), ((0, 0, 5, 10), 0.5),
     ((0, 0, 0, 0), 0.0)],
)  # fmt: skip
def test_overlap_is_intersection_over_union(other, expected):
    box = np.array([0.0, 0, 10, 10])
    assert box_iou(box, np.array(other, float)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("grid", "first", "last"),
    [
        (HeatmapGrid.CENTERS, 1.5, 253.5),
        (HeatmapGrid.ORIGIN, 0, 252),
        (HeatmapGrid.CORNERS, 0, 255),
    ],
)
def test_heatmap_cells_lie_where_the_grid_has_them(grid, first, last):
    transform = grid.input_from_heatmap((192, 256), (48, 64))
    ends = apply(transform, np.array([[0.0, 0.0], [0.0, 63.0]]))
    np.testing.assert_allclose(ends[:, 1], [first, last])


def test_the_projects_own_grid_is_that_of_centers():
    transform = HeatmapGrid.CENTERS.input_from_heatmap((128, 96), (32, 24))
    np.testing.assert_allclose(transform, invert(heatmap_from_crop(4)))


@pytest.mark.parametrize(
    ("box", "scale"), [((10, 20, 30, 40), 2.56), ((10, 20, 60, 40), 1.28), ((10, 20, 10, 40), 2.56)]
)
def test_a_box_grows_to_the_shape_of_an_upright_input(box, scale):
    """96x128: 30x40 has its shape, of 60x40 the width counts, of 10x40 the height."""
    x, y, width, height = box
    expected = [
        [scale, 0, 47.5 - scale * (x + width / 2)],
        [0, scale, 63.5 - scale * (y + height / 2)],
    ]
    np.testing.assert_allclose(crop_from_frame(np.array(box, float), (96, 128), 1.25), expected)
