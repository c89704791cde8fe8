import shutil

import numpy as np
import pytest

from okdhp_edge.data.annotation_files import SPLITS
from okdhp_edge.data.load import load
from okdhp_edge.errors import DataError
from tests.helpers.made_data import lspet_folder


def test_unlabelled_coordinates_never_reach_the_box(tmp_path):
    poses = load(f"lspet:{lspet_folder(tmp_path)}", "train")
    first = poses.samples[0]
    assert not first.labelled[0]
    assert (first.box[:2] > 0).all()
    assert (first.box[2:] < 100).all()


def test_matlab_counts_from_one(tmp_path):
    from scipy.io import loadmat

    raw = loadmat(str(lspet_folder(tmp_path) / "joints.mat"))["joints"]
    sample = load(f"lspet:{tmp_path}", "train").samples[1]
    np.testing.assert_allclose(sample.xy[3], raw[3, :2, 1] - 1, atol=1e-5)


def test_a_list_that_names_what_is_not_there_is_refused(tmp_path):
    lspet_folder(tmp_path)
    (tmp_path / "splits" / "val.txt").write_text("im00099\n")
    with pytest.raises(DataError, match="im00099"):
        load(f"lspet:{tmp_path}", "val")


def test_another_mat_file_is_refused(tmp_path):
    (tmp_path / "joints.mat").write_bytes(b"not matlab at all" * 20)
    with pytest.raises(DataError, match="no readable .joints."):
        load(f"lspet:{tmp_path}", "train")


def test_without_lists_it_is_divided_by_name(tmp_path):
    lspet_folder(tmp_path, count=60)
    shutil.rmtree(tmp_path / "splits")
    parts = [{s.id for s in load(f"lspet:{tmp_path}", p).samples} for p in SPLITS[:3]]
    assert len(set.union(*parts)) == sum(len(part) for part in parts) == 60
    assert len(parts[0]) > 40


def test_a_file_cut_short_is_refused(tmp_path):
    mat = lspet_folder(tmp_path) / "joints.mat"
    mat.write_bytes(mat.read_bytes()[:300])
    with pytest.raises(DataError, match="has no readable 'joints'"):
        load(f"lspet:{tmp_path}", "train")
