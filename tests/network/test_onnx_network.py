"""A network of others computes here what its file computes, on our grid, at other sizes."""

import numpy as np
import onnxruntime as ort
import pytest
import torch

from okdhp_edge.errors import ModelError, RecipeError
from okdhp_edge.network.build import build_network
from okdhp_edge.network.config import OnnxConfig
from okdhp_edge.network.onnx_network import read_onnx_network
from okdhp_edge.pose.skeleton import LSP14, Skeleton
from okdhp_edge.train.initialize import initialize_from_onnx
from tests.helpers.foreign_network import SIDE, TOML, write_foreign_network


@pytest.fixture
def file(tmp_path):
    return write_foreign_network(tmp_path / "foreign.onnx")


def _initialized(file, branches=(1,), skeleton=LSP14):
    config = OnnxConfig(kind="onnx", file=str(file), branches=branches)
    net = build_network(config, len(skeleton)).eval()
    return net, initialize_from_onnx(file, net, skeleton)


def _run_file(file, images):
    """Its own heatmaps of BGR images, fed as the TOML says."""
    rgb = (images[..., ::-1].astype(np.float32) - [120, 110, 100]) / 60
    planes = np.ascontiguousarray(rgb.transpose(0, 3, 1, 2), np.float32)
    session = ort.InferenceSession(file)
    return np.concatenate([session.run(None, {"x": p[None]})[0] for p in planes])


def _images(side=SIDE):
    return np.random.default_rng(0).integers(0, 256, (2, side, side, 3)).astype(np.uint8)


def test_heatmaps_are_those_of_the_file_between_its_cells(file):
    net, found = _initialized(file, branches=(1, 2))
    assert found.kept == LSP14.joints
    images = _images()
    with torch.no_grad():
        outputs = net(torch.from_numpy(images))
    theirs = _run_file(file, images)
    # Cell j of ours lies 1.5 pixels of the input, 0.375 cells, after theirs.
    between = 0.625 * theirs[..., :-1] + 0.375 * theirs[..., 1:]
    expected = 0.625 * between[:, :, :-1] + 0.375 * between[:, :, 1:]
    for branch in (0, 1):
        ours = outputs.last(branch).numpy()[:, :, 1:-1, 1:-1]
        np.testing.assert_allclose(ours, expected[:, :, 1:, 1:], atol=1e-4)


def test_sizes_of_the_file_do_not_bind(file):
    net, _ = _initialized(file)
    assert net.probe((96, 64)).last(0).shape == (1, 14, 16, 24)


def test_a_config_holds_the_graph_and_needs_the_file_no_more(file):
    config = OnnxConfig(kind="onnx", file=str(file), branches=(1,))
    assert config.stride == 4
    assert config.mean == (100, 110, 120)
    again = OnnxConfig.model_validate(config.model_dump(mode="json") | {"file": None})
    first, second = (build_network(c, 14).state_dict() for c in (config, again))
    assert {k: v.shape for k, v in first.items()} == {k: v.shape for k, v in second.items()}


def test_joints_are_matched_by_name(file):
    skeleton = Skeleton("few", ("tail", "left_ankle", "right_ankle"))
    net, found = _initialized(file, skeleton=skeleton)
    assert (found.kept, found.reinitialized) == (("left_ankle", "right_ankle"), ("tail",))
    images = _images()
    all_joints, _ = _initialized(file)
    with torch.no_grad():
        ours, whole = (n(torch.from_numpy(images)).last(0) for n in (net, all_joints))
    column = LSP14.joints.index("left_ankle")
    np.testing.assert_allclose(ours[:, 1], whole[:, column], atol=1e-5)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (('grid = "origin"', 'grid = "corners"'), "cannot be trained here"),
        (("sigma = 1.5", 'sigma = 1.5\nreads = "keypoints"'), "cannot be trained here"),
        (('joints = "lsp14"', 'joints = "lsp15"'), "unknown skeleton"),
    ],
)
def test_what_cannot_be_trained_is_one_line(tmp_path, change, error):
    file = write_foreign_network(tmp_path / "f.onnx", TOML.replace(*change))
    with pytest.raises(ModelError, match=error):
        read_onnx_network(file).spec.skeleton  # noqa: B018


def test_a_missing_file_is_one_line(tmp_path):
    config = OnnxConfig(kind="onnx", file=str(tmp_path / "gone.onnx"))
    with pytest.raises(RecipeError, match="does not exist"):
        build_network(config, 14)
