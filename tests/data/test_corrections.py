from dataclasses import replace

import numpy as np
import pytest

from okdhp_edge.data.corrections import Corrections, apply_corrections, read_corrections
from okdhp_edge.data.load import load
from okdhp_edge.errors import DataError
from tests.helpers.tiny_models import DATA


def _corrections(**changes):
    return Corrections(
        data="synthetic, train", model="m", **{"swapped": (), "unlabelled": {}} | changes
    )


def test_labels_are_put_right_and_others_left_alone():
    poses = load(DATA, "train")
    a, b, c = (s.id for s in poses.samples[:3])
    fixed = apply_corrections(
        poses, _corrections(swapped=(a, b), unlabelled={b: ("left_wrist",), c: ("neck",)})
    )
    index, flip = poses.skeleton.index, poses.skeleton.flip_index
    np.testing.assert_array_equal(fixed.samples[0].xy, poses.samples[0].xy[flip])
    assert not fixed.samples[1].labelled[index("left_wrist")]
    assert fixed.samples[1].labelled.sum() == poses.samples[1].labelled.sum() - 1
    assert not fixed.samples[2].labelled[index("neck")]
    np.testing.assert_array_equal(fixed.samples[2].xy, poses.samples[2].xy)
    assert fixed.samples[3] is poses.samples[3]


def test_a_joint_that_was_seen_elsewhere_is_labelled_there():
    poses = load(DATA, "train")
    a = poses.samples[0]
    moves = {a.id: {"left_wrist": (3.5, 4.0), "neck": (7.0, 8.0)}}
    fixed = apply_corrections(poses, _corrections(swapped=(a.id,), moved=moves)).samples[0]
    index = poses.skeleton.index
    np.testing.assert_array_equal(fixed.xy[index("left_wrist")], [3.5, 4.0])
    assert fixed.labelled[index("left_wrist")] and fixed.labelled[index("neck")]
    np.testing.assert_array_equal(fixed.xy[index("left_knee")], a.xy[index("right_knee")])
    np.testing.assert_array_equal(a.xy, load(DATA, "train").samples[0].xy)  # ours, not theirs


def test_the_spread_of_a_label_follows_its_joint_and_a_moved_one_has_none():
    poses = load(DATA, "train")
    spread = np.arange(len(poses.skeleton), dtype=np.float32) / 100
    first = replace(poses.samples[0], spread=spread)
    poses = replace(poses, samples=[first, *poses.samples[1:]])
    moves = {first.id: {"left_wrist": (3.5, 4.0)}}
    fixed = apply_corrections(poses, _corrections(swapped=(first.id,), moved=moves)).samples[0]
    expected = spread[poses.skeleton.flip_index]
    expected[poses.skeleton.index("left_wrist")] = 0
    np.testing.assert_array_equal(fixed.spread, expected)
    np.testing.assert_array_equal(first.spread, np.arange(len(spread), dtype=np.float32) / 100)


def test_exchanged_sides_exchange_which_joint_is_absent_and_a_moved_one_is_not():
    poses = load(DATA, "train")
    absent = np.zeros(len(poses.skeleton), bool)
    index = poses.skeleton.index
    absent[[index("left_wrist"), index("right_ankle")]] = True
    first = replace(poses.samples[0], absent=absent)
    poses = replace(poses, samples=[first, *poses.samples[1:]])
    moves = {first.id: {"right_wrist": (3.5, 4.0)}}
    fixed = apply_corrections(poses, _corrections(swapped=(first.id,), moved=moves)).samples[0]
    assert [poses.skeleton.joints[k] for k in np.flatnonzero(fixed.absent)] == ["left_ankle"]
    assert first.absent[index("left_wrist")] and first.absent[index("right_ankle")]


def test_corrections_of_another_set_are_refused():
    poses = load(DATA, "train")
    with pytest.raises(DataError, match="corrections are for synthetic, train, none of whose"):
        apply_corrections(poses, _corrections(swapped=("im00001",)))
    with pytest.raises(DataError, match="joints that .* lacks: tail"):
        apply_corrections(poses, _corrections(unlabelled={poses.samples[0].id: ("tail",)}))
    with pytest.raises(DataError, match="joints that .* lacks: tail"):
        apply_corrections(poses, _corrections(moved={poses.samples[0].id: {"tail": (1.0, 2.0)}}))


def test_files_come_back_and_others_are_refused(tmp_path):
    path = tmp_path / "c.json"
    path.write_text(_corrections(swapped=("a",)).model_dump_json())
    assert read_corrections(path).swapped == ("a",)
    for text in ("no json", "{}"):
        path.write_text(text)
        with pytest.raises(DataError, match="not a corrections file.*data relabel"):
            read_corrections(path)
    with pytest.raises(DataError, match="not a corrections file"):
        read_corrections(tmp_path / "gone.json")
