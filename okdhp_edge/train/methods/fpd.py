"""FPD (Zhang et al., CVPR 2019): a trained teacher's heatmaps beside the labels.

loss = sum over stacks of alpha * distance(stack, teacher) + (1 - alpha) * hard(stack, target)

The distance is that of the hard loss: section 3.2 has the mean squared error for both.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from okdhp_edge.errors import RecipeError
from okdhp_edge.network.branches import PoseNet
from okdhp_edge.recipe.distillation import FpdTable
from okdhp_edge.train.dataset import Batch
from okdhp_edge.train.methods.base import Losses
from okdhp_edge.train.methods.offline import SingleTeacherMethod, compute_teacher_targets, get_grid


class Fpd(SingleTeacherMethod):
    """One teacher throughout."""

    table: FpdTable

    def prepare(self, net: PoseNet) -> None:
        """Build the method's own layers and set the initial weights."""
        if self.table.feature_weight:
            self.align = self._make_alignment(net)

    def forward(self, net: PoseNet, batch: Batch, epoch: float) -> Losses:
        """The terms of the loss, see `Method.forward`."""
        outputs = self.run_student(net, batch)
        stacks = self.collect_stacks(outputs)
        targets = compute_teacher_targets(self.teacher, batch, get_grid(stacks))
        losses = self.combine_losses(stacks, outputs.ensemble, targets, batch, self.table.alpha)
        if self.table.feature_weight and targets.features is not None:
            distance = self._compute_feature_distance(outputs.backbone_features, targets.features)
            losses.terms["feature"] = self.table.feature_weight * distance
        return losses

    def _make_alignment(self, net: PoseNet) -> nn.Conv2d:
        """The learned 1x1 from the student's trunk features to the teacher's."""
        width, height = self.recipe.input.size
        blank = torch.zeros(1, height, width, 4, dtype=torch.uint8)
        mine = net.probe((width, height)).backbone_features
        theirs = self.teacher(blank, (height // 4, width // 4)).features
        if theirs is None:
            raise RecipeError(
                f"teacher {self.table.teacher.path} provides no features",
                "give a checkpoint, or feature_weight = 0",
            )
        return nn.Conv2d(mine.shape[1], theirs.shape[1], 1)

    def _compute_feature_distance(self, mine: Tensor, theirs: Tensor) -> Tensor:
        aligned = self.align(mine).float()
        if aligned.shape[2:] != theirs.shape[2:]:
            aligned = F.interpolate(aligned, theirs.shape[2:], mode="bilinear")
        return F.mse_loss(aligned, theirs.float())
