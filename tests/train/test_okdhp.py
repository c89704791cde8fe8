import pytest
import torch

from okdhp_edge.network.branches import BranchOutputs
from okdhp_edge.recipe import DistillationTable, HeatmapTable
from okdhp_edge.train.losses import hard_loss, labelled_total, pixelwise_kl, ramp
from okdhp_edge.train.okdhp import okdhp_losses

TARGET, WEIGHT = torch.rand(2, 3, 4, 4), torch.ones(2, 3)


def _outputs(own=(1, 2), shared=1):
    torch.manual_seed(0)
    maps = [torch.randn(2, 3, 4, 4, requires_grad=True) for _ in range(shared)]
    branches = [torch.randn(2, depth, 3, 4, 4, requires_grad=True) for depth in own]
    ensemble = torch.randn(2, 3, 4, 4, requires_grad=True)
    return BranchOutputs(maps, branches, ensemble)


def _losses(outputs, epoch=10.0, **distillation):
    return okdhp_losses(
        outputs, TARGET, WEIGHT, labelled_total(WEIGHT), heatmap=HeatmapTable(hard_loss="ce"),
        distillation=DistillationTable(**distillation), epoch=epoch,
    )  # fmt: skip


def test_the_terms_are_the_papers():
    outputs = _outputs()
    total = labelled_total(WEIGHT)
    terms = _losses(outputs, epoch=1.5, kd_weight=3.0, ensemble_weight=2.0, ramp_epochs=3)
    stacks = outputs.supervised()
    assert len(stacks) == 4
    hard = sum(hard_loss(s, TARGET, WEIGHT, total, "ce") for s in stacks)
    kl = sum(pixelwise_kl(s, outputs.ensemble, WEIGHT, total, 1.0) for s in stacks)
    torch.testing.assert_close(terms["hard"], hard)
    torch.testing.assert_close(
        terms["ensemble"], 2 * hard_loss(outputs.ensemble, TARGET, WEIGHT, total, "ce")
    )
    torch.testing.assert_close(terms["kd"], 3 * ramp(1.5, 3) * kl)


@pytest.mark.parametrize("detach", [True, False])
def test_the_kl_moves_the_teacher_only_when_it_is_not_detached(detach):
    outputs = _outputs()
    terms = _losses(outputs, detach=detach)
    (gradient,) = torch.autograd.grad(terms["kd"], outputs.ensemble, allow_unused=True)
    assert (gradient is None) == detach
    if not detach:
        assert gradient.abs().sum() > 0


def test_supervised_is_the_hard_loss_alone():
    assert set(_losses(_outputs(), method="supervised")) == {"hard"}


def test_shared_stacks_have_their_own_weight():
    outputs = _outputs(own=(1, 1), shared=2)
    without = _losses(outputs, shared_stack_weight=0.0)["hard"]
    own = sum(
        hard_loss(s, TARGET, WEIGHT, labelled_total(WEIGHT), "ce") for s in outputs.supervised()[2:]
    )
    torch.testing.assert_close(without, own)
