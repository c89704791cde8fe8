"""A stranger's set works: from its files to `run`, in every format and dialect."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

import okdhp_edge
from okdhp_edge.data.load import load
from okdhp_edge.errors import DataError
from okdhp_edge.export.export_branch import ExportOptions, export_branch
from okdhp_edge.train.loop import train
from okdhp_edge.train.setup import TrainingOptions
from tests.data.test_coco_dialects import DIALECTS
from tests.data.test_formats import COCO_LIKE
from tests.data.test_yolo import as_yolo
from tests.helpers.tiny_models import tiny_recipe

pytestmark = pytest.mark.slow
NETWORK = {"kind": "hourglass", "width": 8, "shared_stacks": 0, "branches": [1]}


def from_files_to_poses(source: str, folder: Path) -> None:
    """Train on all of a set, export, and look at one of its pictures."""
    recipe = tiny_recipe(
        train_split="all", network=NETWORK, distillation={"method": "supervised"},
        optimizer={"epochs": 1, "batch_size": 8},
    )  # fmt: skip
    kind, _, place = source.partition(":")
    options = TrainingOptions(
        out=folder / "model", device="cpu", workers=0, val_data=f"{kind}:{place}@all"
    )
    best = train(recipe, source, options)
    data = f"{kind}:{place}@all"
    export_branch(best, ExportOptions(out=best.parent, data=data, simplify=False))
    poses = load(source, "all")
    picture = poses.samples[0].image.read()
    path = folder / "picture.png"
    cv2.imwrite(str(path), picture)
    with okdhp_edge.load(str(best.parent)) as model:
        (found,) = model(path, boxes=[poses.samples[0].box])
    assert found.skeleton.joints == poses.skeleton.joints
    assert np.isfinite(found.xy).all()


@pytest.mark.parametrize("file", [f for f, shape in COCO_LIKE.items() if shape and shape[0] > 1])
def test_the_fields_formats(real_data, tmp_path, file):
    from_files_to_poses(f"coco:{real_data / 'formats' / file}", tmp_path)


def test_a_single_person_is_refused_in_one_line(real_data, tmp_path):
    file = "posetrack18/annotations/val/003418_mpii_test.json"
    with pytest.raises(DataError, match="1 persons in batches of 1"):
        from_files_to_poses(f"coco:{real_data / 'formats' / file}", tmp_path)


def test_mpii(real_data, tmp_path):
    from_files_to_poses(f"mpii:{real_data}/formats/mpii/test_mpii.json", tmp_path)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_coco_as_each_tool_writes_it(real_data, tmp_path, dialect):
    mini = real_data / "coco_mini"
    content = json.loads((mini / "person_keypoints_train2017_mini.json").read_text())
    content["images"] = content["images"][:10]
    ids = {image["id"] for image in content["images"]}
    content["annotations"] = [
        a for a in content["annotations"] if a["image_id"] in ids and a["num_keypoints"]
    ]
    for image in content["images"]:
        target = tmp_path / "set" / "images" / image["file_name"]
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(mini / "images" / image["file_name"])
    path = tmp_path / "set" / "people.json"
    path.write_text(json.dumps(DIALECTS[dialect](content)))
    from_files_to_poses(f"coco:{path}", tmp_path)


def test_lspet_as_yolo(real_data, tmp_path):
    as_yolo(load(f"lspet:{real_data / 'lspet'}", "val"), tmp_path / "set", 12)
    from_files_to_poses(f"yolo:{tmp_path / 'set'}", tmp_path)
