"""A network of others through the whole pipeline: trained from its file, exported, quantized."""

import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import load_file

from okdhp_edge.artifacts.card import read_card
from okdhp_edge.backends.base import BackendConfig
from okdhp_edge.backends.registry import open_backend
from okdhp_edge.errors import RecipeError
from okdhp_edge.export.export_branch import ExportOptions, export_branch
from okdhp_edge.network.build import build_network
from okdhp_edge.pose.heatmap import HeatmapKind
from okdhp_edge.pose.skeleton import LSP14
from okdhp_edge.quantize.quantize_model import QuantizeOptions, quantize
from okdhp_edge.recipe.checkpoint import read_info
from okdhp_edge.train.initialize import initialize_from_onnx
from okdhp_edge.train.loop import train
from okdhp_edge.train.setup import TrainingOptions
from tests.helpers.foreign_network import write_foreign_network
from tests.helpers.tiny_models import DATA, detector_recipe, tiny_recipe


def _recipe(**changes):
    network = {"kind": "onnx", "branches": [1, 2], "aggregation": "depthwise"} | changes
    heatmap = {"hard_loss": "mse", "sigma": 1.5}
    return tiny_recipe(network=network, heatmap=heatmap, distillation={"method": "okdhp"},
                       optimizer={"epochs": 1, "batch_size": 16, "lr": 1e-3})  # fmt: skip


def test_it_is_trained_exported_and_quantized(tmp_path):
    file = write_foreign_network(tmp_path / "foreign.onnx")
    said = []
    options = TrainingOptions(out=tmp_path / "m", device="cpu", workers=0, say=said.append)
    best = train(_recipe(file=str(file)), DATA, options)
    assert f"initialized from {file}: all 14 joints" in said
    # The checkpoint holds the graph.
    file.unlink()
    fp32 = export_branch(best, ExportOptions(out=tmp_path / "m"))
    card = read_card(fp32)
    images = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3)).astype(np.uint8)
    maps = {}
    for name in ("pytorch", "onnxruntime", "openvino"):
        with open_backend(name, BackendConfig(fp32, card, "fp32")) as backend:
            maps[name] = backend.infer(images).copy()
    np.testing.assert_allclose(maps["onnxruntime"], maps["pytorch"], atol=1e-3)
    np.testing.assert_allclose(maps["openvino"], maps["pytorch"], atol=1e-3)
    profiles = ["onnxruntime", "openvino"]
    int8 = quantize(fp32, QuantizeOptions(data=DATA, max_drop=100.0, profiles=profiles))
    assert [read_card(int8 / name).precision for name in profiles] == ["int8", "int8"]
    again = read_info(best).recipe.model_copy(update={"start": str(best)})
    said.clear()
    train(again, DATA, TrainingOptions(out=tmp_path / "n", device="cpu", workers=0,
                                       say=said.append))  # fmt: skip
    assert f"initialized from {best}: all 14 joints" in said


def test_no_epochs_keep_the_network_of_the_file(tmp_path):
    file = write_foreign_network(tmp_path / "foreign.onnx")
    recipe = _recipe(file=str(file), branches=[1]).changed(epochs=0)
    best = train(recipe, DATA, TrainingOptions(out=tmp_path / "m", device="cpu", workers=0))
    facts = read_info(best)
    assert facts.epochs_done == 0
    net = build_network(recipe.network, 14)
    initialize_from_onnx(recipe.network, net, LSP14, HeatmapKind.GAUSSIAN)
    kept = load_file(best)
    for name, tensor in net.trunk.state_dict().items():
        torch.testing.assert_close(kept[f"net.trunk.{name}"], tensor)
    with pytest.raises(RecipeError, match="--epochs 0 needs start weights"):
        train(tiny_recipe().changed(epochs=0), DATA,
              TrainingOptions(out=tmp_path / "n", device="cpu", workers=0))  # fmt: skip


def test_a_detector_learns_on_its_features(tmp_path):
    file = write_foreign_network(tmp_path / "foreign.onnx")
    features = onnx.load(file).graph.node[-1].input[0]
    network = {"kind": "onnx", "file": str(file), "features": features, "branches": [2],
               "aggregation": "mean"}  # fmt: skip
    recipe = detector_recipe(
        network=network, distillation={"method": "supervised"},
        optimizer={"epochs": 1, "batch_size": 16, "lr": 1e-3},
    )  # fmt: skip
    best = train(recipe, "synthetic:48", TrainingOptions(out=tmp_path, device="cpu", workers=0))
    card = read_card(export_branch(best, ExportOptions(out=tmp_path)))
    assert (card.kind, card.decoder.stride) == ("detector", 4)


def test_layers_of_a_graph_have_no_strides_to_freeze_by():
    with pytest.raises(ValueError, match="freeze.to_stride needs an encoder"):
        tiny_recipe(network={"kind": "onnx"}, freeze={"to_stride": 4})


def test_a_recipe_without_its_file_is_one_line(tmp_path):
    options = TrainingOptions(out=tmp_path / "m", device="cpu", workers=0)
    with pytest.raises(RecipeError, match=r"network\.file gone\.onnx does not exist"):
        train(_recipe(file="gone.onnx"), DATA, options)
