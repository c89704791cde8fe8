"""A detector that others made through the whole pipeline, with the boxes of its own heads."""

import dataclasses

import cv2
import numpy as np
import onnx
import onnxruntime as ort
import pytest

from okdhp_edge.artifacts.card import read_card
from okdhp_edge.backends.base import BackendConfig
from okdhp_edge.backends.registry import get_profile, open_backend
from okdhp_edge.errors import ModelError, OkdhpError, RecipeError
from okdhp_edge.export.export_branch import ExportOptions, export_branch
from okdhp_edge.inference.open_detector import open_detector
from okdhp_edge.inference.person_detector import PersonDetector
from okdhp_edge.network.onnx_network import read_onnx_network
from okdhp_edge.pose.crop import box_iou
from okdhp_edge.quantize.graph.graph_rewrites import quantize_after_hard_swish
from okdhp_edge.quantize.graph.onnx_qdq import find_convolutions, find_heads, write_qdq
from okdhp_edge.quantize.quantize_model import QuantizeOptions, quantize
from okdhp_edge.quantize.ranges.calibrators import compute_ranges
from okdhp_edge.quantize.ranges.observe import observe
from okdhp_edge.quantize.ranges.statistics import observe_input_range
from okdhp_edge.train.loop import train
from okdhp_edge.train.setup import TrainingOptions
from tests.helpers.foreign_detector import SIDE, write_foreign_detector
from tests.helpers.foreign_network import write_foreign_network
from tests.helpers.tiny_models import detector_recipe

DATA = "synthetic:24"


def _recipe(file, side=SIDE, **network):
    return detector_recipe(
        network={"kind": "onnx", "file": str(file), "boxes": True, "branches": [1],
                 "aggregation": "mean"} | network,
        input={"size": [side, side]}, distillation={"method": "supervised"},
        optimizer={"epochs": 0},
    )  # fmt: skip


def _options(folder):
    return TrainingOptions(out=folder, device="cpu", workers=0)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return write_foreign_detector(tmp_path_factory.mktemp("foreign") / "foreign.onnx")


@pytest.fixture(scope="module")
def exported(file, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    return export_branch(train(_recipe(file), DATA, _options(folder)), ExportOptions(out=folder))


def _image():
    """Smooth, as half a pixel must not matter."""
    coarse = np.random.default_rng(0).integers(0, 256, (4, 4, 3)).astype(np.uint8)
    return cv2.resize(coarse, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)


def test_its_boxes_are_those_of_the_file(file, exported):
    card = read_card(exported)
    assert (card.kind, card.decoder.kind, card.decoder.stride) == ("detector", "boxes", 1)
    theirs = PersonDetector(file)
    theirs.spec = theirs.spec.model_copy(update={"min_score": 0.52, "max_overlap": 0.6})
    ours = open_detector(exported.parent, backend="onnxruntime", min_score=0.52)
    expected, found = theirs(_image()), ours(_image())
    # Ours end at the image's borders.
    inside = [a for a in expected if min(a.box[:2]) > 0 and max(a.box[:2] + a.box[2:]) < SIDE]
    assert len(inside) > 3
    for a in inside:
        b = max(found, key=lambda other: box_iou(a.box, other.box))
        assert box_iou(a.box, b.box) > 0.98
        assert a.score == pytest.approx(b.score, abs=0.01)


def test_every_runtime_gives_the_same_candidates(exported):
    card = read_card(exported)
    maps = {}
    for name in ("pytorch", "onnxruntime", "openvino"):
        with open_backend(name, BackendConfig(exported, card, "fp32")) as backend:
            maps[name] = backend.infer(_image()[None]).copy()
    assert maps["pytorch"].shape == (1, 5, 1, (SIDE // 8) ** 2 + (SIDE // 16) ** 2)
    for name in ("onnxruntime", "openvino"):
        np.testing.assert_allclose(maps[name], maps["pytorch"], atol=1e-3)


def test_its_heads_stay_float_in_int8(exported):
    source = exported / "model.onnx"
    assert len(find_heads(source)) == 2
    assert set(find_heads(source)).isdisjoint(find_convolutions(source))
    profiles = ["openvino", "onnxruntime"]
    int8 = quantize(exported, QuantizeOptions(data=DATA, max_drop=100.0, profiles=profiles))
    with open_backend("pytorch", BackendConfig(exported, read_card(exported), "fp32")) as backend:
        expected = backend.infer(_image()[None]).copy()
    for name in profiles:
        card = read_card(int8 / name)
        with open_backend(name, BackendConfig(int8 / name, card, "int8")) as backend:
            shift = np.abs(backend.infer(_image()[None]) - expected)
        assert np.median(shift[:, 1:]) < 1.0 and shift[:, 0].max() < 0.1


def _run(path):
    return ort.InferenceSession(path).run(None, {"image": _image()[None]})[0]


def test_only_the_result_of_a_hard_swish_is_quantized(exported, tmp_path):
    source, file = exported / "model.onnx", tmp_path / "qdq.onnx"
    ranges = compute_ranges(observe(source, [_image()[None]]), "minmax")
    plain = dataclasses.replace(get_profile("openvino"), rewrite=False)
    write_qdq(source, file, ranges | observe_input_range(source), plain)
    before = onnx.load(file).graph.node
    quantize_after_hard_swish(file)
    after = onnx.load(file).graph.node
    makers = {name: node.op_type for node in after for name in node.output}
    swishes = [node for node in after if node.op_type == "HardSwish"]
    assert swishes and {makers[node.input[0]] for node in swishes} == {"Conv"}
    count = [[n.op_type for n in nodes].count("QuantizeLinear") for nodes in (before, after)]
    assert count[0] - count[1] == len(swishes)
    shift = np.abs(_run(file) - _run(source))
    assert np.median(shift[:, 1:]) < 1.0


@pytest.mark.parametrize(
    ("change", "error", "remedy"),
    [
        ({"side": 64}, "takes 96x96, input.size is 64x64", "96, 96"),
        ({"features": "x"}, "mutually exclusive", ""),
    ],
)
def test_what_does_not_fit_is_one_line(file, tmp_path, change, error, remedy):
    with pytest.raises((OkdhpError, ValueError), match=error) as caught:
        train(_recipe(file, **change), DATA, _options(tmp_path))
    assert remedy in str(caught.value)


def test_its_boxes_are_not_trained(file, tmp_path):
    with pytest.raises(RecipeError, match=r"keeps the file's own output.*--epochs 0"):
        train(_recipe(file).changed(epochs=1), DATA, _options(tmp_path))


def test_a_pose_network_has_no_table_of_boxes(tmp_path):
    file = write_foreign_network(tmp_path / "pose.onnx")
    with pytest.raises(ModelError, match="not one table"):
        read_onnx_network(file, boxes=True)
