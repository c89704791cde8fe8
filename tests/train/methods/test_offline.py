"""FPD, ODKD and the second stage: what trained teachers say, and to whom."""

import numpy as np
import pytest
import torch

from okdhp_edge.errors import RecipeError
from okdhp_edge.network.build import build_network
from okdhp_edge.pose.skeleton import LSP14
from okdhp_edge.recipe.checkpoint import read_info
from okdhp_edge.train.loop import train
from okdhp_edge.train.methods import build_method
from okdhp_edge.train.methods.odkd import binarize
from okdhp_edge.train.methods.offline import compute_teacher_targets
from okdhp_edge.train.setup import TrainingOptions
from okdhp_edge.train.teacher import TeacherTargets
from tests.helpers.fixed_net import JOINTS, SIDE, FixedNet, made_batch, recipe_with
from tests.helpers.tiny_models import DATA, tiny_recipe


def _method(trained, **table):
    return build_method(recipe_with({"teacher": {"path": str(trained)}, **table}), LSP14)


def _lesson():
    torch.manual_seed(3)
    maps = torch.rand(2, JOINTS, SIDE, SIDE)
    found = torch.ones(2, JOINTS)
    return TeacherTargets(maps / maps.amax((2, 3), keepdim=True), found, None)


def _answering(targets):
    teacher = lambda *_: targets  # noqa: E731
    teacher.reads_mask = False
    teacher.window = None
    return teacher


@pytest.mark.parametrize("kind", ["ce", "mse"])
def test_fpd_is_alpha_times_the_teacher_and_the_rest_labels_in_numpy(trained, kind):
    net, batch, targets = FixedNet(own=(1, 1)), made_batch(), _lesson()
    table = {"method": "fpd", "teacher": {"path": str(trained)}, "alpha": 0.3}
    method = build_method(recipe_with(table, heatmap={"hard_loss": kind, "sigma": 1.0}), LSP14)
    method.teacher = _answering(targets)
    terms = method(net, batch, 0.0).terms
    w, t = batch.weight.numpy(), targets.heatmaps.numpy()
    expected = 0.0
    for b in range(2):
        m = net.outputs.last(b).detach().numpy().astype(np.float64)
        if kind == "mse":
            per_joint = 0.5 * ((m - t) ** 2).mean((2, 3))
        else:
            logs = m - np.log(np.exp(m).sum((2, 3), keepdims=True))
            per_joint = -(t / t.sum((2, 3), keepdims=True) * logs).sum((2, 3))
        expected += (per_joint * w).sum() / w.sum()
    assert float(terms["kd"].detach()) == pytest.approx(0.3 * expected, rel=1e-4)
    full = build_method(
        recipe_with({"method": "supervised"}, heatmap={"hard_loss": kind, "sigma": 1.0}), LSP14
    )(net, batch, 0.0).terms["hard"]
    torch.testing.assert_close(terms["hard"], 0.7 * full)


def test_alpha_zero_is_plain_supervision(trained):
    net, batch = FixedNet(own=(1, 1)), made_batch()
    method = _method(trained, method="fpd", alpha=0.0)
    method.teacher = _answering(_lesson())
    losses = method(net, batch, 0.0)
    plain = build_method(recipe_with({"method": "supervised"}), LSP14)(net, batch, 0.0)
    torch.testing.assert_close(sum(losses.terms.values()), plain.terms["hard"])


def test_pictures_without_labels_are_taught_by_the_teacher_alone(trained):
    net, batch = FixedNet(own=(1, 1)), made_batch()
    weight = batch.weight * torch.tensor([[1.0], [0.0]])
    batch = batch._replace(labelled=torch.tensor([True, False]), weight=weight)
    method = _method(trained, method="fpd")
    method.teacher = _answering(_lesson())
    terms = method(net, batch, 0.0).terms
    (hard,) = torch.autograd.grad(terms["hard"], net.outputs.branches[0], retain_graph=True)
    (kd,) = torch.autograd.grad(terms["kd"], net.outputs.branches[0])
    assert not hard[1].any()
    assert (kd[1].abs().sum((0, 2, 3)) > 0).all()


def test_joints_that_the_teacher_lacks_are_not_taught(trained):
    net, batch = FixedNet(own=(1, 1)), made_batch()
    knows = torch.ones(2, JOINTS)
    knows[:, 0] = 0
    method = _method(trained, method="fpd")
    method.teacher = _answering(TeacherTargets(_lesson().heatmaps, knows, None))
    (kd,) = torch.autograd.grad(method(net, batch, 0.0).terms["kd"], net.outputs.branches[0])
    assert not kd[:, :, 0].any()


def test_the_teacher_gets_no_gradient_and_is_not_saved(trained):
    recipe = recipe_with({"method": "fpd", "teacher": {"path": str(trained)}})
    net, method = build_network(recipe.network, JOINTS), build_method(recipe, LSP14)
    method.prepare(net)
    targets = method.teacher(made_batch().image, (16, 16))
    assert not targets.heatmaps.requires_grad
    assert not list(method.parameters()) and not method.state_dict()


def test_features_are_matched_through_a_learnt_layer(trained):
    recipe = recipe_with(
        {"method": "fpd", "teacher": {"path": str(trained)}, "feature_weight": 2.0}
    )
    net, method = build_network(recipe.network, JOINTS), build_method(recipe, LSP14)
    method.prepare(net)
    terms = method(net, made_batch(), 0.0).terms
    terms["feature"].backward()
    assert method.align.weight.grad.any() and net.trunk.stem.conv.weight.grad.any()


