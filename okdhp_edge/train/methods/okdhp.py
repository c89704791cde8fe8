"""OKDHP (Li et al., ICCV 2021): the branches' ensemble teaches every stack of every branch.

loss = sum over stacks of hard(stack, target)
     + ensemble_weight * hard(ensemble, target)
     + kd_weight * ramp(epoch) * sum over stacks of KL(teacher || stack)

The teacher is the ensemble; here it may also be the mean of the ensembles of several augmented
views of the person, and a moving average of the weights may join it, a peer that sees larger
crops, or a network that is trained already.
"""

from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel

from okdhp_edge.errors import RecipeError
from okdhp_edge.network.branches import BranchOutputs, PoseNet
from okdhp_edge.network.build import build_network
from okdhp_edge.pose.skeleton import Skeleton
from okdhp_edge.recipe.distillation import OkdhpTable, TeacherTable
from okdhp_edge.recipe.recipe import Recipe
from okdhp_edge.train.dataset import Batch
from okdhp_edge.train.losses import compute_kd_weight, log_distribution, pixelwise_kl
from okdhp_edge.train.methods.base import Losses, Method, SupervisedStack, weighted_sum
from okdhp_edge.train.methods.offline import compute_teacher_targets
from okdhp_edge.train.open_teacher import open_teacher
from okdhp_edge.train.teacher import Teacher, TeacherTargets
from okdhp_edge.train.views import average_over_views
from okdhp_edge.train.weight_average import make_weight_average

_EPSILON = 1e-9


