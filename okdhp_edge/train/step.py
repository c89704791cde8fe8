"""Network and method as one trainable module, with its measurements."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from okdhp_edge.network.branches import PoseNet
from okdhp_edge.recipe.tables import FreezeTable
from okdhp_edge.train.dataset import Batch
from okdhp_edge.train.freeze import keep_frozen
from okdhp_edge.train.methods import Method
from okdhp_edge.train.methods.base import Losses
from okdhp_edge.train.quantization import QuantizationAware


class StepResult(NamedTuple):
    """One forward pass.

    Attributes:
        terms: weighted terms of the loss.
        gradient_ratio: scalar, see `gradient_ratio`; None where it was not measured.
    """

    terms: dict[str, Tensor]
    gradient_ratio: Tensor | None


class Uncast:
    """A batch that Fabric hands on as it is.

    With `bf16-mixed` it casts every floating-point tensor of the arguments: coordinates in heatmap
    pixels would keep 8 bits, an eighth of a pixel at 16 to 32.
    """

    def __init__(self, batch: Batch) -> None:
        self.batch = batch


class TrainingStep(nn.Module):
    """From a batch to the loss. One module, so that DDP sees every weight that learns."""

    def __init__(
        self,
        net: PoseNet,
        method: Method,
        quantization: QuantizationAware | None = None,
        frozen: FreezeTable | None = None,
    ) -> None:
        super().__init__()
        self.frozen = frozen or FreezeTable()
        self.net = net
        self.method = method
        self.quantization = quantization

    def train(self, mode: bool = True) -> "TrainingStep":
        """Training mode, but for what the method keeps frozen."""
        super().train(mode)
        self.method.on_train_mode(self.net)
        keep_frozen(self.net, self.frozen)
        return self

    def forward(self, uncast: Uncast, epoch: float, *, measure: bool) -> StepResult:
        """The loss terms of a batch, and with `measure` the gradient ratio."""
        batch = uncast.batch
        losses: Losses = self.method(self.net, batch, epoch)
        ratio = gradient_ratio(losses) if measure else None
        terms = dict(losses.terms)
        if self.quantization and epoch >= self.quantization.table.start_epoch:
            terms |= self.quantization(self.method, losses, batch)
        return StepResult(terms, ratio)


def gradient_ratio(losses: Losses) -> Tensor | None:
    """Norm of the distillation's gradient at the heatmaps over that of the labels'.

    Too small, and the teacher is not heard; above one, and the labels are not. None where either
    term is missing or constant.
    """
    norms = {}
    for name in ("kd", "hard"):
        term = losses.terms.get(name)
        if term is None or not term.requires_grad:
            return None
        gradients = torch.autograd.grad(
            term, losses.stacks, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        norms[name] = torch.stack([g.detach().float().square().sum() for g in gradients]).sum()
    return (norms["kd"] / norms["hard"].clamp_min(1e-20)).sqrt()
