"""Peers with their own targets, and a leader."""

import numpy as np
import pytest
import torch

from okdhp_edge.errors import RecipeError
from okdhp_edge.network.build import build_network
from okdhp_edge.pose.skeleton import LSP14
from okdhp_edge.recipe.recipe import Recipe, read_recipe
from okdhp_edge.train.methods import build_method
from tests.helpers.fixed_net import FixedNet, made_batch, recipe_with
from tests.helpers.tiny_models import write_tiny_recipe

NETWORK = {"kind": "hourglass", "width": 8, "shared_stacks": 0, "branches": [1, 1, 1]}


def _method(net, **changes):
    table = {"method": "okddip", "ramp_epochs": 0, "attention": 4, **changes}
    method = build_method(recipe_with(table, network=NETWORK), LSP14)
    method.prepare(net)
    return method


def _softmax(x, axis):
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def test_the_terms_are_the_papers_in_numpy():
    net, batch = FixedNet(own=(1, 1, 1)), made_batch()
    method = _method(net)
    kd = float(method(net, batch, 0.0).terms["kd"].detach())
    maps = [net.outputs.last(b).detach().numpy().reshape(2, 14, -1) for b in range(3)]
    q = [_softmax(m.astype(np.float64), -1) for m in maps]
    h = [net.outputs.branch_features[b].detach().numpy().mean((2, 3)) for b in (1, 2)]
    query, key = (layer.weight.detach().numpy() for layer in (method.query, method.key))
    scores = [[((a @ query.T) * (b @ key.T)).sum(-1) for b in h] for a in h]
    attention = _softmax(np.array(scores), 1)
    targets = [(q[1] + q[2]) / 2] + [
        sum(attention[a, b][:, None, None] * q[b + 1] for b in range(2)) for a in range(2)
    ]
    w = batch.weight.numpy()
    expected = sum(
        ((t * (np.log(t) - np.log(s))).sum(-1) * w).sum() / w.sum()
        for t, s in zip(targets, q, strict=True)
    )
    assert kd == pytest.approx(expected, rel=1e-4)


def test_the_leaders_lesson_moves_the_leader_alone():
    net, batch = FixedNet(own=(1, 1, 1)), made_batch()
    targets = _method(net)._compute_targets(net.outputs)
    assert not targets[0].requires_grad
    kd = _method(net)(net, batch, 0.0).terms["kd"]
    assert all(g.any() for g in torch.autograd.grad(kd, net.outputs.branches))


def test_detached_peers_get_no_gradient_as_teachers_but_the_attention_learns():
    net, batch = FixedNet(own=(1, 1, 1)), made_batch()
    method = _method(net)
    mixed = torch.stack(method._compute_targets(net.outputs)[1:]).sum()
    assert torch.autograd.grad(mixed, net.outputs.branches, allow_unused=True) == (None,) * 3
    method(net, batch, 0.0).terms["kd"].backward()
    assert method.query.weight.grad.any() and method.key.weight.grad.any()
    free = _method(net, detach=False)
    moved = torch.autograd.grad(
        torch.stack(free._compute_targets(net.outputs)).sum(),
        net.outputs.branches,
        allow_unused=True,
    )
    assert moved[0] is None and moved[1].any() and moved[2].any()


def test_the_leader_is_what_is_deployed():
    recipe = recipe_with({"method": "okddip"}, network=NETWORK)
    assert recipe.network.deployable == (0, 1, 2)
    assert recipe.deployable == (0,)


def test_one_peer_is_too_few(tmp_path):
    path = write_tiny_recipe(tmp_path)
    path.write_text(path.read_text() + '[distillation]\nmethod = "okddip"\n')
    with pytest.raises(RecipeError, match="three branches"):
        read_recipe(path)


def test_it_attends_over_real_branches():
    recipe = Recipe.model_validate({
        "name": "dip", "network": NETWORK, "input": {"size": [64, 64]},
        "distillation": {"method": "okddip"},
    })  # fmt: skip
    net, method = build_network(recipe.network, 14), build_method(recipe, LSP14)
    method.prepare(net)
    assert net.training
    method(net, made_batch(), 1.0).terms["kd"].backward()
    assert net.trunk.stem.conv.weight.grad.any()
