"""Supervised training without a teacher: the baseline."""

from okdhp_edge.network.branches import PoseNet
from okdhp_edge.train.dataset import Batch
from okdhp_edge.train.methods.base import Losses, Method


class Supervised(Method):
    """The hard loss on every stack of every branch."""

    def forward(self, net: PoseNet, batch: Batch, epoch: float) -> Losses:
        """The terms of the loss, see `Method.forward`."""
        outputs = self.run_student(net, batch)
        stacks = self.collect_stacks(outputs)
        terms = {"hard": self.compute_hard_term(stacks, batch)}
        return Losses(terms, [s.heatmaps for s in stacks], outputs.ensemble)