class Okdhp(Method):
    """Balanced and unbalanced, any number of branches and views."""

    def __init__(self, recipe: Recipe, skeleton: Skeleton) -> None:
        super().__init__(recipe, skeleton)
        assert isinstance(recipe.distillation, OkdhpTable)
        self.table = recipe.distillation
        self.views = recipe.augmentation.views
        self.average: AveragedModel | None = None
        self.peer: PoseNet | None = None
        self.large = self.table.peer_size
        self.foreign: Teacher | None = None
        if self.table.teacher is not None:
            self.foreign = self._open(self.table.teacher)
        flip = torch.tensor(skeleton.flip_index.tolist())
        self.register_buffer("flip_index", flip, persistent=False)

    def _open(self, table: TeacherTable) -> Teacher:
        teacher = open_teacher(table, self.skeleton, self.recipe.input_spec())
        if self.table.peer_size:
            raise RecipeError("peer and teacher cannot both have own crops", "use one of them")
        self.use_teachers(teacher)
        return teacher

    def prepare(self, net: PoseNet) -> None:
        """Build the method's own layers and set the initial weights."""
        if self.table.ema_peer is not None:
            self.average = make_weight_average(net, self.table.ema_peer)
        if self.table.peer_size is not None:
            self.peer = _build_peer(self.recipe, len(self.skeleton))
            self._start_peer(net)

    def _start_peer(self, net: PoseNet) -> None:
        """The peer starts from the same pretrained weights, as far as it has such tensors; without
        any it is to differ."""
        if self.peer is None or (self.recipe.start is None and self.recipe.network.kind != "onnx"):
            return
        own = self.peer.state_dict()
        shared = {
            name: tensor for name, tensor in net.state_dict().items()
            if name in own and own[name].shape == tensor.shape
        }  # fmt: skip
        self.peer.load_state_dict(own | shared)

    def on_train_mode(self, net: PoseNet) -> None:
        """Keep frozen parts in eval mode."""
        if self.average is not None:
            self.average.eval()

    def after_step(self, net: PoseNet) -> None:
        """Update the moving average of the weights."""
        if self.average is not None:
            self.average.update_parameters(net)

    def forward(self, net: PoseNet, batch: Batch, epoch: float) -> Losses:
        """The terms of the loss, see `Method.forward`."""
        outputs = self.run_student(net, batch)
        stacks = self.collect_stacks(outputs)
        table, heatmap = self.table, self.recipe.heatmap
        hard = weighted_sum(stacks, lambda stack: self._compute_hard_loss(stack, batch))
        terms = {"hard": table.hard_weight * hard}
        if table.ensemble_weight:
            terms["ensemble"] = table.ensemble_weight * self.hard(
                outputs.ensemble, batch, batch.weight, heatmap.sigma
            )
        finer = None
        if self.peer is not None:
            finer = self.run_student(self.peer, batch._replace(image=batch.large)).ensemble
            terms["peer"] = self._compute_peer_loss(finer, batch)
        if kd_weight := compute_kd_weight(table, epoch):
            teacher = self._compute_teacher(outputs, batch, finer)
            kl = weighted_sum(stacks, lambda stack: self._compute_kl(stack, teacher, batch))
            terms["kd"] = kd_weight * kl
        return Losses(terms, [s.heatmaps for s in stacks], outputs.ensemble)

    def _compute_hard_loss(self, stack: SupervisedStack, batch: Batch) -> Tensor:
        weight = batch.weight
        if self.table.own_view and stack.branch is not None:
            view = torch.arange(len(weight), device=weight.device) * self.views // len(weight)
            own = (view == stack.branch)[:, None]
            weight, batch = weight * own, batch._replace(absent=batch.absent * own)
        return self.hard(stack.heatmaps, batch, weight, stack.sigma)

    def _compute_peer_loss(self, finer: Tensor, batch: Batch) -> Tensor:
        """The peer's own, on its finer grid, its Gaussians as wide in the image."""
        assert self.table.peer_size is not None
        factor = self.table.peer_size[0] / self.recipe.input.size[0]
        # Pixel i of a grid covers i - 0.5 to i + 0.5 of it.
        placed = batch._replace(xy=(batch.xy + 0.5) * factor - 0.5)
        return self.hard(finer, placed, batch.weight, self.recipe.heatmap.sigma * factor)

    def _compute_teacher(
        self, outputs: BranchOutputs, batch: Batch, finer: Tensor | None
    ) -> Tensor:
        teacher = outputs.ensemble
        if finer is not None:
            grid = outputs.ensemble.shape[2:]
            # In single precision: PyTorch has no antialiasing in bfloat16 on CPUs.
            peer = F.interpolate(finer.float(), grid, mode="bilinear", antialias=True)
            teacher = torch.lerp(teacher, peer.to(teacher.dtype), self.table.peer_share)
        if self.average is not None:
            with torch.no_grad():
                averaged = cast(PoseNet, self.average.module)
                peer = self.run_student(averaged, batch).ensemble
            teacher = torch.lerp(teacher, peer, self.table.ema_share)
        if self.views > 1 and self.table.joint_views:
            flip_index = self.get_buffer("flip_index")
            teacher = average_over_views(teacher, batch, self.views, flip_index)
        if self.foreign is not None:
            height, width = teacher.shape[2:]
            targets = compute_teacher_targets(self.foreign, batch, (height, width))
            teacher = blend_with_teacher(
                teacher, targets, self.table.teacher_share, self.table.temperature
            )
        return teacher.detach() if self.table.detach else teacher

    def _compute_kl(self, stack: SupervisedStack, teacher: Tensor, batch: Batch) -> Tensor:
        weight = batch.weight
        if self.table.kd_joints == "all":
            weight = torch.ones_like(weight)
        total = self.compute_total(weight)
        if self.table.normalisation == "released":
            total = torch.full_like(total, len(teacher) * teacher[0, 0].numel())
        return pixelwise_kl(stack.heatmaps, teacher, weight, total, self.table.temperature)


def blend_with_teacher(
    ensemble_BKHW: Tensor, targets: TeacherTargets, share: float, temperature: float
) -> Tensor:
    """Heatmaps whose softmax at this temperature is `share` the teacher's distribution and the
    rest the ensemble's; of joints that the teacher does not know, the ensemble's alone."""
    own = log_distribution(ensemble_BKHW, temperature)
    maps = targets.heatmaps.flatten(2)
    mass = maps.sum(dim=2, keepdim=True)
    taught = (maps / mass.clamp_min(_EPSILON)).clamp_min(_EPSILON).log()
    says = (mass > _EPSILON) & (targets.joint_mask[..., None] > 0)
    weights = torch.tensor([1 - share, share], device=own.device).clamp_min(_EPSILON).log()
    both = torch.logaddexp(own + weights[0], taught + weights[1])
    return temperature * torch.where(says, both, own).view_as(ensemble_BKHW)


def _build_peer(recipe: Recipe, joints: int) -> PoseNet:
    """The target's architecture, once more."""
    alone = {"branches": recipe.network.branches[:1], "aggregation": "mean"}
    return build_network(recipe.network.model_copy(update=alone), joints)
