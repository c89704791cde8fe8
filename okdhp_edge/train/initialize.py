"""Initialize a network from trained weights, with joints matched by name."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from okdhp_edge.artifacts import model_store
from okdhp_edge.errors import RecipeError
from okdhp_edge.network.branches import PoseNet
from okdhp_edge.network.build import build_network
from okdhp_edge.network.config import NetworkConfig, OnnxConfig
from okdhp_edge.network.encoders import Encoder
from okdhp_edge.network.onnx_module import OnnxModule
from okdhp_edge.network.onnx_network import OnnxHead, make_head_weights, read_onnx_network
from okdhp_edge.pose.heatmap import HeatmapKind
from okdhp_edge.pose.skeleton import Skeleton
from okdhp_edge.recipe import checkpoint
from okdhp_edge.recipe.recipe import Recipe


class InitializedWeights(NamedTuple):
    """What a start brought.

    Attributes:
        kept: joints whose output channels were taken over.
        reinitialized: joints that the start does not know.
        left: tensors that do not fit and begin anew besides those of `reinitialized`.
    """

    kept: tuple[str, ...]
    reinitialized: tuple[str, ...]
    left: tuple[str, ...]

    def __str__(self) -> str:
        if not self.reinitialized:
            return f"all {len(self.kept)} joints"
        kept = ", ".join(self.kept) or "none"
        return f"joints kept: {kept}; reinitialized: {', '.join(self.reinitialized)}"


def initialize(
    net: PoseNet, recipe: Recipe, skeleton: Skeleton, say: Callable[[str], None]
) -> None:
    """Put the weights into `net` that training starts from, if the recipe names any.

    Raises:
        OkdhpError: they are missing, or of another network.
    """
    if recipe.is_detector and not recipe.keeps_boxes:
        initialize_center_heads(net)
    if recipe.start is None and recipe.network.kind == "onnx" and recipe.network.file:
        begun: object = initialize_from_onnx(
            recipe.network, net, skeleton, recipe.decoder_spec().kind
        )
        say(f"initialized from {recipe.network.file}: {begun}")
    if recipe.start is not None:
        path = model_store.resolve_weights(recipe.start)
        begun = (
            initialize_encoder_from(path, net)
            if recipe.is_detector and not checkpoint.read_info(path).recipe.is_detector
            else initialize_from(
                path, net, recipe.network, skeleton, is_detector=recipe.is_detector
            )
        )
        say(f"initialized from {path}: {begun}")


def initialize_from(
    path: Path,
    net: PoseNet,
    config: NetworkConfig,
    skeleton: Skeleton,
    *,
    is_detector: bool = False,
) -> InitializedWeights:
    """Put a checkpoint's weights into `net`: those of the same shape, and of those with a channel
    for each joint the channels of joints that both know.

    Raises:
        ModelError: it is no checkpoint.
        RecipeError: it holds another network, or one of another kind.
    """
    facts = checkpoint.read_info(path)
    _check_same_network(path, facts.recipe.network, config)
    if facts.recipe.is_detector != is_detector:
        raise RecipeError(
            f"{path} is a {'detector' if facts.recipe.is_detector else 'pose model'}",
            "start from one of the recipe's kind",
        )
    theirs = checkpoint.load_net_tensors(path)
    axes = _find_joint_axes(config, len(skeleton))
    source = skeleton.find_columns(facts.skeleton.skeleton())
    # A detector's boxes have channels after those of its classes.
    boxes = range(len(facts.skeleton.joints), facts.channels)
    mine = net.state_dict()
    left = [
        name for name, tensor in mine.items()
        if not _copy_matching(tensor, theirs.get(name), axes.get(name), [*source.tolist(), *boxes])
    ]  # fmt: skip
    net.load_state_dict(mine)
    kept = [j for j, column in zip(skeleton.joints, source, strict=True) if column >= 0]
    reinitialized = [j for j, column in zip(skeleton.joints, source, strict=True) if column < 0]
    return InitializedWeights(tuple(kept), tuple(reinitialized), tuple(left))


def initialize_encoder_from(path: Path, net: PoseNet) -> str:
    """Put a pose model's encoder into a detector: what it learned of people serves both. Neck and
    decoder begin anew.

    Returns:
        What was taken, in words.

    Raises:
        ModelError: it is no checkpoint.
        RecipeError: it has another encoder.
    """
    facts = checkpoint.read_info(path)
    trained = build_network(facts.recipe.network, facts.channels, load_encoder=False)
    checkpoint.load_net(path, trained)
    theirs, wanted = _list_encoder_tensors(trained), _list_encoder_tensors(net)
    if [t.shape for t in theirs] != [t.shape for t in wanted]:
        raise RecipeError(
            f"the encoder in {path} differs from the recipe's", "start from the same encoder"
        )
    for tensor, known in zip(wanted, theirs, strict=True):
        tensor.copy_(known)
    return f"the encoder alone ({len(wanted)} tensors)"


def _list_encoder_tensors(net: PoseNet) -> list[Tensor]:
    """In the order of execution: with a neck the encoder's layers have other names."""
    encoder = net.trunk.encoder
    layers = getattr(encoder, "levels", None) or (
        encoder.layers.steps() if isinstance(encoder, Encoder) else [encoder]
    )
    return [tensor for layer in layers for tensor in layer.state_dict().values()]


