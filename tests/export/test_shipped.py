"""The float weights that are shipped: whoever has them has the models."""

import pytest
import torch

from okdhp_edge.artifacts import model_store
from okdhp_edge.artifacts.card import compute_sha256, read_card
from okdhp_edge.export.export_branch import ExportOptions, export_branch
from okdhp_edge.network.build import build_network
from okdhp_edge.pose.skeleton import COCO17, Skeleton
from okdhp_edge.recipe.checkpoint import read_info
from okdhp_edge.train.initialize import initialize_from


@pytest.mark.slow
@pytest.mark.parametrize("name", [*model_store.SHIPPED_MODELS, model_store.SHIPPED_DETECTOR])
def test_their_export_is_the_file_that_int8_was_made_from(name, real_data, tmp_path):
    weights = model_store.resolve_weights(name)
    precision = "fp32" if name in model_store.SHIPPED_FLOAT_MODELS else "int8"
    card = read_card(
        model_store.find_artifact(model_store.resolve_model(name), "onnxruntime", precision)
    )
    options = ExportOptions(
        out=tmp_path, data=f"coco:{real_data / 'coco_mini'}@all",
        box_padding=card.input.box_padding,
    )  # fmt: skip
    folder = export_branch(weights, options)
    shipped = card.float_sha256 or card.files["model.onnx"]
    assert compute_sha256(folder / "model.onnx") == shipped


@pytest.mark.parametrize("name", model_store.SHIPPED_MODELS)
def test_training_goes_on_from_them_on_a_fresh_install(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where there is no models/
    weights = model_store.resolve_weights(name)
    assert weights.stat().st_size <= 8e6
    facts = read_info(weights)
    assert facts.skeleton.skeleton() == COCO17
    mine = Skeleton("mine", ("nose", "left_wrist", "right_wrist", "bat"))
    net = build_network(facts.recipe.network, len(mine), load_encoder=False)
    begun = initialize_from(weights, net, facts.recipe.network, mine)
    assert begun.kept == mine.joints[:3] and begun.reinitialized == ("bat",)
    with torch.no_grad():
        found = net.eval()(torch.zeros(1, 64, 64, 3, dtype=torch.uint8)).last(0)
    assert torch.isfinite(found).all()
