from dataclasses import replace

import numpy as np

from okdhp_edge.data.load import load
from okdhp_edge.data.preview import draw_labelled_tile, draw_preview
from tests.helpers.made_data import coco_file
from tests.helpers.tiny_models import tiny_recipe


def test_every_sample_has_a_column_of_three_tiles():
    recipe = tiny_recipe()
    poses = load("synthetic:16", "train")
    sheet = draw_preview(poses, recipe.input_spec(), recipe.augmentation, 1.0, 8, seed=0)
    assert sheet.shape == (2 * 3 * 68, 6 * 68, 3)
    assert sheet.std() > 20
    again = draw_preview(poses, recipe.input_spec(), recipe.augmentation, 1.0, 8, seed=0)
    np.testing.assert_array_equal(sheet, again)


def test_a_box_outside_of_the_image_is_a_blank_tile(tmp_path):
    poses = load(f"coco:{coco_file(tmp_path)}", "all")
    for box in ([500, 10, 40, 60], [10, -200, 40, 60]):
        sample = replace(poses.samples[0], box=np.array(box, float))
        tile = draw_labelled_tile(poses, sample, 64)
        assert tile.shape == (64, 64, 3) and (tile == 230).all()