def test_odkd_changes_its_teacher_once(trained):
    recipe = recipe_with(
        {"method": "odkd", "primary": {"path": str(trained)}, "senior": {"path": str(trained)},
         "switch": 0.5, "binarise": None}
    )  # fmt: skip
    method, asked = build_method(recipe, LSP14), []
    for name in ("primary", "senior"):
        teacher = lambda *_, n=name: asked.append(n) or _lesson()  # noqa: E731
        teacher.window = None
        setattr(method, name, teacher)
    for epoch in (0.0, 0.9, 1.0, 1.9):
        method(FixedNet((1, 1)), made_batch(), epoch)
    assert asked == ["primary", "primary", "senior", "senior"]


def test_binarised_heatmaps_are_one_or_zero():
    maps = torch.tensor([[[[0.2, 0.5], [0.51, 1.0]]]])
    assert binarize(maps, 0.5).tolist() == [[[[0.0, 0.0], [1.0, 1.0]]]]


def test_a_senior_teacher_sees_the_mask_and_the_student_does_not(tmp_path):
    """Through the real loop: a teacher trained with masks, then a student taught by it."""
    network = {"kind": "hourglass", "width": 16, "shared_stacks": 0, "branches": [1]}
    optimizer = {"epochs": 1, "batch_size": 16}
    options = {"device": "cpu", "workers": 0}
    senior = train(
        tiny_recipe(network={**network, "mask": True}, optimizer=optimizer,
                    distillation={"method": "supervised"}),
        DATA, TrainingOptions(out=tmp_path / "senior", **options),
    )  # fmt: skip
    table = {"method": "odkd", "primary": {"path": str(senior)}, "senior": {"path": str(senior)}}
    recipe = recipe_with(table, network=network)
    method = build_method(recipe, LSP14)
    assert method.reads_mask
    net = FixedNet((1,))
    method(net, made_batch(channels=4), 0.0)
    assert net.seen.shape[-1] == 3
    best = train(
        tiny_recipe(network=network, optimizer=optimizer, distillation=table), DATA,
        TrainingOptions(out=tmp_path / "student", **options),
    )  # fmt: skip
    assert read_info(best).epochs_done == 1


def test_selfkd_trains_a_fresh_head_on_the_frozen_trunk(tmp_path, trained):
    network = tiny_recipe().network.model_dump() | {"branches": [1]}
    table = {"method": "selfkd", "teacher": {"path": str(trained)}}
    recipe = tiny_recipe(network=network, distillation=table)
    best = train(recipe, DATA, TrainingOptions(out=tmp_path / "m", device="cpu", workers=0))
    from safetensors.torch import load_file

    before, after = load_file(trained), load_file(best)
    trunk = [k for k in after if k.startswith("net.trunk.")]
    assert trunk and all(torch.equal(before[k], after[k]) for k in trunk)
    head = [k for k in after if k.startswith("net.branches.0.") and k.endswith("weight")]
    assert any(not torch.equal(before[k], after[k]) for k in head)


def test_selfkd_refuses_another_trunk(trained):
    table = {"method": "selfkd", "teacher": {"path": str(trained)}}
    recipe = recipe_with(table, network={"kind": "hourglass", "width": 8, "branches": [1]})
    with pytest.raises(RecipeError, match="trunk"):
        build_method(recipe, LSP14).prepare(build_network(recipe.network, JOINTS))


def test_only_what_a_teacher_says_near_a_label_counts_where_it_is_told_so():
    batch = made_batch()
    teacher = _answering(_lesson())
    whole = compute_teacher_targets(teacher, batch, (SIDE, SIDE)).heatmaps
    teacher.window = 1.0
    targets = compute_teacher_targets(teacher, batch, (SIDE, SIDE))
    near, known = targets.heatmaps, batch.weight > 0
    assert (~known).any() and targets.joint_mask.all()
    torch.testing.assert_close(near[~known], whole[~known])
    for maps, (x, y) in zip(near[known], batch.xy[known], strict=True):
        rows, columns = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
        far = ((columns - x).abs() > 3) | ((rows - y).abs() > 3)
        assert not maps[far].any()
        assert maps.max() == pytest.approx(1.0)


def test_a_teacher_that_shows_a_labelled_joint_elsewhere_is_not_heard_about_it():
    batch = made_batch()
    batch.xy[0, 0] = torch.tensor([2.0, 2.0])
    maps = torch.zeros(2, JOINTS, SIDE, SIDE)
    maps[:, :, SIDE - 2, SIDE - 2] = 1.0
    teacher = _answering(TeacherTargets(maps, torch.ones(2, JOINTS), None))
    teacher.window = 1.0
    targets = compute_teacher_targets(teacher, batch, (SIDE, SIDE))
    assert targets.joint_mask[0, 0] == 0
    assert (targets.joint_mask[batch.weight == 0] == 1).all()


@pytest.mark.parametrize("method", ["fpd", "selfkd"])
def test_presence_is_learned_where_the_teacher_alone_says_where_joints_are(trained, method):
    table = {"method": method, "teacher": {"path": str(trained)}}
    table |= {"alpha": 1.0} if method == "fpd" else {}
    heatmap = {"hard_loss": "ce", "sigma": 1.0, "presence": 0.3}
    made = build_method(recipe_with(table, heatmap=heatmap), LSP14)
    made.teacher = _answering(_lesson())
    net = FixedNet(own=(1, 1))
    terms = made(net, made_batch(), 0.0).terms
    assert set(terms) == {"kd", "presence"}
    (level,) = torch.autograd.grad(terms["presence"], net.outputs.branches[0])
    assert level.any()
