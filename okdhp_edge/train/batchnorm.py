"""Batch norm over the batch of all processes, on any device.

torch's SyncBatchNorm needs a GPU; two CPU processes must still train the same model as one.
"""

from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.nn.functional as dist_nn
from torch import Tensor, nn


class ProcessWideBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm2d whose training statistics cover every process's share of the batch."""

    def forward(self, x_BCHW: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x_BCHW)
        mean, square = x_BCHW.mean(dim=(0, 2, 3)), x_BCHW.square().mean(dim=(0, 2, 3))
        world = dist.get_world_size()
        both: Tensor = dist_nn.all_reduce(torch.stack([mean, square])) / world  # type: ignore[no-untyped-call]
        mean, variance = both[0], both[1] - both[0].square()
        self._track(mean.detach(), variance.detach(), world * x_BCHW.numel() // x_BCHW.shape[1])
        scale = torch.rsqrt(variance + self.eps) * self.weight
        shift = self.bias - mean * scale
        return x_BCHW * scale.view(1, -1, 1, 1) + shift.view(1, -1, 1, 1)

    def _track(self, mean: Tensor, variance: Tensor, count: int) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        unbiased = variance * count / max(count - 1, 1)
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(unbiased, self.momentum)
            self.num_batches_tracked.add_(1)


def make_process_wide(module: nn.Module) -> None:
    """Replace every BatchNorm2d below `module`, keeping weights and statistics."""
    for name, child in module.named_children():
        if type(child) is nn.BatchNorm2d:
            setattr(module, name, _converted(child))
        else:
            make_process_wide(child)


def _converted(norm: nn.BatchNorm2d) -> ProcessWideBatchNorm2d:
    options: dict[str, Any] = {"eps": norm.eps, "momentum": norm.momentum}
    wide = ProcessWideBatchNorm2d(norm.num_features, **options)
    wide.load_state_dict(norm.state_dict())
    return wide
