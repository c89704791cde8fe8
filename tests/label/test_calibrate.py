"""Calibration finds the grid and the offsets that a teacher was given."""

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from okdhp_edge.cli.main import app
from okdhp_edge.data.load import load
from okdhp_edge.errors import DataError, ModelError
from okdhp_edge.inference.external_pose_model import ExternalPoseModel
from okdhp_edge.label.calibrate import calibrate_teacher, write_calibration
from okdhp_edge.pose.crop import HeatmapGrid
from tests.helpers.made_teacher import COLOURS, TOML, dot_teacher, dotted

PERSONS = 24


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """Persons of three dots, labelled where the dots are."""
    folder = tmp_path_factory.mktemp("labelled")
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for number in range(1, PERSONS + 1):
        places = rng.permutation([(24, 24), (70, 30), (40, 68)]) + rng.integers(-6, 7, (3, 2))
        dots = dict(zip(COLOURS, places.tolist(), strict=True))
        cv2.imwrite(str(folder / f"{number}.png"), dotted(dots, (96, 96), seed=number))
        points = np.column_stack([places, [2, 2, 2]]).ravel().tolist()
        images.append({"id": number, "file_name": f"{number}.png", "width": 96, "height": 96})
        annotations.append({"id": number, "image_id": number, "category_id": 1, "iscrowd": 0,
                            "bbox": [0, 0, 96, 96], "area": 9216, "keypoints": points})  # fmt: skip
    category = {"id": 1, "name": "person", "keypoints": list(COLOURS), "skeleton": []}
    (folder / "persons.json").write_text(json.dumps(
        {"images": images, "annotations": annotations, "categories": [category]}
    ))  # fmt: skip
    return f"coco:{folder / 'persons.json'}"


def make_teacher(folder, *keys):
    toml = "\n".join([TOML, "box_padding = 1", "smoothing = 0.7", *keys])
    return dot_teacher(folder / "t.onnx", toml)


def test_a_wrong_grid_and_a_wrong_offset_are_found_and_written(tmp_path, labelled):
    path = make_teacher(
        tmp_path, 'grid = "corners"  # guessed', "offset = [", "  [1, 0],", "[0, 0.5], [0, 0]]"
    )
    poses = load(labelled, "all")
    found = calibrate_teacher(ExternalPoseModel(path), poses)
    # Cells of this teacher are averages of 4x4 pixels: ours.
    assert found.grid is HeatmapGrid.CENTERS
    assert np.abs(found.offset).max() < 0.15
    assert found.persons.tolist() == [PERSONS] * 3
    assert found.error_after < 0.2 < found.error_before

    write_calibration(path.with_suffix(".toml"), found, "coco")
    text = path.with_suffix(".toml").read_text()
    assert text.startswith(TOML) and "guessed" not in text
    again = ExternalPoseModel(path)
    assert again.spec.grid is HeatmapGrid.CENTERS
    assert np.allclose(again.spec.offset, found.offset)
    assert calibrate_teacher(again, poses).error_before == pytest.approx(found.error_after)


def test_an_offset_of_one_joint_is_measured(tmp_path, labelled):
    poses = load(labelled, "all")
    moved = [replace(s, xy=s.xy + np.float32([[0, 0], [3, -6], [0, 0]])) for s in poses.samples]
    plain = calibrate_teacher(ExternalPoseModel(make_teacher(tmp_path)), poses)
    found = calibrate_teacher(
        ExternalPoseModel(make_teacher(tmp_path)), replace(poses, samples=moved)
    )
    # 96 pixels are 64 of the input, and 4 of those a cell.
    np.testing.assert_allclose((found.offset - plain.offset)[1], [0.5, -1.0], atol=0.02)
    np.testing.assert_allclose(found.offset[[0, 2]], plain.offset[[0, 2]], atol=0.02)


def test_what_cannot_be_calibrated_is_one_line(tmp_path, labelled):
    poses = load(labelled, "all")
    few = replace(poses, samples=poses.samples[:5])
    with pytest.raises(DataError, match="too few joints"):
        calibrate_teacher(ExternalPoseModel(make_teacher(tmp_path)), few)
    with pytest.raises(ModelError, match="no heatmaps"):
        calibrate_teacher(ExternalPoseModel(make_teacher(tmp_path, 'reads = "keypoints"')), poses)


def test_the_command_writes_the_description_and_stops(tmp_path, labelled):
    path = make_teacher(tmp_path, "offset = [0.8, 0]")
    done = CliRunner().invoke(
        app, ["data", "label", "--teacher", str(path), "--calibrate", labelled]
    )
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["grid"] == "centers" and found["error_after_cells"] < found["error_before_cells"]
    assert len(ExternalPoseModel(path).spec.offset) == 3

    done = CliRunner().invoke(app, ["data", "label", "--teacher", str(path)])
    assert done.exit_code == 1 and "nothing to label" in done.stderr
    done = CliRunner().invoke(
        app, ["data", "label", "x.png", "--teacher", str(path), "--views", "3"]
    )
    assert done.exit_code == 1 and "2, 6, 14, 20" in done.stderr
