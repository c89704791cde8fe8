"""Any checkpoint of ours and any ONNX heatmap model."""

import numpy as np
import pytest
import torch
from torch import nn

from okdhp_edge.errors import ModelError, RecipeError
from okdhp_edge.network.build import build_network
from okdhp_edge.pose.crop import HeatmapGrid, apply, invert
from okdhp_edge.pose.heatmap import HeatmapKind, gaussians
from okdhp_edge.pose.skeleton import COCO17, LSP14, Skeleton
from okdhp_edge.recipe.checkpoint import read_info
from okdhp_edge.recipe.distillation import TeacherTable
from okdhp_edge.train.open_teacher import load_checkpoint, open_teacher
from okdhp_edge.train.teacher_maps import (
    Frame,
    draw_in_frame,
    find_confidences,
    make_frame,
    move_to_grid,
    normalize_peaks,
)
from tests.helpers.tiny_models import tiny_recipe

SPEC = tiny_recipe().input_spec()
CROPS = torch.randint(0, 256, (3, 64, 64, 3), dtype=torch.uint8)


def _open(path, student=LSP14, spec=SPEC, **table):
    return open_teacher(TeacherTable(path=str(path), **table), student, spec)


@pytest.mark.parametrize("output", ["branch0", "branch1", "ensemble"])
def test_a_checkpoint_teaches_by_the_output_that_is_named(trained, output):
    targets = _open(trained, output=output)(CROPS, (16, 16))
    net, _ = load_checkpoint(trained)
    with torch.no_grad():
        outputs = net(CROPS)
    maps = outputs.ensemble if output == "ensemble" else outputs.last(int(output[-1]))
    torch.testing.assert_close(targets.heatmaps, normalize_peaks(maps, HeatmapKind.LOGITS))
    assert targets.joint_mask.all()


def test_by_default_the_best_output_on_validation_teaches(trained):
    scores = read_info(trained).scores
    best = max(scores, key=scores.get)
    given = _open(trained)(CROPS, (16, 16)).heatmaps
    torch.testing.assert_close(given, _open(trained, output=best)(CROPS, (16, 16)).heatmaps)


def test_our_onnx_says_the_same_as_its_checkpoint(trained, exported):
    branch = f"branch{read_info(trained).best_branch}"
    ours = _open(exported / "model.onnx")(CROPS, (16, 16))
    theirs = _open(trained, output=branch)(CROPS, (16, 16))
    torch.testing.assert_close(ours.heatmaps, theirs.heatmaps, atol=1e-4, rtol=1e-3)
    assert ours.features is None and theirs.features is not None


class _Foreign(nn.Module):
    """Three joints from normalised RGB (N, 3, 32, 32): the mean of each colour, everywhere."""

    def forward(self, image):
        return image.mean((2, 3), keepdim=True).expand(-1, 3, 8, 8) + image.new_zeros(3, 8, 8)


def _foreign(path, height=32, width=32):
    torch.onnx.export(_Foreign(), (torch.zeros(1, 3, height, width),), path, dynamo=False)
    return path


def test_a_foreign_model_is_fed_as_its_description_says_and_matched_by_name(tmp_path):
    student = Skeleton("s", ("nose", "neck", "head_top"), ())
    (tmp_path / "t.toml").write_text(
        'joints = ["head_top", "nose", "tail"]\nstd = [255, 255, 255]\ncolour = "RGB"\n'
    )
    teacher = _open(_foreign(tmp_path / "t.onnx"), student)
    crops = torch.zeros(2, 64, 64, 3, dtype=torch.uint8)
    crops[..., 1], crops[..., 2] = 51, 255  # BGR: green a fifth, red full
    answer = teacher._answer(crops[:, :32, :32])
    np.testing.assert_allclose(answer.heatmaps[0, :, 0, 0], [1.0, 0.2, 0.0], atol=1e-6)
    targets = teacher(crops, (16, 16))
    assert targets.heatmaps.shape == (2, 3, 16, 16)
    assert targets.joint_mask.tolist() == [[1.0, 0.0, 1.0]] * 2


def test_a_foreign_model_must_be_described(tmp_path):
    with pytest.raises(ModelError, match=r"no t.toml next to teacher"):
        _open(_foreign(tmp_path / "t.onnx"))


