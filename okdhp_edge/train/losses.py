"""Losses of online heatmap distillation, vectorised over joints and pixels.

B batch, K joints, P pixels. Every loss is a sum over labelled joints divided by `total`, the
number of labelled joints in the batch of all processes, so that a joint counts the same however
the batch is divided.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from okdhp_edge.recipe.distillation import KlTable
from okdhp_edge.recipe.tables import HardLoss


def hard_loss(
    heatmaps_BKHW: Tensor, target_BKHW: Tensor, weight_BK: Tensor, total: Tensor, kind: HardLoss
) -> Tensor:
    """Distance between heatmaps and their Gaussian target.

    `mse`: half the mean squared error over pixels (OKDHP's released form). `ce`: cross-entropy
    between the spatial softmax of the heatmap and the Gaussian normalised to sum one.
    """
    heatmaps_BKP, target_BKP = heatmaps_BKHW.float().flatten(2), target_BKHW.flatten(2)
    if kind == "mse":
        loss_BK = 0.5 * (heatmaps_BKP - target_BKP).square().mean(dim=2)
    else:
        mass_BK1 = target_BKP.sum(dim=2, keepdim=True).clamp_min(1e-6)
        loss_BK = -(target_BKP / mass_BK1 * F.log_softmax(heatmaps_BKP, dim=2)).sum(dim=2)
    return (loss_BK * weight_BK).sum() / total


def presence_loss(
    heatmaps_BKHW: Tensor, present_BK: Tensor, absent_BK: Tensor, total: Tensor, kind: HardLoss
) -> Tensor:
    """How far scores are from telling which joints are in the crop; joints of which neither is
    known do not count.

    `ce`: binary cross-entropy of the probability that `pose.heatmap.HeatmapKind.PRESENCE` reads.
    `mse`: half the mean squared heatmap of absent joints, whose target is zero everywhere.
    """
    if kind == "mse":
        squared_BK = heatmaps_BKHW.float().flatten(2).square().mean(dim=2)
        return (0.5 * squared_BK * absent_BK).sum() / total
    level_BK = compute_presence_logits(heatmaps_BKHW)
    loss_BK = F.binary_cross_entropy_with_logits(level_BK, present_BK, reduction="none")
    return (loss_BK * (present_BK + absent_BK)).sum() / total


def compute_presence_logits(heatmaps_BKHW: Tensor) -> Tensor:
    """(B, K) whose logistic function is the probability that each joint is in the crop, as
    `pose.heatmap.HeatmapKind.PRESENCE` reads it."""
    heatmaps_BKP = heatmaps_BKHW.float().flatten(2)
    return heatmaps_BKP.logsumexp(dim=2) - math.log(heatmaps_BKP.shape[2])


def pixelwise_kl(
    student_BKHW: Tensor,
    teacher_BKHW: Tensor,
    weight_BK: Tensor,
    total: Tensor,
    temperature: float,
) -> Tensor:
    """KL(teacher || student) of the spatial softmaxes, summed over pixels (OKDHP, section 3.3).

    Channels beyond the weights, a detector's boxes, are no distributions and left out. Detach the
    teacher beforehand unless gradients shall reach it.
    """
    maps = weight_BK.shape[1]
    student = log_distribution(student_BKHW[:, :maps], temperature)
    teacher = log_distribution(teacher_BKHW[:, :maps], temperature)
    return distribution_kl(student, teacher, weight_BK, total)


def log_distribution(heatmaps_BKHW: Tensor, temperature: float) -> Tensor:
    """(B, K, P) logarithm of the spatial softmax of heatmaps divided by `temperature`."""
    return F.log_softmax(heatmaps_BKHW.float().flatten(2) / temperature, dim=2)


def distribution_kl(
    student_BKP: Tensor, teacher_BKP: Tensor, weight_BK: Tensor, total: Tensor
) -> Tensor:
    """KL(teacher || student) of log-distributions, summed over pixels."""
    kl_BK = F.kl_div(student_BKP, teacher_BKP, reduction="none", log_target=True).sum(dim=2)
    return (kl_BK * weight_BK).sum() / total


def ramp(epoch: float, length: int) -> float:
    """Gaussian ramp-up exp(-5 (1 - t/L)^2), t clipped to 0..L (Laine and Aila, 2017)."""
    if length == 0:
        return 1.0
    share = min(max(epoch / length, 0.0), 1.0)
    return math.exp(-5 * (1 - share) ** 2)


def compute_kd_weight(table: KlTable, epoch: float) -> float:
    """A method's KL weight in this (fractional) epoch."""
    if epoch < table.start_epoch:
        return 0.0
    return table.kd_weight * ramp(epoch - table.start_epoch, table.ramp_epochs)


def count_labelled(weight_BK: Tensor) -> Tensor:
    """The number of labelled joints in this batch, never zero."""
    return torch.clamp(weight_BK.sum(), min=1.0)
