"""DWPose's second stage (Yang et al., 2023, section 3.3): a model teaches its own fresh head.

The trunk is the trained model's and stays frozen; there is no hard loss, and joints without a
label are taught too.
"""

from pathlib import Path

import torch

from okdhp_edge.errors import RecipeError
from okdhp_edge.network.branches import PoseNet
from okdhp_edge.recipe.distillation import SelfkdTable
from okdhp_edge.train.dataset import Batch
from okdhp_edge.train.methods.base import Losses
from okdhp_edge.train.methods.offline import (
    SingleTeacherMethod,
    compute_teacher_targets,
    get_grid,
)
from okdhp_edge.train.open_teacher import load_checkpoint


class Selfkd(SingleTeacherMethod):
    """Teacher and student share a frozen trunk."""

    table: SelfkdTable

    def prepare(self, net: PoseNet) -> None:
        """Build the method's own layers and set the initial weights."""
        path = Path(self.table.teacher.path).expanduser()
        trained, _ = load_checkpoint(path)
        try:
            net.trunk.load_state_dict(trained.trunk.state_dict())
        except RuntimeError:
            raise RecipeError(
                f"the trunk of {path} does not match the recipe's network",
                "use the teacher's [network] in the recipe, with branches = [1]",
            ) from None
        net.trunk.requires_grad_(requires_grad=False)

    def on_train_mode(self, net: PoseNet) -> None:
        """Keep frozen parts in eval mode."""
        net.trunk.eval()

    def forward(self, net: PoseNet, batch: Batch, epoch: float) -> Losses:
        """The terms of the loss, see `Method.forward`."""
        outputs = self.run_student(net, batch)
        stacks = [s for s in self.collect_stacks(outputs) if s.branch is not None]
        targets = compute_teacher_targets(self.teacher, batch, get_grid(stacks))
        everywhere = batch._replace(labelled=torch.zeros_like(batch.labelled))
        return self.combine_losses(stacks, outputs.ensemble, targets, everywhere, alpha=1.0)
