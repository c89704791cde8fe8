"""ODKD (Zhao et al., arXiv 2104.10414): two teachers in order, binarised heatmaps.

Only the abstract is public: a primary teacher, then a senior one that is also given the person's
segmentation mask. The schedule and the rule of binarising are our reading of it.
"""

from torch import Tensor

from okdhp_edge.network.branches import PoseNet
from okdhp_edge.pose.skeleton import Skeleton
from okdhp_edge.recipe.distillation import OdkdTable
from okdhp_edge.recipe.recipe import Recipe
from okdhp_edge.train.dataset import Batch
from okdhp_edge.train.methods.base import Losses
from okdhp_edge.train.methods.offline import OfflineMethod, compute_teacher_targets, get_grid
from okdhp_edge.train.open_teacher import open_teacher


class Odkd(OfflineMethod):
    """The primary teacher for the first share of the epochs, the senior for the rest."""

    def __init__(self, recipe: Recipe, skeleton: Skeleton) -> None:
        super().__init__(recipe, skeleton)
        assert isinstance(recipe.distillation, OdkdTable)
        self.table = recipe.distillation
        spec = recipe.input_spec()
        self.primary = open_teacher(self.table.primary, skeleton, spec)
        self.senior = open_teacher(self.table.senior, skeleton, spec)
        self.use_teachers(self.primary, self.senior)

    def forward(self, net: PoseNet, batch: Batch, epoch: float) -> Losses:
        """The terms of the loss, see `Method.forward`."""
        outputs = self.run_student(net, batch)
        stacks = self.collect_stacks(outputs)
        first = epoch < self.table.switch * self.recipe.optimizer.epochs
        targets = compute_teacher_targets(
            self.primary if first else self.senior, batch, get_grid(stacks)
        )
        if self.table.binarise is not None:
            targets = targets._replace(heatmaps=binarize(targets.heatmaps, self.table.binarise))
        return self.combine_losses(stacks, outputs.ensemble, targets, batch, self.table.alpha)


def binarize(heatmaps_NKHW: Tensor, threshold: float) -> Tensor:
    """One where a heatmap of peak 1 lies above `threshold`, else zero."""
    return (heatmaps_NKHW > threshold).to(heatmaps_NKHW.dtype)
