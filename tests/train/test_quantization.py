"""Training with quantization: one branch in INT8, its peers float, the file as it was trained."""

import json

import numpy as np
import pytest
import torch

from okdhp_edge.artifacts.card import read_card
from okdhp_edge.backends.base import BackendConfig, predict_with
from okdhp_edge.backends.registry import get_profile, open_backend
from okdhp_edge.data.load import load
from okdhp_edge.errors import RecipeError
from okdhp_edge.evaluation.evaluate import evaluate
from okdhp_edge.export.export_branch import ExportOptions, export_branch
from okdhp_edge.quantize.quantize_model import QuantizeOptions, quantize, read_learned_ranges
from okdhp_edge.recipe.checkpoint import read_info, save_half
from okdhp_edge.train.loop import train
from okdhp_edge.train.setup import TrainingOptions
from tests.helpers.tiny_models import DATA, tiny_recipe


def _options(folder, **changes):
    return TrainingOptions(out=folder, device="cpu", workers=0, **changes)


def _recipe(trained, profile="generic", epochs=1, **changes):
    return tiny_recipe(
        start=str(trained), quantization={"profile": profile, **changes},
        optimizer={"epochs": epochs, "batch_size": 16, "lr": 3e-4},
    )  # fmt: skip


@pytest.fixture(scope="module", params=["generic", "tensorrt"])
def aware(request, trained, tmp_path_factory):
    """Checkpoint and profile after an epoch with quantization."""
    folder = tmp_path_factory.mktemp(request.param)
    return train(_recipe(trained, request.param), DATA, _options(folder)), request.param


def test_the_artefact_computes_what_was_trained(aware):
    best, profile = aware
    scores = read_info(best).scores
    fp32 = export_branch(best, ExportOptions(out=best.parent))
    assert "ranges.json" in read_card(fp32).files
    made = quantize(fp32, QuantizeOptions(data=DATA, max_drop=100.0, profiles=[profile]))
    card = read_card(made / profile)
    assert card.calibration.method == "learned"
    val = load(DATA, "val")
    with open_backend("onnxruntime", BackendConfig(made / profile, card, "int8")) as loaded:
        found = evaluate(val, card.input, card.decoder, predict_with(loaded), "pck@0.2")["model"]
    assert found.value == pytest.approx(scores["int8"], abs=6.0)  # ten persons, a joint or two


def test_the_learnt_steps_are_the_files(aware):
    best, profile = aware
    fp32 = best.parent / "fp32"
    content = json.loads((fp32 / "ranges.json").read_text())
    ranges = content["ranges"]
    assert content["profile"] == profile
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(str(best.parent / "int8" / profile / "model.onnx")).graph
    constants = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
    scales = {n.input[0]: float(constants[n.input[1]]) for n in graph.node
              if n.op_type == "QuantizeLinear" and n.input[0] in ranges}  # fmt: skip
    assert len(scales) > 10
    for name, scale in scales.items():
        low, high = ranges[name]
        steps = 254 if profile == "tensorrt" else 255
        assert scale == pytest.approx((high - low) / steps, rel=1e-3)  # FP16 in TensorRT's


def test_half_precision_weights_export_with_the_same_ranges(aware, tmp_path):
    best, _ = aware
    whole = export_branch(best, ExportOptions(out=tmp_path / "whole"))
    save_half(best, tmp_path / "weights.safetensors")
    halved = export_branch(
        tmp_path / "weights.safetensors", ExportOptions(out=tmp_path / "half", data=DATA)
    )
    (a, b) = (json.loads((f / "ranges.json").read_text())["ranges"] for f in (whole, halved))
    assert {k: pytest.approx(v, rel=1e-2) for k, v in a.items()} == b


