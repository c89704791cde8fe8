import cv2
import numpy as np
import pytest

from okdhp_edge.data.load import load
from okdhp_edge.data.sample import PoseDataset, Sample
from okdhp_edge.errors import DataError
from okdhp_edge.evaluation.evaluate import make_inference_crop
from okdhp_edge.pose.skeleton import LSP14
from okdhp_edge.quantize.ranges import calibration as module
from okdhp_edge.quantize.ranges.calibration import load_calibration_set
from tests.helpers.tiny_models import tiny_recipe

SPEC, DECODER = tiny_recipe().input_spec(), tiny_recipe().decoder_spec()


def test_crops_are_the_inference_crops_and_can_be_read_twice(tmp_path):
    listing = tmp_path / "list.txt"
    listing.write_text("".join(f"synthetic-{i}\n" for i in range(20)))
    crops = load_calibration_set("synthetic:64", str(listing), SPEC, DECODER)
    first, second = list(crops), list(crops)
    assert len(first) == len(second) == len(crops) == 20
    sample = load("synthetic:64", "train").samples[3]
    np.testing.assert_array_equal(first[3][0], make_inference_crop(sample, SPEC, 4).image)
    np.testing.assert_array_equal(first[3], second[3])


def test_the_draw_is_the_same_every_time_and_its_hash_says_so():
    a, b = (load_calibration_set("synthetic:700", None, SPEC, DECODER) for _ in range(2))
    assert len(a) == 300
    assert a.facts("minmax") == b.facts("minmax")
    other = load_calibration_set("synthetic:800", None, SPEC, DECODER)
    assert other.facts("minmax").list_sha256 != a.facts("minmax").list_sha256


def test_pictures_without_labels_are_taken_whole(tmp_path):
    rng = np.random.default_rng(0)
    for number in range(18):
        cv2.imwrite(str(tmp_path / f"{number:02}.png"), rng.integers(0, 256, (40, 60, 3)))
    crops = load_calibration_set("synthetic", f"folder:{tmp_path}", SPEC, DECODER)
    assert len(crops) == 18 and crops.facts("mse").data == "folder"
    assert next(iter(crops)).shape == (1, 64, 64, 3)
    assert crops.format_ids().split()[0] == "00.png"


def test_frames_of_a_video_are_spread_over_it(tmp_path):
    path = tmp_path / "grey.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 30, (64, 64))
    for number in range(40):
        writer.write(np.full((64, 64, 3), number * 6, dtype=np.uint8))
    writer.release()
    crops = load_calibration_set("synthetic", f"video:{path}", SPEC, DECODER)
    middles = [crop[0, 32, 32, 0] for crop in crops]
    assert len(middles) == 40 and middles == sorted(middles) and middles[-1] > 200


def test_what_cannot_be_calibrated_on_is_said(tmp_path):
    with pytest.raises(DataError, match="no images in"):
        load_calibration_set("synthetic", f"folder:{tmp_path}", SPEC, DECODER)
    with pytest.raises(DataError, match="cannot be read"):
        load_calibration_set("synthetic", str(tmp_path / "absent.txt"), SPEC, DECODER)
    cv2.imwrite(str(tmp_path / "one.png"), np.zeros((9, 9, 3)))
    with pytest.raises(DataError, match="only 1 samples"):
        load_calibration_set("synthetic", f"folder:{tmp_path}", SPEC, DECODER)


def test_ranges_come_from_the_better_labelled_half(monkeypatch):
    monkeypatch.setattr(module, "DEFAULT_NUM_SAMPLES", 2)
    box, xy = np.array([0.0, 0, 9, 9]), np.zeros((14, 2), np.float32)
    samples = [Sample(str(n), None, box, xy, np.arange(14) < n) for n in (3, 14, 1, 12, 2, 13)]
    train = PoseDataset("x:y", "train", LSP14, samples, "pck@0.2")
    drawn = module._draw_samples(train)
    assert len(drawn) == 2
    assert {int(sample.id) for sample in drawn} < {12, 13, 14}