def test_faults_are_named(tmp_path, trained):
    with pytest.raises(RecipeError, match="does not exist"):
        _open(tmp_path / "t.onnx")
    with pytest.raises(ModelError, match="does not exist"):
        _open(tmp_path / "t.safetensors")
    (tmp_path / "t.onnx").write_bytes(b"no model")
    with pytest.raises(RecipeError, match="cannot be loaded"):
        _open(tmp_path / "t.onnx")
    with pytest.raises(RecipeError, match="no output 'branch7'"):
        _open(trained, output="branch7")
    with pytest.raises(RecipeError, match="predicts none of the joints"):
        _open(trained, student=Skeleton("fish", ("tip", "fin"), ()))
    padded = SPEC.model_copy(update={"box_padding": 1.5})
    with pytest.raises(RecipeError, match="box_padding"):
        _open(trained, spec=padded)


def test_another_size_and_skeleton_are_matched(trained):
    larger = SPEC.model_copy(update={"width": 128, "height": 128})
    crops = torch.randint(0, 256, (2, 128, 128, 3), dtype=torch.uint8)
    targets = _open(trained, student=COCO17, spec=larger)(crops, (32, 32))
    assert targets.heatmaps.shape == (2, 17, 32, 32)
    known = [j for j, k in zip(COCO17.joints, targets.joint_mask[0], strict=True) if k]
    assert "left_wrist" in known and "nose" not in known


def test_joints_that_a_foreign_teacher_does_not_find_in_a_crop_are_not_taught(tmp_path):
    student = Skeleton("s", ("nose", "neck", "head_top"), ())
    (tmp_path / "t.toml").write_text(
        'joints = ["head_top", "nose", "neck"]\nstd = [255, 255, 255]\n'
    )
    crops = torch.zeros(2, 32, 32, 3, dtype=torch.uint8)
    crops[0, ..., 2], crops[1, ..., 1] = 255, 12  # BGR
    targets = _open(_foreign(tmp_path / "t.onnx"), student)(crops, (8, 8))
    assert targets.joint_mask.tolist() == [[0.0, 0.0, 1.0], [0.0, 0.0, 0.0]]


@pytest.mark.parametrize("level", [-3.0, 0.0, 3.0])
def test_presence_is_how_sure_a_teacher_is(level):
    maps = torch.full((1, 1, 4, 4), level)
    assert float(find_confidences(maps, HeatmapKind.PRESENCE)) == pytest.approx(
        1 / (1 + np.exp(-level)), rel=1e-5
    )
    assert float(find_confidences(maps, HeatmapKind.LOGITS)) == 1.0
    assert float(find_confidences(maps, HeatmapKind.GAUSSIAN)) == level


def test_a_foreign_teacher_that_returns_something_else_is_refused_at_once(tmp_path):
    (tmp_path / "t.toml").write_text('joints = ["nose", "neck"]\n')
    with pytest.raises(RecipeError, match=r"returns \[1, 3, 8, 8\], expected heatmaps of 2 joints"):
        _open(_foreign(tmp_path / "t.onnx"), Skeleton("s", ("nose", "neck"), ()))


def test_lessons_are_between_zero_and_one():
    maps = torch.randn(2, 3, 5, 5)
    for kind in HeatmapKind:
        peaked = normalize_peaks(maps, kind)
        assert peaked.min() >= 0
        torch.testing.assert_close(peaked.amax((2, 3)), torch.ones(2, 3))


def test_loaded_checkpoints_are_frozen(trained):
    net, facts = load_checkpoint(trained)
    assert not net.training and not [p for p in net.parameters() if p.requires_grad]
    fresh = build_network(facts.recipe.network, 14)
    assert not torch.equal(fresh.trunk.stem.conv.weight, net.trunk.stem.conv.weight)


def test_the_logits_of_a_teacher_with_presence_are_a_distribution():
    logits = torch.randn(2, 3, 8, 8) * 5
    expected = normalize_peaks(logits, HeatmapKind.LOGITS)
    torch.testing.assert_close(normalize_peaks(logits + 7, HeatmapKind.PRESENCE), expected)
    assert (expected.amax(dim=(2, 3)) == 1).all()


