"""From a recipe's `[network]` table to a network."""

import copy
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from okdhp_edge.errors import RecipeError
from okdhp_edge.network.aggregation import FeatureAggregationUnit
from okdhp_edge.network.branches import BackboneOutputs, Normalise, PoseNet
from okdhp_edge.network.candidates import CandidateBranch, CandidateTrunk
from okdhp_edge.network.config import (
    AnyNetworkConfig,
    HourglassConfig,
    MobilePoseConfig,
    OnnxConfig,
    get_normalization,
)
from okdhp_edge.network.decoder import (
    ConvolutionBranch,
    Decoder,
    DucDecoder,
    UpsampleDecoder,
)
from okdhp_edge.network.encoders import Encoder, build_encoder, count_output_channels
from okdhp_edge.network.hourglass import HourglassBranch, Stacks, Stem
from okdhp_edge.network.neck import TopDownNeck

_MASK_STD = 255.0


def build_network(config: AnyNetworkConfig, joints: int, *, load_encoder: bool = True) -> PoseNet:
    """A freshly initialised network.

    Args:
        config: the recipe's `[network]` table.
        joints: K.
        load_encoder: fetch the pre-trained encoder; not needed when a checkpoint follows.

    Raises:
        RecipeError: encoder weights or an ONNX file that are missing or do not fit.
    """
    mean, std = get_normalization(config)
    if config.mask:
        mean, std = (*mean, 0.0), (*std, _MASK_STD)
    normalise = Normalise(mean, std)
    if isinstance(config, HourglassConfig):
        return _build_hourglass(config, joints, normalise)
    if isinstance(config, OnnxConfig):
        return _build_onnx(config, joints, normalise)
    return _build_mobilepose(config, joints, normalise, load_encoder=load_encoder)


class _HourglassTrunk(nn.Module):
    def __init__(self, config: HourglassConfig, joints: int) -> None:
        super().__init__()
        self.stem = Stem(config.width)
        if config.mask:
            _widen_first_convolution(self.stem)
        self.shared = Stacks(config.width, joints, config.shared_stacks, feeds_on=True)

    def forward(self, image_BCHW: Tensor) -> BackboneOutputs:
        early = self.stem(image_BCHW)
        features, heatmaps = self.shared(early)
        return BackboneOutputs(features, early, heatmaps)


class _EncoderTrunk(nn.Module):
    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, image_BCHW: Tensor) -> BackboneOutputs:
        features = cast(Tensor, self.encoder(image_BCHW))
        return BackboneOutputs(features, features, [])


def _build_hourglass(config: HourglassConfig, joints: int, normalise: Normalise) -> PoseNet:
    branches = [HourglassBranch(config.width, joints, depth) for depth in config.branches]
    aggregation = FeatureAggregationUnit(
        config.aggregation, config.width, len(config.branches), joints
    )
    trunk = _HourglassTrunk(config, joints)
    return PoseNet(normalise, trunk, branches, aggregation, config.branch_dropout)


def _build_onnx(config: OnnxConfig, joints: int, normalise: Normalise) -> PoseNet:
    from okdhp_edge.network.onnx_network import build_trunk

    if not config.graph:
        raise RecipeError(f"network.file {config.file} does not exist", "set it to an ONNX file")
    trunk, channels = build_trunk(config.graph)
    if config.boxes:
        unused = FeatureAggregationUnit("mean", joints, 1, joints)
        return PoseNet(normalise, CandidateTrunk(trunk), [CandidateBranch()], unused)
    branches = [ConvolutionBranch(channels, joints, depth) for depth in config.branches]
    aggregation = FeatureAggregationUnit(config.aggregation, channels, len(branches), joints)
    return PoseNet(normalise, _EncoderTrunk(trunk), branches, aggregation, config.branch_dropout)


def _build_mobilepose(
    config: MobilePoseConfig, joints: int, normalise: Normalise, *, load_encoder: bool
) -> PoseNet:
    encoder = build_encoder(config.encoder, config.encoder_weights if load_encoder else None)
    if config.mask:
        _widen_first_convolution(encoder)
    if config.neck is not None:
        return _build_with_neck(config, encoder, joints, normalise)
    branches = [_build_decoder(config, encoder, joints, depth) for depth in config.branches]
    shared, channels = cast(nn.Module, encoder), encoder.channels
    if config.share_to is not None:
        shared, _ = encoder.split(config.share_to)
        if not len(shared):
            raise RecipeError(
                f"{config.encoder} has no layers that end at stride {config.share_to}",
                "give a larger network.share_to",
            )
        channels = count_output_channels(shared)
        for branch in branches:
            # A copy for each: they start alike, from the same pre-trained weights.
            branch.encoder = copy.deepcopy(encoder).split(config.share_to)[1]
    aggregation = FeatureAggregationUnit(config.aggregation, channels, len(config.branches), joints)
    return PoseNet(normalise, _EncoderTrunk(shared), branches, aggregation, config.branch_dropout)


def _build_with_neck(
    config: MobilePoseConfig, encoder: Encoder, joints: int, normalise: Normalise
) -> PoseNet:
    assert config.neck is not None
    widths = _choose_widths(config, encoder)
    if config.neck >= encoder.stride:
        raise RecipeError(
            f"network.neck = {config.neck} is not finer than the encoder's {encoder.stride}",
            "use a finer one, or none",
        )
    merged = (encoder.stride // config.neck).bit_length() - 1
    trunk = TopDownNeck(encoder, config.neck, widths[:merged])
    branches = [
        UpsampleDecoder(trunk.channels, widths[merged:], joints, depth, before=True)
        for depth in config.branches
    ]
    aggregation = FeatureAggregationUnit(
        config.aggregation, trunk.channels, len(config.branches), joints
    )
    return PoseNet(normalise, _EncoderTrunk(trunk), branches, aggregation, config.branch_dropout)


def _widen_first_convolution(module: nn.Module) -> None:
    """A fourth input channel whose weights begin at zero: training decides what it is worth."""
    first = next(m for m in module.modules() if isinstance(m, nn.Conv2d))
    first.weight = nn.Parameter(F.pad(first.weight.detach(), (0, 0, 0, 0, 0, 1)))
    first.in_channels += 1


def _build_decoder(config: MobilePoseConfig, encoder: Encoder, joints: int, depth: int) -> Decoder:
    upsamplings = (encoder.stride // config.stride).bit_length() - 1
    if config.decoder == "duc":
        return DucDecoder(encoder.channels, upsamplings, joints, depth)
    return UpsampleDecoder(encoder.channels, _choose_widths(config, encoder), joints, depth)


def _choose_widths(config: MobilePoseConfig, encoder: Encoder) -> tuple[int, ...]:
    """Of the upsampling stages. An encoder with a finer map needs fewer: they are taken from the
    fine end."""
    upsamplings = (encoder.stride // config.stride).bit_length() - 1
    widths = config.decoder_channels[max(0, len(config.decoder_channels) - upsamplings) :]
    if len(widths) < upsamplings:
        raise RecipeError(
            f"network.decoder_channels has {len(widths)} entries, {config.encoder} with heatmaps "
            f"at stride {config.stride} needs {upsamplings}",
            "give one for each",
        )
    return widths


def count_parameters(module: nn.Module) -> int:
    """Number of learned weights."""
    return sum(p.numel() for p in module.parameters())


def count_macs(module: nn.Module, *inputs: Tensor) -> int:
    """Multiply-accumulates of convolutions and linear layers in one forward pass."""
    from torch.utils.flop_counter import FlopCounterMode

    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(*inputs)
    return int(counter.get_total_flops()) // 2
