"""What is measured of a step."""

import pytest
import torch

from okdhp_edge.network.build import build_network
from okdhp_edge.pose.skeleton import LSP14
from okdhp_edge.train.methods import build_method
from okdhp_edge.train.methods.base import Losses
from okdhp_edge.train.step import TrainingStep, Uncast, gradient_ratio
from tests.helpers.fixed_net import made_batch, recipe_with


def test_the_ratio_is_that_of_the_gradients_at_the_heatmaps():
    a, b = (torch.randn(2, 3, requires_grad=True) for _ in range(2))
    kd, hard = (2 * a).sum() + 0 * b.sum(), (0.5 * a).sum() + (0.5 * b).sum()
    ratio = gradient_ratio(Losses({"kd": kd, "hard": hard}, [a, b], a))
    assert float(ratio) == pytest.approx((6 * 4) ** 0.5 / (12 * 0.25) ** 0.5)


def test_without_a_teacher_there_is_no_ratio():
    a = torch.randn(2, requires_grad=True)
    assert gradient_ratio(Losses({"hard": a.sum()}, [a], a)) is None


def test_measuring_does_not_change_the_gradients():
    recipe = recipe_with({"method": "okdhp", "ramp_epochs": 0})
    torch.manual_seed(0)
    net, method = build_network(recipe.network, 14), build_method(recipe, LSP14)
    step = TrainingStep(net, method).train()
    found = []
    for measure in (False, True):
        step.zero_grad()
        result = step(Uncast(made_batch()), 1.0, measure=measure)
        sum(result.terms.values()).backward()
        found.append(net.trunk.stem.conv.weight.grad.clone())
        assert (result.gradient_ratio is not None) == measure
    torch.testing.assert_close(*found)


def test_frozen_parts_stay_in_eval_mode(trained):
    recipe = recipe_with(
        {"method": "selfkd", "teacher": {"path": str(trained)}},
        network={"kind": "hourglass", "width": 16, "shared_stacks": 0, "branches": [1]},
    )
    net, method = build_network(recipe.network, 14), build_method(recipe, LSP14)
    method.prepare(net)
    step = TrainingStep(net, method).train()
    assert not net.trunk.training and net.branches[0].training
    assert not step.eval().net.training
