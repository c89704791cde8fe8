"""The interface of a distillation method: the loss terms for one batch."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from okdhp_edge.network.branches import BranchOutputs, PoseNet
from okdhp_edge.pose.skeleton import Skeleton
from okdhp_edge.recipe.recipe import Recipe
from okdhp_edge.train.dataset import Batch
from okdhp_edge.train.detection_dataset import DetectionBatch
from okdhp_edge.train.detection_loss import count_persons, detection_loss
from okdhp_edge.train.gaussian_targets import gaussian_targets
from okdhp_edge.train.losses import count_labelled, hard_loss, presence_loss
from okdhp_edge.train.teacher import Teacher


class Losses(NamedTuple):
    """One batch's loss.

    Attributes:
        terms: weighted terms by name, `hard` from labels and `kd` from teachers among them; their
            sum is the loss.
        stacks: the heatmaps that the terms are computed on, for measuring gradients at them.
        ensemble: (N, K, h, w) of the student's branches, for whoever else learns from it.
    """

    terms: dict[str, Tensor]
    stacks: list[Tensor]
    ensemble: Tensor


class SupervisedStack(NamedTuple):
    """Heatmaps (N, K, h, w) of one stack, and how it is taught."""

    heatmaps: Tensor
    weight: float
    sigma: float
    branch: int | None
    """None for the trunk's own."""


class Method(nn.Module):
    """A method. What it learns itself (an attention, an alignment) are its parameters."""

    reads_mask = False
    """Whether its teachers look at the person's mask."""
    large: tuple[int, int] | None = None
    """(width, height) of the crops its teachers see, where larger than the student's."""

    def __init__(self, recipe: Recipe, skeleton: Skeleton) -> None:
        super().__init__()
        self.recipe = recipe
        self.skeleton = skeleton
        self.over_processes: Callable[[Tensor], Tensor] = lambda value: value
        """Averages a count over the processes; the loop sets it where there are several."""

    def use_teachers(self, *teachers: Teacher) -> None:
        """Have the crops made that these teachers need."""
        self.reads_mask = any(teacher.reads_mask for teacher in teachers)
        widest = max(teacher.crop_size for teacher in teachers)
        self.large = widest if widest > self.recipe.input.size else None

    def prepare(self, net: PoseNet) -> None:
        """Called once, before the optimizer is built: initial weights, frozen parts, own layers."""

    def on_train_mode(self, net: PoseNet) -> None:
        """Called whenever the network enters training mode: frozen parts go back to eval mode."""

    def after_step(self, net: PoseNet) -> None:
        """Called after each optimisation step."""

    def forward(self, net: PoseNet, batch: Batch, epoch: float) -> Losses:
        """The terms of the loss.

        Args:
            net: the student.
            batch: its crops; a fourth channel is there where the teachers read the mask.
            epoch: with fraction, counted from 0.
        """
        raise NotImplementedError

    def run_student(self, net: PoseNet, batch: Batch) -> BranchOutputs:
        """The student's outputs, the mask kept from it unless it reads one."""
        outputs: BranchOutputs = net(batch.image[..., : net.channels])
        return outputs

    def collect_stacks(self, outputs: BranchOutputs) -> list[SupervisedStack]:
        """Every stack that the recipe weighs above zero: the trunk's, then branch by branch."""
        table = self.recipe.heatmap
        sigmas = table.branch_sigmas or (table.sigma,) * len(outputs.branches)
        found = [
            SupervisedStack(s, table.shared_stack_weight, table.sigma, None) for s in outputs.shared
        ]
        for number, (stacks, sigma) in enumerate(zip(outputs.branches, sigmas, strict=True)):
            *inner, last = stacks.unbind(dim=1)
            found += [SupervisedStack(s, table.intermediate_weight, sigma, number) for s in inner]
            found.append(SupervisedStack(last, 1.0, sigma, number))
        return [stack for stack in found if stack.weight]

    def hard(self, heatmaps: Tensor, batch: Batch, weight: Tensor, sigma: float) -> Tensor:
        """The hard loss of one stack against Gaussians of `sigma`, and that of its scores."""
        if isinstance(batch, DetectionBatch):
            return self._compute_detection_loss(heatmaps, batch)
        table = self.recipe.heatmap
        target = gaussian_targets(batch.xy, (heatmaps.shape[2], heatmaps.shape[3]), sigma)
        loss = hard_loss(heatmaps, target, weight, self.compute_total(weight), table.hard_loss)
        if not table.presence:
            return loss
        return loss + self.compute_presence_term(heatmaps, batch, weight)

    def compute_presence_term(
        self, heatmaps: Tensor, batch: Batch, weight: Tensor | None = None
    ) -> Tensor:
        """The weighted loss of one stack's scores.

        Args:
            weight: (N, K) of the labels, where not those of the batch.
        """
        table = self.recipe.heatmap
        present = ((batch.weight if weight is None else weight) > 0).to(batch.weight)
        known = self.compute_total(present + batch.absent)
        loss = presence_loss(heatmaps, present, batch.absent, known, table.hard_loss)
        return table.presence * loss

    def _compute_detection_loss(self, maps: Tensor, batch: DetectionBatch) -> Tensor:
        table = self.recipe.detection
        total = self.over_processes(count_persons(batch)).clamp_min(1.0)
        return detection_loss(maps, batch, total, table.box_weight, table.center_size)

    def compute_hard_term(self, stacks: list[SupervisedStack], batch: Batch) -> Tensor:
        """The weighted sum of all stacks' hard losses."""
        return weighted_sum(
            stacks, lambda stack: self.hard(stack.heatmaps, batch, batch.weight, stack.sigma)
        )

    def compute_total(self, weight: Tensor) -> Tensor:
        """What losses divide by: the taught joints of all processes' batches."""
        return count_labelled(self.over_processes(weight.sum()))


def weighted_sum(
    stacks: list[SupervisedStack], loss: Callable[[SupervisedStack], Tensor]
) -> Tensor:
    """Sum over stacks of weight times loss."""
    return torch.stack([stack.weight * loss(stack) for stack in stacks]).sum()
