"""OKDDip (Chen et al., AAAI 2020): diverse peers, and a leader that is deployed.

Branch 0 is the group leader. Every other branch a learns from its own mix of the peers,
t_a = sum over b of attention(a, b) * q_b, and the leader from their plain mean (sections 3.2 and
3.3). With `detach` the predictions q are fixed; the attention learns in any case.
"""

import torch
from torch import Tensor, nn

from okdhp_edge.network.branches import BranchOutputs, PoseNet
from okdhp_edge.pose.skeleton import Skeleton
from okdhp_edge.recipe.distillation import OkddipTable
from okdhp_edge.recipe.recipe import Recipe
from okdhp_edge.train.dataset import Batch
from okdhp_edge.train.losses import compute_kd_weight, distribution_kl, log_distribution
from okdhp_edge.train.methods.base import Losses, Method, SupervisedStack, weighted_sum


class Okddip(Method):
    """Peers 1, 2, ... and the leader 0."""

    def __init__(self, recipe: Recipe, skeleton: Skeleton) -> None:
        super().__init__(recipe, skeleton)
        assert isinstance(recipe.distillation, OkddipTable)
        self.table = recipe.distillation

    def prepare(self, net: PoseNet) -> None:
        """Build the method's own layers and set the initial weights."""
        features = net.probe(self.recipe.input.size).branch_features[1].shape[1]
        self.query = nn.Linear(features, self.table.attention, bias=False)
        self.key = nn.Linear(features, self.table.attention, bias=False)

    def forward(self, net: PoseNet, batch: Batch, epoch: float) -> Losses:
        """The terms of the loss, see `Method.forward`."""
        outputs = self.run_student(net, batch)
        stacks = self.collect_stacks(outputs)
        targets = self._compute_targets(outputs)
        total = self.compute_total(batch.weight)

        def kl(stack: SupervisedStack) -> Tensor:
            student = log_distribution(stack.heatmaps, self.table.temperature)
            teacher = targets[stack.branch or 0]
            return distribution_kl(student, teacher, batch.weight, total)

        kd = compute_kd_weight(self.table, epoch) * weighted_sum(stacks, kl)
        terms = {"hard": self.compute_hard_term(stacks, batch), "kd": kd}
        return Losses(terms, [s.heatmaps for s in stacks], outputs.ensemble)

    def _compute_targets(self, outputs: BranchOutputs) -> list[Tensor]:
        """Per branch the log-distribution (N, K, P) that it learns; the leader's is first."""
        peers = range(1, len(outputs.branches))
        said = torch.stack(
            [log_distribution(outputs.last(b), self.table.temperature).exp() for b in peers]
        )
        if self.table.detach:
            said = said.detach()
        pooled = torch.stack([outputs.branch_features[b].mean(dim=(2, 3)) for b in peers])
        pooled = pooled.float().detach()
        with torch.autocast(pooled.device.type, enabled=False):  # a mix has to sum to one
            attention = self.compute_attention(pooled)
            mixed = torch.einsum("abn,bnkp->ankp", attention, said.float())
        return [_log(said.mean(dim=0)), *(_log(target) for target in mixed)]

    def compute_attention(self, pooled_TNC: Tensor) -> Tensor:
        """(T, T, N): how much peer a (first) takes from peer b (second), summing to one over b."""
        scores = torch.einsum("ang,bng->abn", self.query(pooled_TNC), self.key(pooled_TNC))
        return scores.softmax(dim=1)


def _log(distribution: Tensor) -> Tensor:
    return distribution.clamp_min(1e-12).log()