# Of a center before anything is learned: persons are rare (Lin et al., "Focal Loss", ICCV 2017,
# section 3.3). Boxes begin eight cells wide.
_PRIOR_PROBABILITY, _PRIOR_LOG_SIZE = 0.02, math.log(8)


@torch.no_grad()
def initialize_center_heads(net: PoseNet) -> None:
    """Biases of a detector's heads from which training begins without a shock."""
    for branch in net.branches:
        head = cast(nn.Conv2d, branch.head)
        assert head.bias is not None
        head.bias.zero_()
        head.bias[:1] = math.log(_PRIOR_PROBABILITY / (1 - _PRIOR_PROBABILITY))
        head.bias[3:] = _PRIOR_LOG_SIZE


# What a Gaussian's peak becomes as a logit, and its background: a softmax over a thousand cells
# then has most of its mass at the peak, and a joint without a peak counts as absent.
_LOGIT_OF_PEAK, _LOGIT_OF_BACKGROUND = 9.0, -3.0


def initialize_from_onnx(
    config: OnnxConfig, net: PoseNet, skeleton: Skeleton, kind: HeatmapKind
) -> str:
    """Put the weights of the ONNX file of `network.kind = "onnx"` into the trunk and every branch's
    head; joints are matched by name. Branches after `network.features` begin anew.

    Args:
        kind: what heatmaps are trained to hold; Gaussians of the file can become logits.

    Returns:
        What was taken, in words.

    Raises:
        ModelError: it is no such file.
    """
    found = read_onnx_network(Path(str(config.file)), config.features, boxes=config.boxes)
    cast(OnnxModule, net.trunk.encoder).load_constants(found.weights)
    if config.boxes:
        return f"the whole detector ({len(found.weights)} tensors)"
    if found.head is None:
        return f"all before {config.features} ({len(found.weights)} tensors)"
    return str(_initialize_heads(found.head, found.stride, net, skeleton, kind))


def _initialize_heads(
    found: OnnxHead, stride: int, net: PoseNet, skeleton: Skeleton, kind: HeatmapKind
) -> InitializedWeights:
    columns = skeleton.find_columns(found.spec.skeleton)
    known = torch.from_numpy(columns >= 0)
    weight = torch.from_numpy(make_head_weights(found, stride))
    bias = torch.from_numpy(found.bias.copy())
    if found.spec.kind is HeatmapKind.GAUSSIAN and kind is not HeatmapKind.GAUSSIAN:
        scale = _LOGIT_OF_PEAK - _LOGIT_OF_BACKGROUND
        weight, bias = weight * scale, bias * scale + _LOGIT_OF_BACKGROUND
    chosen = torch.from_numpy(columns[columns >= 0])
    for branch in net.branches:
        head = cast(nn.Conv2d, branch.head)
        assert head.bias is not None
        with torch.no_grad():
            head.weight[known], head.bias[known] = weight[chosen], bias[chosen]
    kept = [j for j, column in zip(skeleton.joints, columns, strict=True) if column >= 0]
    anew = [j for j, column in zip(skeleton.joints, columns, strict=True) if column < 0]
    return InitializedWeights(tuple(kept), tuple(anew), ())


# What may differ between a start and a recipe of the same network: where weights came from.
_FREE_KEYS: dict[str, dict[str, object]] = {
    "mobilepose": {"encoder_weights": None}, "onnx": {"file": None},
}  # fmt: skip


def _check_same_network(path: Path, theirs: NetworkConfig, mine: NetworkConfig) -> None:
    """Raise RecipeError for another network; the file it was made from does not count."""
    free = _FREE_KEYS.get(theirs.kind, {})
    same = type(theirs) is type(mine)
    if not same or theirs.model_copy(update=free) != mine.model_copy(update=free):
        raise RecipeError(
            f"the network in {path} differs from the recipe's", "start from the same network"
        )


def _find_joint_axes(config: NetworkConfig, joints: int) -> dict[str, int]:
    """By tensor the axis that has an entry for each joint: the one that grows with their number."""
    small, large = (
        build_network(config, count, load_encoder=False).state_dict()
        for count in (joints, joints + 1)
    )
    axes = {}
    for name, tensor in small.items():
        grown = [
            axis for axis, (a, b) in enumerate(zip(tensor.shape, large[name].shape, strict=True))
            if b == a + 1
        ]  # fmt: skip
        if grown:
            axes[name] = grown[0]
    return axes


@torch.no_grad()
def _copy_matching(
    mine: Tensor, theirs: Tensor | None, axis: int | None, source_K: Sequence[int]
) -> bool:
    """Whether anything of `theirs` came into `mine`."""
    if theirs is None or theirs.ndim != mine.ndim:
        return False
    if axis is None:
        if theirs.shape != mine.shape:
            return False
        mine.copy_(theirs)
        return True
    to = [place for place, column in enumerate(source_K) if column >= 0]
    if not to:
        return False
    columns = torch.tensor([source_K[place] for place in to])
    mine.index_copy_(axis, torch.tensor(to), theirs.to(mine.dtype).index_select(axis, columns))
    return True
