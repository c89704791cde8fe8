import json
import shutil

import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import load_file

from okdhp_edge.artifacts.card import read_card
from okdhp_edge.backends.base import BackendConfig
from okdhp_edge.backends.registry import open_backend
from okdhp_edge.errors import BackendError, DataError, GateError, ModelError
from okdhp_edge.export import export_branch as stage
from okdhp_edge.export.export_branch import ExportOptions, export_branch
from okdhp_edge.network.branches import SingleBranch
from okdhp_edge.network.build import build_network, count_parameters
from okdhp_edge.network.config import HourglassConfig
from okdhp_edge.recipe.checkpoint import load_net, read_info, save
from tests.helpers.tiny_models import DATA


def test_the_card_says_what_was_made_and_measured(exported, trained):
    card = read_card(exported)
    assert card.parity_px <= 0.1
    assert card.metrics[0].metric == "pck@0.2"
    assert card.metrics[0].split == "val"
    assert card.batch == 1
    from okdhp_edge.artifacts.card import compute_sha256

    assert card.parent_sha256 == compute_sha256(trained)


def test_weights_judged_by_cocos_ap_are_exported_on_any_set(trained, tmp_path):
    facts = read_info(trained)
    net = build_network(facts.recipe.network, facts.channels)
    load_net(trained, net)
    save(tmp_path / "ap.safetensors", facts.model_copy(update={"metric": "ap"}), net)
    fp32 = export_branch(tmp_path / "ap.safetensors", ExportOptions(out=tmp_path, data=DATA))
    assert read_card(fp32).metrics[0].metric == "pck@0.2"


def test_the_graph_takes_pictures_and_holds_no_other_branch(exported):
    model = onnx.load(str(exported / "model.onnx"))
    tensor = model.graph.input[0].type.tensor_type
    assert tensor.elem_type == onnx.TensorProto.UINT8
    assert [d.dim_value for d in tensor.shape.dim] == [1, 64, 64, 3]
    assert [n.op_type for n in model.graph.node[:2]] == ["Cast", "Transpose"]
    assert model.opset_import[0].version <= 20
    config = HourglassConfig(kind="hourglass", width=16, branches=(1,), aggregation="mean")
    alone = count_parameters(SingleBranch(build_network(config, 14), 0))
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    weights = load_file(exported / "branch.safetensors")
    stored = sum(t.numel() for k, t in weights.items() if not k.endswith(statistics))
    assert stored == alone
    in_graph = sum(int(np.prod(i.dims)) for i in model.graph.initializer)
    assert in_graph < 1.1 * alone  # folded norms are gone; no second branch, no FAU


def test_the_facts_travel_inside_the_file(exported):
    props = {p.key: p.value for p in onnx.load(str(exported / "model.onnx")).metadata_props}
    assert json.loads(props["okdhp_edge.decoder"])["kind"] == "logits"
    assert len(json.loads(props["okdhp_edge.skeleton"])["joints"]) == 14


def test_a_free_batch_runs_at_one_and_many(trained, tmp_path):
    folder = export_branch(trained, ExportOptions(out=tmp_path, batch=None))
    card = read_card(folder)
    assert card.batch is None
    images = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3)).astype(np.uint8)
    with open_backend("onnxruntime", BackendConfig(folder, card, "fp32")) as backend:
        together = backend.infer(images)
        alone = np.concatenate([backend.infer(images[i : i + 1]) for i in range(5)])
    np.testing.assert_allclose(together, alone, atol=1e-4)


@pytest.mark.parametrize("branch", ["0", "1"])
def test_a_branch_can_be_chosen_by_number(trained, tmp_path, branch):
    card = read_card(export_branch(trained, ExportOptions(out=tmp_path, branch=branch)))
    assert card.branch == int(branch)


def test_pytorch_weights_can_be_left_out(trained, tmp_path):
    folder = export_branch(trained, ExportOptions(out=tmp_path, pytorch=False))
    assert sorted(p.suffix for p in folder.iterdir() if p.name[0] != ".") == [".json", ".onnx"]
    assert read_card(folder).network is None
    with pytest.raises(BackendError, match="no PyTorch weights"):
        open_backend("pytorch", BackendConfig(folder, read_card(folder), "fp32"))


def test_a_branch_that_does_not_exist_is_named(trained, tmp_path):
    with pytest.raises(ModelError, match="no branch '2'; use best, or 0 to 1"):
        export_branch(trained, ExportOptions(out=tmp_path, branch="2"))


def test_a_file_that_computes_something_else_fails_and_is_not_left(trained, tmp_path, monkeypatch):
    """The torch side of the comparison gets another weight: the gate must see it."""
    honest = stage._make_torch_predictor

    def other(single):
        with torch.no_grad():
            single.branch.own.stacks[-1].score.weight.mul_(-1)
        return honest(single)

    monkeypatch.setattr(stage, "_make_torch_predictor", other)
    with pytest.raises(GateError, match=r"differ from PyTorch's by .* px"):
        export_branch(trained, ExportOptions(out=tmp_path))
    assert GateError.exit_code == 3
    assert not list(tmp_path.iterdir())


def test_a_failed_export_leaves_the_last_good_one(trained, exported, tmp_path, monkeypatch):
    shutil.copytree(exported, tmp_path / "fp32")
    monkeypatch.setattr(stage, "check_parity", lambda _: (_ for _ in ()).throw(RuntimeError))
    with pytest.raises(RuntimeError):
        export_branch(trained, ExportOptions(out=tmp_path))
    assert read_card(tmp_path / "fp32") == read_card(exported)
    assert [p.name for p in tmp_path.iterdir()] == ["fp32"]


def test_the_pictures_it_was_trained_on_may_be_gone(trained, tmp_path):
    with pytest.raises(DataError):
        export_branch(trained, ExportOptions(out=tmp_path, data="lspet:/nowhere"))


def test_without_onnxsim_the_file_still_computes_the_same(trained, exported, tmp_path):
    plain = export_branch(trained, ExportOptions(out=tmp_path, simplify=False))
    assert read_card(plain).simplified is False
    assert read_card(exported).simplified is True
    image = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3)).astype(np.uint8)
    outputs = []
    for folder in (plain, exported):
        with open_backend(
            "onnxruntime", BackendConfig(folder, read_card(folder), "fp32")
        ) as backend:
            outputs.append(backend.infer(image))
    np.testing.assert_allclose(*outputs, atol=1e-3)
