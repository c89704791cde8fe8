"""Freeze parts of a network, for fine-tuning on few persons."""

from typing import cast

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from okdhp_edge.errors import RecipeError
from okdhp_edge.network.branches import PoseNet
from okdhp_edge.network.config import STRIDE
from okdhp_edge.network.encoders import Encoder, select_up_to_stride
from okdhp_edge.network.neck import TopDownNeck
from okdhp_edge.recipe.tables import FreezeTable


def freeze(net: PoseNet, table: FreezeTable) -> None:
    """Before the optimizer is built: nothing of these parts gets a gradient.

    Raises:
        RecipeError: no layer ends at a stride as fine as that.
    """
    parts = _find_frozen_parts(net, table)
    if table.to_stride is not None and not parts:
        raise RecipeError(
            f"freeze.to_stride = {table.to_stride} freezes nothing: the first layers end at a "
            "coarser stride", "give a larger one, or omit it",
        )  # fmt: skip
    for part in parts:
        part.requires_grad_(requires_grad=False)
    for norm in _find_norms(net) if table.norms else ():
        norm.requires_grad_(requires_grad=False)


def keep_frozen(net: PoseNet, table: FreezeTable) -> None:
    """Whenever the network enters training mode: frozen norms keep the statistics they have."""
    for part in _find_frozen_parts(net, table):
        part.eval()
    for norm in _find_norms(net) if table.norms else ():
        norm.eval()


def _find_norms(net: PoseNet) -> list[nn.Module]:
    return [m for m in net.modules() if isinstance(m, _BatchNorm)]


def _find_frozen_parts(net: PoseNet, table: FreezeTable) -> list[nn.Module]:
    """The encoder's layers up to a stride, those of each branch among them; of an hourglass its
    stem."""
    if table.to_stride is None:
        return []
    stem = getattr(net.trunk, "stem", None)
    if stem is not None:
        return [stem] if table.to_stride >= STRIDE else []
    encoder = cast(nn.Module, net.trunk.encoder)
    if isinstance(encoder, TopDownNeck):
        layers = [layer for level in encoder.levels for layer in cast(nn.Sequential, level)]
    elif isinstance(encoder, Encoder):
        layers = encoder.layers.steps()
    else:  # shared up to a stride, beyond it each branch has layers of its own
        own = [list(cast(nn.Module, branch.encoder).children()) for branch in net.branches]
        chains = [[*encoder.children(), *layers] for layers in own]
        return [part for chain in chains for part in select_up_to_stride(chain, table.to_stride)]
    return select_up_to_stride(layers, table.to_stride)
