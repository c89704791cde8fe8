"""Stacked hourglass (Newell et al., ECCV 2016), in the form that OKDHP trains.

Stem to a quarter of the input's size, then stacks that each give heatmaps and feed them back.
"""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from okdhp_edge.network.branches import Branch, BranchStacks

_DEFAULT_DEPTH = 4
_EXPANSION = 2


class Bottleneck(nn.Module):
    """Pre-activation residual block: BN-ReLU-1x1, BN-ReLU-3x3, BN-ReLU-1x1."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        inner = channels_out // _EXPANSION
        self.bn1 = nn.BatchNorm2d(channels_in)
        self.conv1 = nn.Conv2d(channels_in, inner, 1)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, padding=1)
        self.bn3 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, channels_out, 1)
        self.skip = (
            nn.Identity()
            if channels_in == channels_out
            else nn.Conv2d(channels_in, channels_out, 1)
        )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Features of the same size."""
        y = self.conv1(F.relu(self.bn1(x_BCHW)))
        y = self.conv2(F.relu(self.bn2(y)))
        y = self.conv3(F.relu(self.bn3(y)))
        return cast(Tensor, y + self.skip(x_BCHW))


class Hourglass(nn.Module):
    """One level of the hourglass; the levels nest."""

    def __init__(self, width: int, depth: int = _DEFAULT_DEPTH) -> None:
        super().__init__()
        self.skip = Bottleneck(width, width)
        self.down = Bottleneck(width, width)
        self.inner: nn.Module = (
            Hourglass(width, depth - 1) if depth > 1 else Bottleneck(width, width)
        )
        self.up = Bottleneck(width, width)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Features of the same size."""
        low = self.up(self.inner(self.down(F.max_pool2d(x_BCHW, 2))))
        return cast(Tensor, self.skip(x_BCHW) + F.interpolate(low, scale_factor=2.0))


class Stem(nn.Module):
    """Image (B, 3, H, W) to features (B, width, H/4, W/4)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        quarter, half = width // 4, width // 2
        self.conv = nn.Conv2d(3, quarter, 7, stride=2, padding=3)
        self.bn = nn.BatchNorm2d(quarter)
        self.block1 = Bottleneck(quarter, half)
        self.block2 = Bottleneck(half, width)
        self.block3 = Bottleneck(width, width)

    def forward(self, image_BCHW: Tensor) -> Tensor:
        """Features (B, C, H/4, W/4) of normalised images."""
        x = self.block1(F.relu(self.bn(self.conv(image_BCHW))))
        return cast(Tensor, self.block3(self.block2(F.max_pool2d(x, 2))))


class Stack(nn.Module):
    """One hourglass with its heatmaps; unless it is the last, it feeds both back."""

    def __init__(self, width: int, joints: int, *, feeds_next: bool) -> None:
        super().__init__()
        self.hourglass = Hourglass(width)
        self.block = Bottleneck(width, width)
        self.fc = nn.Sequential(nn.Conv2d(width, width, 1), nn.BatchNorm2d(width), nn.ReLU())
        self.score = nn.Conv2d(width, joints, 1)
        self.feeds_next = feeds_next
        if feeds_next:
            self.fc_back = nn.Conv2d(width, width, 1)
            self.score_back = nn.Conv2d(joints, width, 1)

    def forward(self, x_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Features for the next stack, or of the heatmaps after a last one; and heatmaps."""
        y = self.fc(self.block(self.hourglass(x_BCHW)))
        heatmaps = self.score(y)
        if not self.feeds_next:
            return y, heatmaps
        return x_BCHW + self.fc_back(y) + self.score_back(heatmaps), heatmaps


class Stacks(nn.Module):
    """A run of stacks: the shared trunk's, or one branch's."""

    def __init__(self, width: int, joints: int, count: int, *, feeds_on: bool) -> None:
        super().__init__()
        self.stacks = nn.ModuleList(
            Stack(width, joints, feeds_next=feeds_on or i < count - 1) for i in range(count)
        )

    def forward(self, x_BCHW: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Features after the last stack, and each stack's heatmaps (B, K, H, W)."""
        heatmaps = []
        for stack in self.stacks:
            x_BCHW, scores = stack(x_BCHW)
            heatmaps.append(scores)
        return x_BCHW, heatmaps


class HourglassBranch(Branch):
    """A branch of own stacks."""

    def __init__(self, width: int, joints: int, depth: int) -> None:
        super().__init__()
        self.own = Stacks(width, joints, depth, feeds_on=False)

    def forward(self, features_BCHW: Tensor) -> BranchStacks:
        """Heatmaps of every stack, each fed with what the stack before found."""
        features, heatmaps = self.own(features_BCHW)
        return BranchStacks(torch.stack(heatmaps, dim=1), features)

    def last(self, features_BCHW: Tensor) -> Tensor:
        """(B, K, H, W)."""
        return cast(Tensor, self.own(features_BCHW)[1][-1])
