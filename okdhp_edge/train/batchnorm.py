"""Batch norm over the batch of all processes, on any device.

torch's SyncBatchNorm needs a GPU; two CPU processes must still train the same model as one.
"""

import warnings
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.nn.functional as dist_nn
from torch import Tensor, nn


class ProcessWideBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm2d whose training statistics cover every process's share of the batch."""

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Normalise by the statistics of all processes' batches."""
        if not self.training:
            return super().forward(x_BCHW)
        # In single precision, as torch's own keeps its statistics under autocast. Two passes: the
        # mean of squares less the square of the mean would lose digits.
        x = x_BCHW.float()
        mean = _average_over_processes(x.mean(dim=(0, 2, 3)))
        centred = x - mean.view(1, -1, 1, 1)
        variance = _average_over_processes(centred.square().mean(dim=(0, 2, 3)))
        world = dist.get_world_size()
        self._track(mean.detach(), variance.detach(), world * x_BCHW.numel() // x_BCHW.shape[1])
        scale = torch.rsqrt(variance + self.eps) * self.weight
        return (centred * scale.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)).to(x_BCHW.dtype)

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


def _average_over_processes(values: Tensor) -> Tensor:
    """The mean of each process's values; gradients flow back to all of them."""
    with warnings.catch_warnings():
        # Deprecated in favour of a private module; there is no public one with gradients yet.
        warnings.simplefilter("ignore", FutureWarning)
        summed: Tensor = dist_nn.all_reduce(values)  # type: ignore[no-untyped-call]
    return summed / dist.get_world_size()


def make_process_wide(module: nn.Module) -> None:
    """Replace every BatchNorm2d below `module`, keeping weights and statistics."""
    for name, child in module.named_children():
        if type(child) is nn.BatchNorm2d:
            setattr(module, name, _convert_norm(child))
        else:
            make_process_wide(child)


def _convert_norm(norm: nn.BatchNorm2d) -> ProcessWideBatchNorm2d:
    options: dict[str, Any] = {"eps": norm.eps, "momentum": norm.momentum}
    wide = ProcessWideBatchNorm2d(norm.num_features, **options)
    wide.load_state_dict(norm.state_dict())
    # What was frozen stays so.
    return wide.requires_grad_(norm.weight.requires_grad)
