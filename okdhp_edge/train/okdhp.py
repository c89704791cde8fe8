"""OKDHP (Li et al., ICCV 2021): the branches' ensemble teaches every stack of every branch.

loss = sum over stacks of hard(stack, target)
     + ensemble_weight * hard(ensemble, target)
     + kd_weight * ramp(epoch) * sum over stacks of KL(ensemble || stack)

`supervised` is the first line alone.
"""

from torch import Tensor

from okdhp_edge.network.branches import BranchOutputs
from okdhp_edge.recipe import DistillationTable, HeatmapTable
from okdhp_edge.train.losses import hard_loss, pixelwise_kl, ramp


def okdhp_losses(
    outputs: BranchOutputs,
    target_BKHW: Tensor,
    weight_BK: Tensor,
    total: Tensor,
    *,
    heatmap: HeatmapTable,
    distillation: DistillationTable,
    epoch: float,
) -> dict[str, Tensor]:
    """The weighted terms by name; their sum is the loss.

    Args:
        target_BKHW: Gaussians of peak 1.
        weight_BK: 1 for labelled joints.
        total: labelled joints over all processes, as the losses divide by it.
        epoch: with fraction, for the ramp.
    """
    stack_weights = [distillation.shared_stack_weight] * len(outputs.shared)
    stacks = outputs.supervised()
    stack_weights += [1.0] * (len(stacks) - len(stack_weights))
    hard = [hard_loss(s, target_BKHW, weight_BK, total, heatmap.hard_loss) for s in stacks]
    terms = {"hard": _weighted_sum(stack_weights, hard)}
    if distillation.method == "supervised":
        return terms
    terms["ensemble"] = distillation.ensemble_weight * hard_loss(
        outputs.ensemble, target_BKHW, weight_BK, total, heatmap.hard_loss
    )
    teacher = outputs.ensemble.detach() if distillation.detach else outputs.ensemble
    kl = [
        pixelwise_kl(stack, teacher, weight_BK, total, distillation.temperature) for stack in stacks
    ]
    kd_weight = distillation.kd_weight * ramp(epoch, distillation.ramp_epochs)
    terms["kd"] = kd_weight * _weighted_sum(stack_weights, kl)
    return terms


def _weighted_sum(weights: list[float], losses: list[Tensor]) -> Tensor:
    total = losses[0] * weights[0]
    for weight, loss in zip(weights[1:], losses[1:], strict=True):
        total = total + weight * loss
    return total
