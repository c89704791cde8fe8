"""A moving average of the weights."""

from typing import Any

from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from okdhp_edge.network.branches import PoseNet


def make_weight_average(net: PoseNet, decay: float) -> AveragedModel:
    """An exponential moving average of weights and normalization statistics, in eval mode.

    Each `update_parameters` moves it. The decay of the n-th update is at most (1 + n) / (10 + n),
    as in TensorFlow's `ExponentialMovingAverage`: else the initial weights, which may be random,
    would count for 1 / (1 - decay) steps.
    """

    def update(average: Any, current: Any, num_averaged: Tensor | int) -> None:
        step = int(num_averaged)
        warm = min(decay, (1 + step) / (10 + step))
        get_ema_multi_avg_fn(warm)(average, current, num_averaged)  # type: ignore[no-untyped-call]

    average = AveragedModel(net, multi_avg_fn=update, use_buffers=True)
    return average.requires_grad_(requires_grad=False).eval()