def test_learned_ranges_serve_profiles_of_their_kind_alone(aware):
    best, profile = aware
    fp32 = export_branch(best, ExportOptions(out=best.parent))
    for name in ("generic", "openvino", "onnxruntime", "tensorrt"):
        found = read_learned_ranges(fp32, get_profile(name))
        assert bool(found) == ((name == "tensorrt") == (profile == "tensorrt"))


def test_peers_stay_float_and_learn_as_before(trained, tmp_path):
    recipe = _recipe(trained, hard_weight=0.0, kd_weight=0.0)
    with_it = train(recipe, DATA, _options(tmp_path / "a"))
    without = train(
        recipe.model_copy(update={"quantization": None}), DATA, _options(tmp_path / "b")
    )
    assert read_info(with_it).scores["branch1"] == read_info(without).scores["branch1"]


def test_a_resumed_run_is_the_same(trained, tmp_path):
    recipe = _recipe(trained, epochs=2)
    whole = train(recipe, DATA, _options(tmp_path / "whole"))

    class StopError(Exception):
        pass

    def stop(stage, done, total, text):
        if stage == "epoch 2":
            raise StopError

    with pytest.raises(StopError):
        train(recipe, DATA, _options(tmp_path / "parts", report=stop))
    parts = train(recipe, DATA, _options(tmp_path / "parts", resume=True))
    assert read_info(whole).scores == read_info(parts).scores


def test_the_deployed_branch_is_the_quantized_one_from_its_first_epoch_on(trained, tmp_path):
    best = train(_recipe(trained, epochs=2, branch=1, start_epoch=1), DATA, _options(tmp_path))
    facts = read_info(best)
    assert (facts.best_branch, facts.epochs_done) == (1, 2)
    assert facts.best_score == facts.scores["int8"]


def test_another_networks_weights_are_no_start(trained, tmp_path):
    recipe = tiny_recipe(
        start=str(trained), network={"kind": "hourglass", "width": 8, "branches": [1]}
    )
    with pytest.raises(RecipeError, match="differs from the recipe's"):
        train(recipe, DATA, _options(tmp_path))


def test_the_branch_must_be_one_that_can_be_deployed():
    with pytest.raises(ValueError, match="quantization.branch"):
        tiny_recipe(quantization={"profile": "generic", "branch": 7})


def test_terms_are_the_hard_loss_and_the_kl_from_the_ensemble(trained):
    from okdhp_edge.network.build import build_network
    from okdhp_edge.network.config import QuantizerPlacement
    from okdhp_edge.network.fake_quant import QuantizedBranch
    from okdhp_edge.pose.skeleton import LSP14
    from okdhp_edge.train.losses import pixelwise_kl
    from okdhp_edge.train.methods import build_method
    from okdhp_edge.train.quantization import QuantizationAware
    from tests.helpers.fixed_net import made_batch

    recipe = _recipe(trained, hard_weight=2.0, kd_weight=3.0)
    net, method = build_network(recipe.network, 14), build_method(recipe, LSP14)
    branch = QuantizedBranch(net, 0, (64, 64), QuantizerPlacement())
    batch = made_batch()._replace(
        xy=torch.tensor(np.random.default_rng(0).uniform(0, 15, (2, 14, 2)), dtype=torch.float32)
    )
    branch.calibrate([batch.image])
    losses = method(net, batch, 0.0)
    terms = QuantizationAware(branch, recipe.quantization)(method, losses, batch)
    heatmaps = branch(batch.image)
    hard = method.hard(heatmaps, batch, batch.weight, recipe.heatmap.sigma)
    kd = pixelwise_kl(heatmaps, losses.ensemble, batch.weight, batch.weight.sum(), 1.0)
    assert float(terms["int8_hard"]) == pytest.approx(2 * float(hard), rel=1e-5)
    assert float(terms["int8_kd"]) == pytest.approx(3 * float(kd), rel=1e-4)
    (gradient,) = torch.autograd.grad(
        terms["int8_kd"], [losses.ensemble], allow_unused=True, retain_graph=True
    )
    assert gradient is None or not gradient.any()
