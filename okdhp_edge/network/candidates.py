"""A person detector that others made, with the boxes that its own heads give."""

import torch
from torch import Tensor, nn

from okdhp_edge.network.branches import BackboneOutputs, Branch, BranchStacks


class CandidateTrunk(nn.Module):
    """The whole network of a file that returns rows of left, top, right, bottom and score."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, image_BCHW: Tensor) -> BackboneOutputs:
        """Candidate boxes (B, 5, 1, N), see `pose.candidate_boxes`."""
        rows_BN5 = self.encoder(image_BCHW)
        candidates = torch.cat([rows_BN5[..., 4:], rows_BN5[..., :4]], dim=-1)
        features = candidates.transpose(1, 2).unsqueeze(2)
        return BackboneOutputs(features, features, [])


class CandidateBranch(Branch):
    """Hands on what the trunk found."""

    def forward(self, features_BCHW: Tensor) -> BranchStacks:
        """One stack."""
        return BranchStacks(features_BCHW.unsqueeze(1), features_BCHW)

    def last(self, features_BCHW: Tensor) -> Tensor:
        """(B, 5, 1, N)."""
        return features_BCHW
