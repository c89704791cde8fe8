import json

import numpy as np
import pytest
from scipy.io import savemat

from okdhp_edge.data.load import load
from okdhp_edge.errors import DataError
from okdhp_edge.pose.skeleton import MPII16
from tests.helpers.made_data import picture


def _file(folder):
    picture(folder / "images" / "a.jpg", (400, 400))
    joints = np.linspace([101, 101], [251, 301], 16).tolist()
    record = {"image": "a.jpg", "joints": joints, "joints_vis": [1] * 16,
              "center": [201, 201], "scale": 1.0}  # fmt: skip
    (folder / "valid.json").write_text(json.dumps([record]))
    return folder


def test_the_box_is_the_scaled_square_lowered_as_hrnet_does(tmp_path):
    sample = load(f"mpii:{_file(tmp_path)}", "val").samples[0]
    np.testing.assert_allclose(sample.box, [100, 115, 200, 200])
    np.testing.assert_allclose(sample.xy[0], [100, 100])


def test_head_boxes_beside_the_file_are_used(tmp_path):
    folder = _file(tmp_path)
    boxes = np.zeros((2, 2, 1))
    boxes[:, :, 0] = [[10, 10], [40, 50]]  # corners: (10, 10) and (40, 50)
    savemat(str(folder / "valid.mat"), {"headboxes_src": boxes})
    poses = load(f"mpii:{folder}", "val")
    assert poses.samples[0].head_size == pytest.approx(0.6 * 50)
    savemat(str(folder / "valid.mat"), {"headboxes_src": np.zeros((2, 2, 5))})
    with pytest.raises(DataError, match="head boxes"):
        load(f"mpii:{folder}", "val")


def test_without_head_boxes_neck_to_top_stands_in_and_is_said(tmp_path):
    poses = load(f"mpii:{_file(tmp_path)}", "val")
    neck, top = (poses.samples[0].xy[MPII16.joints.index(j)] for j in ("upper_neck", "head_top"))
    assert poses.samples[0].head_size == pytest.approx(np.linalg.norm(neck - top), rel=1e-4)
    assert "no head boxes" in poses.notes[0]


def test_a_folder_of_files_by_split_is_not_read_as_a_whole(tmp_path):
    with pytest.raises(DataError, match="mpii:PATH@train or @val"):
        load(f"mpii:{_file(tmp_path).parent}", "all")
