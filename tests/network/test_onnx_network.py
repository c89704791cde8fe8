"""A network of others computes here what its file computes, on our grid, at other sizes."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

from okdhp_edge.errors import ModelError, RecipeError
from okdhp_edge.network.build import build_network
from okdhp_edge.network.config import OnnxConfig
from okdhp_edge.network.onnx_network import build_trunk, encode_graph, read_onnx_network
from okdhp_edge.pose.heatmap import HeatmapKind
from okdhp_edge.pose.skeleton import LSP14, Skeleton
from okdhp_edge.train.initialize import initialize_from_onnx
from tests.helpers.foreign_network import SIDE, TOML, write_foreign_network


@pytest.fixture
def file(tmp_path):
    return write_foreign_network(tmp_path / "foreign.onnx")


def _initialized(file, branches=(1,), skeleton=LSP14, kind=HeatmapKind.GAUSSIAN):
    config = OnnxConfig(kind="onnx", file=str(file), branches=branches)
    net = build_network(config, len(skeleton)).eval()
    return net, initialize_from_onnx(config, net, skeleton, kind)


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
    assert found == "all 14 joints"
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


def test_gaussians_become_logits_with_the_same_peaks(file):
    images = torch.from_numpy(_images())
    with torch.no_grad():
        gaussians, logits = (
            _initialized(file, kind=kind)[0](images).last(0)
            for kind in (HeatmapKind.GAUSSIAN, HeatmapKind.PRESENCE)
        )
    np.testing.assert_allclose(logits, 12 * gaussians - 3, atol=1e-4)


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
    assert found == "joints kept: left_ankle, right_ankle; reinitialized: tail"
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
        read_onnx_network(file).spec.skeleton  # type: ignore[attr-defined]  # noqa: B018


def _find_features(file):
    """The tensor that the last convolution reads."""
    return onnx.load(file).graph.node[-1].input[0]


def test_branches_begin_anew_after_a_tensor_of_the_file(tmp_path):
    file = write_foreign_network(tmp_path / "f.onnx", TOML + "min_score = 0.3\n")
    config = OnnxConfig(kind="onnx", file=str(file), features=_find_features(file), branches=(2,))
    net = build_network(config, 5).eval()
    said = initialize_from_onnx(config, net, LSP14, HeatmapKind.CENTERS)
    assert said.startswith(f"all before {config.features} (")
    pose, _ = _initialized(write_foreign_network(tmp_path / "pose.onnx"))
    images = torch.from_numpy(_images())
    with torch.no_grad():
        ours, whole = (n(images) for n in (net, pose))
    np.testing.assert_allclose(ours.backbone_features, whole.backbone_features, atol=1e-5)
    assert ours.last(0).shape == (2, 5, 16, 16)


def test_a_tensor_that_is_not_there_is_one_line(file):
    with pytest.raises(ModelError, match="has no tensor gone"):
        read_onnx_network(file, features="gone")


def test_a_missing_file_is_one_line(tmp_path):
    config = OnnxConfig(kind="onnx", file=str(tmp_path / "gone.onnx"))
    with pytest.raises(RecipeError, match="does not exist"):
        build_network(config, 14)


def test_constants_that_a_file_holds_as_numbers_are_kept(tmp_path):
    """`onnx.helper.make_tensor` writes them so; only what was taken out is filled anew."""
    gain = onnx.helper.make_tensor("gain", onnx.TensorProto.FLOAT, [1], [2.5])
    node = onnx.helper.make_node("Mul", ["x", "gain"], ["y"])
    values = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [1, 3, 8, 8])
              for n in ("x", "y")]  # fmt: skip
    graph = onnx.helper.make_graph([node], "g", values[:1], values[1:], [gain])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])
    trunk, _ = build_trunk(encode_graph(model))
    assert torch.equal(trunk(torch.ones(1, 3, 8, 8)), torch.full((1, 3, 8, 8), 2.5))


def test_a_file_in_the_home_folder_is_found(file, monkeypatch):
    monkeypatch.setenv("HOME", str(file.parent))
    config = OnnxConfig(kind="onnx", file=f"~/{file.name}", branches=(1,))
    assert config.graph
    assert config.file == str(file)
