"""The multi-branch network: one trunk, several branches, the ensemble that teaches them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from okdhp_edge.network.aggregation import FeatureAggregationUnit


class BranchOutputs(NamedTuple):
    """Every heatmap of one forward pass, by name rather than by position.

    Attributes:
        shared: heatmaps (B, K, H, W) of the trunk's own stacks, in order; empty without any.
        branches: per branch (B, S, K, H, W), S its depth in stacks.
        ensemble: (B, K, H, W), the FAU's mix of every branch's last heatmaps.
        backbone_features: (B, C, h, w), what every branch is fed.
        branch_features: per branch (B, C, H, W), what its last heatmaps are read from.
    """

    shared: list[Tensor]
    branches: list[Tensor]
    ensemble: Tensor
    backbone_features: Tensor
    branch_features: list[Tensor]

    def last(self, branch: int) -> Tensor:
        """(B, K, H, W) the heatmaps this branch would deploy."""
        return self.branches[branch][:, -1]

    def supervised(self) -> list[Tensor]:
        """Every stack's heatmaps (B, K, H, W): shared ones first, then branch by branch."""
        own = [stack for branch in self.branches for stack in branch.unbind(dim=1)]
        return [*self.shared, *own]


class BranchStacks(NamedTuple):
    """What one branch gives while training.

    Attributes:
        heatmaps: (B, S, K, H, W) of every own stack.
        features: (B, C, H, W), what the last heatmaps are read from.
    """

    heatmaps: Tensor
    features: Tensor


class BackboneOutputs(NamedTuple):
    """What the trunk hands on.

    Attributes:
        features: (B, C, H, W) input of every branch.
        early: (B, C, H, W) input of the FAU.
        heatmaps: of the shared stacks.
    """

    features: Tensor
    early: Tensor
    heatmaps: list[Tensor]


class Normalise(nn.Module):
    """uint8 BGR images (B, H, W, 3) to normalised float (B, 3, H, W); 4 with a mask.

    Cast comes before the layout change, because TensorRT refuses every other operation on uint8;
    the division is a multiplication, so that onnxsim can fold it into the first convolution.
    """

    mean: Tensor
    inverse_std: Tensor

    def __init__(self, mean_bgr: tuple[float, ...], std_bgr: tuple[float, ...]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean_bgr).view(1, -1, 1, 1), persistent=False)
        self.register_buffer(
            "inverse_std", (1 / torch.tensor(std_bgr)).view(1, -1, 1, 1), persistent=False
        )

    def forward(self, image_BHWC: Tensor) -> Tensor:
        """(B, 3, H, W) normalized float images of (B, H, W, 3) uint8 BGR ones."""
        image = image_BHWC.float().permute(0, 3, 1, 2)
        return (image - self.mean) * self.inverse_std


class Branch(nn.Module):
    """From the trunk's features to heatmaps."""

    def forward(self, features_BCHW: Tensor) -> BranchStacks:
        """Every stack, for training."""
        raise NotImplementedError

    def last(self, features_BCHW: Tensor) -> Tensor:
        """(B, K, H, W) of the last stack alone, for deployment."""
        raise NotImplementedError


class PoseNet(nn.Module):
    """Trunk, branches and aggregation. Images go in as uint8 BGR (B, H, W, 3)."""

    def __init__(
        self,
        normalise: Normalise,
        trunk: nn.Module,
        branches: Sequence[Branch],
        aggregation: FeatureAggregationUnit,
        branch_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.normalise = normalise
        self.trunk = trunk
        self.branches = nn.ModuleList(branches)
        self.aggregation = aggregation
        self.dropout = nn.Dropout2d(branch_dropout)

    @property
    def channels(self) -> int:
        """Of the images: 3, or 4 with a mask."""
        return self.normalise.mean.numel()

    @torch.no_grad()
    def probe(self, size: tuple[int, int]) -> BranchOutputs:
        """What one blank image of (width, height) gives in eval mode: for its shapes."""
        width, height = size
        blank = torch.zeros(1, height, width, self.channels, dtype=torch.uint8)
        with eval_mode(self):
            outputs: BranchOutputs = self(blank)
        return outputs

    def forward(self, image_BHWC: Tensor) -> BranchOutputs:
        """Heatmaps of every stack of every branch, and their ensemble."""
        trunk: BackboneOutputs = self.trunk(self.normalise(image_BHWC))
        stacks: list[BranchStacks] = [b(self.dropout(trunk.features)) for b in self.branches]
        last_BTKHW = torch.stack([s.heatmaps[:, -1] for s in stacks], dim=1)
        return BranchOutputs(
            shared=trunk.heatmaps,
            branches=[s.heatmaps for s in stacks],
            ensemble=self.aggregation(trunk.early, last_BTKHW),
            backbone_features=trunk.features,
            branch_features=[s.features for s in stacks],
        )


@contextmanager
def eval_mode(net: nn.Module) -> Iterator[None]:
    """The network in eval mode for a while."""
    training = net.training
    net.eval()
    try:
        yield
    finally:
        net.train(training)


class SingleBranch(nn.Module):
    """The network that is deployed: trunk and one branch, last heatmaps only."""

    def __init__(self, net: PoseNet, branch: int) -> None:
        super().__init__()
        self.normalise = net.normalise
        self.trunk = net.trunk
        self.branch = cast(Branch, net.branches[branch])

    def forward(self, image_BHWC: Tensor) -> Tensor:
        """(B, K, H, W)."""
        trunk: BackboneOutputs = self.trunk(self.normalise(image_BHWC))
        return self.branch.last(trunk.features)
