"""Which heatmaps a method judges, how much each counts, and what supervision is."""

import pytest
import torch

from okdhp_edge.network.build import build_network
from okdhp_edge.pose.skeleton import LSP14
from okdhp_edge.recipe.recipe import Recipe
from okdhp_edge.train.gaussian_targets import gaussian_targets
from okdhp_edge.train.losses import count_labelled, hard_loss
from okdhp_edge.train.methods import build_method
from tests.helpers.fixed_net import FixedNet, made_batch, recipe_with

SUPERVISED = {"method": "supervised"}


def _hard(maps, batch, sigma=1.0):
    target = gaussian_targets(batch.xy, maps.shape[2:], sigma)
    return hard_loss(maps, target, batch.weight, count_labelled(batch.weight), "ce")


def _hourglass(own, shared):
    return {"kind": "hourglass", "width": 8, "shared_stacks": shared, "branches": own}


def test_supervision_is_the_hard_loss_of_every_stack_and_nothing_else():
    net, batch = FixedNet(own=(1, 2), shared=1), made_batch()
    method = build_method(recipe_with(SUPERVISED, network=_hourglass([1, 2], 1)), LSP14)
    terms = method(net, batch, 0.0).terms
    assert set(terms) == {"hard"}
    torch.testing.assert_close(
        terms["hard"], sum(_hard(s, batch) for s in net.outputs.supervised())
    )


def test_shared_and_intermediate_stacks_have_their_own_weights():
    net, batch = FixedNet(own=(2, 2), shared=1), made_batch()
    heatmap = {"sigma": 1.0, "shared_stack_weight": 0.0, "intermediate_weight": 0.5}
    recipe = recipe_with(SUPERVISED, network=_hourglass([2, 2], 1), heatmap=heatmap)
    got = build_method(recipe, LSP14)(net, batch, 0.0).terms["hard"]
    expected = sum(
        0.5 * _hard(b[:, 0], batch) + _hard(b[:, 1], batch) for b in net.outputs.branches
    )
    torch.testing.assert_close(got, expected)


def test_each_branch_may_have_its_own_sigma():
    net, batch = FixedNet(own=(1, 1)), made_batch()
    heatmap = {"hard_loss": "ce", "sigma": 1.0, "branch_sigmas": [1.0, 2.0]}
    recipe = recipe_with(SUPERVISED, network=_hourglass([1, 1], 0), heatmap=heatmap)
    got = build_method(recipe, LSP14)(net, batch, 0.0).terms["hard"]
    expected = _hard(net.outputs.last(0), batch, 1.0) + _hard(net.outputs.last(1), batch, 2.0)
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("branches", [1, 2, 3, 4])
@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_stacks_are_found_by_branch_and_depth_not_by_position(branches, depth):
    """Moving one stack's score moves its own heatmaps and the loss on them, nothing before it."""
    torch.manual_seed(0)
    recipe = Recipe.model_validate({
        "name": "indices", "network": _hourglass([depth] * branches, 1),
        "input": {"size": [64, 64]}, "distillation": {"method": "okdhp"},
    })  # fmt: skip
    net = build_network(recipe.network, len(LSP14)).eval()
    method = build_method(recipe, LSP14)
    batch = made_batch(1)

    def stacks():
        with torch.no_grad():
            outputs = net(batch.image)
            return outputs, method.collect_stacks(outputs)

    before, listed = stacks()
    assert len(listed) == 1 + branches * depth
    for branch in range(branches):
        for stack in range(depth):
            bias = net.branches[branch].own.stacks[stack].score.bias
            kept = bias.detach().clone()
            with torch.no_grad():
                bias += 1
            after, moved = stacks()
            with torch.no_grad():
                bias.copy_(kept)
            changed = [
                i for i, (a, b) in enumerate(zip(listed, moved, strict=True))
                if not torch.allclose(a.heatmaps, b.heatmaps)
            ]  # fmt: skip
            first = 1 + branch * depth + stack
            # A stack feeds those behind it in its own branch.
            assert changed == list(range(first, 1 + (branch + 1) * depth))
            assert all(listed[i].branch == branch for i in changed)
            assert not torch.allclose(before.ensemble, after.ensemble)
            others = [b for b in range(branches) if b != branch]
            assert all(torch.equal(before.last(b), after.last(b)) for b in others)
