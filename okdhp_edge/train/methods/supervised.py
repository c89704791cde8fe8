"""No teacher: what every method is compared with."""

from okdhp_edge.network.branches import PoseNet
from okdhp_edge.train.dataset import Batch
from okdhp_edge.train.methods.base import Losses, Method


class Supervised(Method):
    """The hard loss on every stack of every branch."""

    def forward(self, net: PoseNet, batch: Batch, epoch: float) -> Losses:
        stacks = self.stacks(self.see(net, batch))
        return Losses({"hard": self.hard_term(stacks, batch)}, [s.heatmaps for s in stacks])
