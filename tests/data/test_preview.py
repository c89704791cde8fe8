import numpy as np

from okdhp_edge.data.load import load
from okdhp_edge.data.preview import draw_preview
from tests.helpers.tiny_models import tiny_recipe


def test_every_sample_has_a_column_of_three_tiles():
    recipe = tiny_recipe()
    poses = load("synthetic:16", "train")
    sheet = draw_preview(poses, recipe.input_spec(), recipe.augmentation, 1.0, 8, seed=0)
    assert sheet.shape == (2 * 3 * 68, 6 * 68, 3)
    assert sheet.std() > 20
    again = draw_preview(poses, recipe.input_spec(), recipe.augmentation, 1.0, 8, seed=0)
    np.testing.assert_array_equal(sheet, again)
