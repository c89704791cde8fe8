"""Real files in the field's formats; skipped, visibly, where they are absent."""

import numpy as np
import pytest

from okdhp_edge.data.check import check
from okdhp_edge.data.load import load
from okdhp_edge.pose.skeleton import COCO17, MPII16

COCO_LIKE = {
    "coco/person_keypoints_train2017_4img.json": (18, 17),
    "ochuman/test_ochuman.json": (5, 17),
    "crowdpose/test_crowdpose.json": (4, 14),
    "aic/test_aic.json": (9, 14),
    "jhmdb/test_jhmdb_sub1.json": (3, 15),
    "mhp/test_mhp.json": (4, 16),
    "exlpose/test_exlpose.json": (6, 14),
    "posetrack18/annotations/test_posetrack18_val.json": (14, 17),
    "posetrack18/annotations/val/003418_mpii_test.json": (1, 17),
    "posetrack18/annotations/val/009473_mpii_test.json": None,
    "posetrack18/annotations/val/012834_mpii_test.json": None,
    "mpii/test_mpii_trb.json": (5, 40),
}


@pytest.mark.parametrize("file", COCO_LIKE)
def test_every_coco_like_file_is_read_with_pictures(real_data, file):
    poses = load(f"coco:{real_data / 'formats' / file}", "all")
    if COCO_LIKE[file]:
        assert (len(poses), len(poses.skeleton)) == COCO_LIKE[file]
    assert check(poses).fatal == 0
    for sample in poses.samples:
        height, width = sample.image.read().shape[:2]
        centre = sample.box[:2] + sample.box[2:] / 2
        assert (centre > 0).all()
        assert (centre < [width, height]).all()
        assert sample.area > 0


def test_joints_are_matched_by_name(real_data):
    coco = load(f"coco:{real_data}/formats/coco/person_keypoints_train2017_4img.json", "all")
    assert coco.skeleton is COCO17
    crowd = load(f"coco:{real_data}/formats/crowdpose/test_crowdpose.json", "all")
    assert crowd.skeleton.joints[:2] == ("left_shoulder", "right_shoulder")
    assert crowd.skeleton.flip_index[0] == 1


def test_mpii_json(real_data):
    poses = load(f"mpii:{real_data}/formats/mpii/test_mpii.json", "all")
    assert poses.skeleton is MPII16
    assert len(poses) == 5
    assert poses.metric == "pckh@0.5"
    assert check(poses).fatal == 0
    for sample in poses.samples:
        low, high = sample.box[:2], sample.box[:2] + sample.box[2:]
        inside = ((sample.xy >= low) & (sample.xy <= high)).all(axis=1)
        assert inside[sample.labelled].mean() > 0.9
        assert 5 < sample.head_size < sample.box[3]


@pytest.mark.parametrize(("split", "count"), [("train", 7990), ("val", 500), ("test", 500)])
def test_lspet_splits(real_data, split, count):
    poses = load(f"lspet:{real_data / 'lspet'}", split)
    assert len(poses) == count
    for sample in poses.samples[:50]:
        tight = sample.xy[sample.labelled]
        np.testing.assert_allclose(sample.box[:2], tight.min(axis=0), atol=1e-3)


def test_the_tracked_calibration_list_names_training_samples(real_data):
    from tests.conftest import REPOSITORY

    names = (REPOSITORY / "calibration/lspet-300.txt").read_text().split()
    subset = load(f"lspet:{real_data / 'lspet'}", "train").select_by_ids(names)
    assert len(subset) == 300
    assert min(s.labelled.sum() for s in subset.samples) >= 12


def test_coco_mini_is_split_by_picture(real_data):
    source = f"coco:{real_data}/coco_mini/person_keypoints_train2017_mini.json"
    parts = [load(source, split) for split in ("train", "val", "test")]
    assert sum(map(len, parts)) == 151
    pictures = [{s.image for s in part.samples} for part in parts]
    assert not (pictures[0] & pictures[1] or pictures[0] & pictures[2] or pictures[1] & pictures[2])
