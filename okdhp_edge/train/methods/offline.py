"""Base of the methods with trained teachers: alpha * distance + (1 - alpha) * hard."""

import torch
from torch import Tensor

from okdhp_edge.pose.skeleton import Skeleton
from okdhp_edge.recipe.distillation import FpdTable, SelfkdTable
from okdhp_edge.recipe.recipe import Recipe
from okdhp_edge.train.dataset import Batch
from okdhp_edge.train.gaussian_targets import gaussian_targets
from okdhp_edge.train.losses import hard_loss
from okdhp_edge.train.methods.base import Losses, Method, SupervisedStack, weighted_sum
from okdhp_edge.train.open_teacher import open_teacher
from okdhp_edge.train.teacher import MIN_TEACHER_PEAK, Teacher, TeacherTargets


class OfflineMethod(Method):
    """A method whose teachers are trained already."""

    def combine_losses(
        self,
        stacks: list[SupervisedStack],
        ensemble: Tensor,
        targets: TeacherTargets,
        batch: Batch,
        alpha: float,
    ) -> Losses:
        """Both terms. Images without labels count in `kd` alone, with every joint."""
        weight = torch.where(batch.labelled[:, None], batch.weight, 1.0) * targets.joint_mask
        total = self.compute_total(weight)
        kind = self.recipe.heatmap.hard_loss

        def distance(stack: SupervisedStack) -> Tensor:
            return hard_loss(stack.heatmaps, targets.heatmaps, weight, total, kind)

        terms = {"kd": alpha * weighted_sum(stacks, distance)}
        if alpha < 1:
            terms["hard"] = (1 - alpha) * self.compute_hard_term(stacks, batch)
        elif self.recipe.heatmap.presence:
            # No teacher's loss moves the level that scores are read from.
            terms["presence"] = weighted_sum(
                stacks, lambda stack: self.compute_presence_term(stack.heatmaps, batch)
            )
        return Losses(terms, [s.heatmaps for s in stacks], ensemble)


class SingleTeacherMethod(OfflineMethod):
    """An offline method with one teacher throughout."""

    table: FpdTable | SelfkdTable

    def __init__(self, recipe: Recipe, skeleton: Skeleton) -> None:
        super().__init__(recipe, skeleton)
        assert isinstance(recipe.distillation, FpdTable | SelfkdTable)
        self.table = recipe.distillation
        self.teacher = open_teacher(self.table.teacher, skeleton, recipe.input_spec())
        self.use_teachers(self.teacher)


def compute_teacher_targets(
    teacher: Teacher, batch: Batch, grid: tuple[int, int]
) -> TeacherTargets:
    """What a teacher says of a batch; with a window, of labelled joints only near the label, and
    nothing where it shows them elsewhere."""
    targets = teacher(batch.for_teachers, grid)
    if teacher.window is None:
        return targets
    near = gaussian_targets(batch.xy, grid, teacher.window)
    known = (batch.weight > 0)[..., None, None]
    maps = targets.heatmaps * torch.where(known, near, 1.0)
    peak = maps.amax(dim=(2, 3))
    return targets._replace(
        heatmaps=maps / peak.clamp_min(MIN_TEACHER_PEAK)[..., None, None],
        joint_mask=targets.joint_mask * (peak >= MIN_TEACHER_PEAK),
    )


def get_grid(stacks: list[SupervisedStack]) -> tuple[int, int]:
    """(height, width) of the student's heatmaps."""
    height, width = stacks[0].heatmaps.shape[2:]
    return height, width
