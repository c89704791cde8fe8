import numpy as np

from okdhp_edge.artifacts.card import InputSpec
from okdhp_edge.inference.top_down import crop_for


def test_a_crop_has_the_size_the_padding_and_the_border_of_the_card():
    """A box of the input's own size, half a pixel off: its pixels are copied as they are."""
    spec = InputSpec(width=64, height=32, mean=(10, 20, 30), std=(1, 1, 1), box_padding=1.0)
    frame = np.random.default_rng(0).integers(0, 256, (40, 80, 3)).astype(np.uint8)
    crop = crop_for(spec, frame, np.array([-31.5, -15.5, 64, 32])).image
    assert crop.shape == (32, 64, 3)
    np.testing.assert_array_equal(crop[15:, 31:], frame[:17, :33])
    assert (crop[:15] == [10, 20, 30]).all() and (crop[:, :31] == [10, 20, 30]).all()
    wider = spec.model_copy(update={"box_padding": 2.0})
    transform = crop_for(wider, frame, np.array([0.0, 0, 32, 16])).crop_from_image
    np.testing.assert_allclose(transform, [[1, 0, 15.5], [0, 1, 7.5]])
