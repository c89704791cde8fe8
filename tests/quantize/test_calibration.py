import numpy as np

from okdhp_edge.data.load import load
from okdhp_edge.evaluate import inference_crop
from okdhp_edge.quantize.calibration import calibration_set
from tests.helpers.tiny_models import tiny_recipe

SPEC, DECODER = tiny_recipe().input_spec(), tiny_recipe().decoder_spec()


def test_crops_are_the_inference_crops_and_can_be_read_twice(tmp_path):
    listing = tmp_path / "list.txt"
    listing.write_text("".join(f"synthetic-{i}\n" for i in range(20)))
    crops = calibration_set("synthetic:64", listing, SPEC, DECODER)
    first, second = list(crops), list(crops)
    assert len(first) == len(second) == len(crops) == 20
    sample = load("synthetic:64", "train").samples[3]
    np.testing.assert_array_equal(first[3][0], inference_crop(sample, SPEC, 4).image)
    np.testing.assert_array_equal(first[3], second[3])


def test_the_draw_is_the_same_every_time_and_its_hash_says_so():
    a, b = (calibration_set("synthetic:700", None, SPEC, DECODER) for _ in range(2))
    assert len(a) == 300
    assert a.facts("minmax") == b.facts("minmax")
    other = calibration_set("synthetic:800", None, SPEC, DECODER)
    assert other.facts("minmax").list_sha256 != a.facts("minmax").list_sha256