@pytest.mark.parametrize("grid", list(HeatmapGrid))
def test_a_foreign_teachers_joints_stay_in_place_whatever_its_grid(grid):
    size, cells, ours = (64, 96), (16, 24), (32, 48)  # width, height
    place = np.array([[20.0, 50.0], [41.0, 33.0]])  # in the input
    offset = np.array([[0.3, -0.2], [0.0, 0.4]])  # that decoding adds
    there = apply(invert(grid.input_from_heatmap(size, cells)), place) - offset
    maps = torch.from_numpy(gaussians(there, cells, 1.5))[None]
    moved = move_to_grid(maps, ours[::-1], grid, Frame(size, size), offset)
    mass = (moved[0] / moved[0].sum(dim=(1, 2), keepdim=True)).numpy()
    found = np.stack(
        [mass.sum(axis=1) @ np.arange(ours[0]), mass.sum(axis=2) @ np.arange(ours[1])], 1
    )
    back = apply(HeatmapGrid.CENTERS.input_from_heatmap(size, ours), found)
    np.testing.assert_allclose(back, place, atol=0.15)


@pytest.mark.parametrize(
    ("crop_size", "inside", "origin"),
    [((112, 160), (179, 256), (6, 0)), ((64, 64), (192, 192), (0, 32)),
     ((96, 128), (192, 256), (0, 0)), ((384, 512), (192, 256), (0, 0))],
)  # fmt: skip
def test_a_crop_is_as_large_as_can_be_in_the_middle_of_a_teachers_input(crop_size, inside, origin):
    frame = make_frame((192, 256), crop_size)
    assert frame.crop_size == inside and frame.origin == origin
    crop = torch.full((1, *crop_size[::-1], 3), 200, dtype=torch.uint8)
    drawn = draw_in_frame(crop, frame)[0, ..., 0]
    assert drawn.shape == (256, 192)
    left, top = origin
    shown = drawn[top : top + inside[1], left : left + inside[0]]
    assert (shown == 200).all() and (drawn == 200).sum() == shown.numel()


def test_joints_stay_in_place_where_a_teachers_input_has_another_shape():
    frame = make_frame((64, 96), (32, 32))
    assert frame == Frame((64, 96), (64, 64))
    place = np.array([[26.0, 40.0]])
    cells_from_input = invert(HeatmapGrid.CENTERS.input_from_heatmap((64, 96), (16, 24)))
    there = apply(cells_from_input, place + frame.origin)
    maps = torch.from_numpy(gaussians(there, (16, 24), 1.5))[None]
    moved = move_to_grid(maps, (16, 16), HeatmapGrid.CENTERS, frame, np.zeros((1, 2)))[0, 0]
    mass = (moved / moved.sum()).numpy()
    found = np.array([mass.sum(axis=0) @ np.arange(16), mass.sum(axis=1) @ np.arange(16)])
    back = apply(HeatmapGrid.CENTERS.input_from_heatmap((64, 64), (16, 16)), found)
    np.testing.assert_allclose(back, place[0], atol=0.1)


def test_a_foreign_teacher_of_another_shape_sees_the_whole_crop(tmp_path):
    student = Skeleton("s", ("nose", "neck", "head_top"), ())
    (tmp_path / "t.toml").write_text(
        'joints = ["head_top", "nose", "tail"]\nstd = [255, 255, 255]\n'
    )
    teacher = _open(_foreign(tmp_path / "t.onnx", width=24), student)
    assert teacher.crop_size == (24, 24)
    assert teacher(CROPS, (16, 16)).heatmaps.shape == (3, 3, 16, 16)


def test_a_foreign_teacher_without_heatmaps_is_refused(tmp_path):
    (tmp_path / "t.toml").write_text('joints = ["head_top", "nose", "tail"]\nreads = "keypoints"\n')
    with pytest.raises(RecipeError, match="returns keypoints, not heatmaps"):
        _open(_foreign(tmp_path / "t.onnx"), Skeleton("s", ("nose", "neck", "head_top"), ()))


def test_a_teacher_of_a_fixed_batch_takes_any_number_of_crops(tmp_path):
    student = Skeleton("s", ("nose", "neck", "head_top"), ())
    (tmp_path / "t.toml").write_text('joints = ["head_top", "nose", "tail"]\n')
    path = tmp_path / "t.onnx"
    torch.onnx.export(_Foreign(), (torch.zeros(2, 3, 32, 32),), path, dynamo=False)
    targets = _open(path, student)(CROPS, (16, 16))
    assert len(targets.heatmaps) == len(CROPS) == 3
