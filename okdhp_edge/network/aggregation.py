"""The Feature Aggregation Unit: per-joint weights that mix the branches into the teacher.

OKDHP, ICCV 2021, section 3.2; SKNet's selective kernels applied to heatmaps. Never deployed.
"""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

from okdhp_edge.network.config import Aggregation

_KERNEL_SIZES = (3, 5, 7)
_REDUCED_CHANNELS = 64


class FeatureAggregationUnit(nn.Module):
    """Weights from features, then the weighted sum of the branches' last heatmaps.

    Args:
        variant: `released` sums three dense convolutions, as the published code does; `paper`
            concatenates them, each behind a 1x1, with an average-pooled path, as its figure
            shows; `depthwise` has the released form with depthwise kernels, at about 1 % of the
            cost; `mean` learns nothing.
    """

    def __init__(self, variant: Aggregation, channels: int, branches: int, joints: int) -> None:
        super().__init__()
        self.branches, self.joints = branches, joints
        self.mixer = _MIXERS[variant](channels)
        if variant != "mean":
            self.reduce = nn.Linear(self.mixer.channels, _REDUCED_CHANNELS)
            self.heads = nn.ModuleList(
                nn.Linear(_REDUCED_CHANNELS, joints) for _ in range(branches)
            )

    def weights(self, features_BCHW: Tensor) -> Tensor:
        """(B, T, K), summing to one over the branches."""
        if isinstance(self.mixer, nn.Identity):
            shape = (len(features_BCHW), self.branches, self.joints)
            return features_BCHW.new_full(shape, 1 / self.branches)
        reduced = self.reduce(self.mixer(features_BCHW))
        return torch.stack([head(reduced) for head in self.heads], dim=1).softmax(dim=1)

    def forward(self, features_BCHW: Tensor, last_BTKHW: Tensor) -> Tensor:
        """Ensemble heatmaps (B, K, H, W)."""
        return torch.einsum("btk,btkhw->bkhw", self.weights(features_BCHW), last_BTKHW)


class _SummedPaths(nn.Module):
    """Sum of conv-BN-ReLU paths with kernels 3, 5, 7, pooled to a vector."""

    def __init__(self, channels: int, groups: int = 1) -> None:
        super().__init__()
        self.channels = channels
        self.paths = nn.ModuleList(_make_path(channels, kernel, groups) for kernel in _KERNEL_SIZES)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return cast(Tensor, sum(path(x_BCHW) for path in self.paths)).mean(dim=(2, 3))


class _ConcatenatedPaths(nn.Module):
    """The figure's form: every path behind its own 1x1, concatenated, with an average-pool path."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels * (len(_KERNEL_SIZES) + 1)
        self.paths = nn.ModuleList(_make_path(channels, kernel, 1) for kernel in _KERNEL_SIZES)
        self.points = nn.ModuleList(nn.Conv2d(channels, channels, 1) for _ in range(4))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        *kernel_points, pool_point = self.points
        pooled = [
            point(path(x_BCHW)).mean(dim=(2, 3))
            for point, path in zip(kernel_points, self.paths, strict=True)
        ]
        average = pool_point(x_BCHW.mean(dim=(2, 3), keepdim=True)).flatten(1)
        return torch.cat([*pooled, average], dim=1)


def _make_path(channels: int, kernel: int, groups: int) -> nn.Sequential:
    conv = nn.Conv2d(channels, channels, kernel, padding=kernel // 2, groups=groups)
    return nn.Sequential(conv, nn.BatchNorm2d(channels), nn.ReLU())


# Features (B, C, H, W) to a vector (B, channels).
_MIXERS: dict[str, Callable[[int], Any]] = {
    "released": _SummedPaths,
    "paper": _ConcatenatedPaths,
    "depthwise": lambda channels: _SummedPaths(channels, groups=channels),
    "mean": nn.Identity,
}
