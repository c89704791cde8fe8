import pytest
import torch

from okdhp_edge.recipe.tables import OptimizerTable
from okdhp_edge.train.schedule import build_optimizer, compute_learning_rate


def test_one_cycle_rises_then_falls_to_nearly_nothing():
    table = OptimizerTable(lr=1.0, epochs=10, warmup=0.2)
    rates = [compute_learning_rate(table, s, 10) for s in range(100)]
    assert rates[0] == pytest.approx(1 / 25)
    assert max(rates) == pytest.approx(1.0, abs=1e-2)
    assert 18 <= rates.index(max(rates)) <= 21
    assert rates[-1] == pytest.approx(1e-4)
    assert rates[25:] == sorted(rates[25:], reverse=True)


def test_steps_divide_by_ten_at_each_milestone():
    table = OptimizerTable(lr=2.5e-4, epochs=150, schedule="steps", milestones=(90, 120))
    assert [compute_learning_rate(table, e * 7, 7) for e in (0, 89, 90, 120)] == pytest.approx(
        [2.5e-4, 2.5e-4, 2.5e-5, 2.5e-6]
    )


def test_biases_and_norms_are_not_decayed():
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    groups = build_optimizer(net, OptimizerTable(weight_decay=0.1)).param_groups
    assert [(g["weight_decay"], len(g["params"])) for g in groups] == [(0.1, 1), (0.0, 3)]


def test_sgd_takes_parameters_that_get_gradients_later():
    """As quantizers do, whose steps begin in a later epoch than those of the norms beside them."""
    early, late = (torch.nn.Parameter(torch.ones(1)) for _ in range(2))
    net = torch.nn.ParameterList([early, late])
    optimizer = build_optimizer(net, OptimizerTable(name="sgd", lr=0.1))
    early.grad = torch.ones(1)
    optimizer.step()
    late.grad = torch.ones(1)
    optimizer.step()
    assert float(late.detach()) < 1
