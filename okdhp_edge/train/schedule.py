"""Optimizer and learning rate. The rate is a function of the step, so a resume is exact."""

import math

import torch
from torch import nn

from okdhp_edge.recipe.tables import OptimizerTable

_INITIAL_LR_FACTOR, _FINAL_LR_FACTOR = 1 / 25, 1e-4
_STEP_LR_FACTOR = 0.1
_MOMENTUM = 0.9


def build_optimizer(net: nn.Module, table: OptimizerTable) -> torch.optim.Optimizer:
    """Adam(W) or SGD with momentum, over what is not frozen; biases and norms are not decayed."""
    learned = [p for p in net.parameters() if p.requires_grad]
    decayed = [p for p in learned if p.ndim > 1]
    plain = [p for p in learned if p.ndim <= 1]
    groups = [
        {"params": decayed, "weight_decay": table.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    if table.name == "sgd":
        # Not fused: quantizers have no momentum yet when those beside them do.
        return torch.optim.SGD(groups, lr=table.lr, momentum=_MOMENTUM)
    kind = torch.optim.AdamW if table.name == "adamw" else torch.optim.Adam
    return kind(groups, lr=table.lr, fused=True)


def compute_learning_rate(table: OptimizerTable, step: int, steps_per_epoch: int) -> float:
    """Rate at an optimisation step counted from 0 over the whole run.

    `one_cycle` rises and falls along half cosines (Smith and Topin, 2018).
    """
    if table.schedule == "steps":
        passed = sum(step >= m * steps_per_epoch for m in table.milestones)
        return table.lr * float(_STEP_LR_FACTOR**passed)
    share = step / max(1, table.epochs * steps_per_epoch - 1)
    if share < table.warmup:
        return table.lr * _half_cosine(_INITIAL_LR_FACTOR, 1.0, share / table.warmup)
    return table.lr * _half_cosine(
        1.0, _FINAL_LR_FACTOR, (share - table.warmup) / (1 - table.warmup)
    )


def _half_cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2
