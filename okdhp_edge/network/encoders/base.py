"""What every encoder is: layers with a known stride and width."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

_PROBE_SIDE_PX = 64


class Layers(nn.Module):
    """An encoder's layers under their published names."""

    features: nn.Sequential

    def steps(self) -> list[nn.Module]:
        """The same layers as a chain: applied in turn they are the encoder."""
        return list(self.features)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """The features of the last step."""
        for step in self.steps():
            x_BCHW = step(x_BCHW)
        return x_BCHW


class Encoder(nn.Module):
    """Normalised BGR image (B, 3, H, W) to features (B, channels, H/stride, W/stride).

    State dict names below `layers` follow the published weights of each family, so that those
    load as they are. Input channels are BGR: `first_conv` names the weight to turn round when
    weights trained on RGB are loaded. `ignored` are prefixes in the published state dict that the
    encoder leaves out (classifiers).
    """

    layers_type: type[Layers]
    channels: int
    stride: int
    first_conv: str
    ignored: tuple[str, ...]

    def __init__(self) -> None:
        super().__init__()
        self.layers = self.layers_type()

    def forward(self, image_BCHW: Tensor) -> Tensor:
        """Features (B, C, H/stride, W/stride) of normalised images."""
        return cast(Tensor, self.layers(image_BCHW))

    def split(self, stride: int) -> tuple[nn.Sequential, nn.Sequential]:
        """The steps up to and including `stride`, and the coarser ones."""
        steps = self.layers.steps()
        shared = len(select_up_to_stride(steps, stride))
        return nn.Sequential(*steps[:shared]), nn.Sequential(*steps[shared:])


def select_up_to_stride(steps: Sequence[nn.Module], stride: int) -> list[nn.Module]:
    """Of a chain of layers those whose maps are not coarser than `stride`."""
    shared = 0
    x = _make_probe_input(nn.ModuleList(steps))
    for number, step in enumerate(steps, start=1):
        x = _run_probe(step, x)
        if _PROBE_SIDE_PX // x.shape[-1] <= stride:
            shared = number
    return list(steps[:shared])


def count_output_channels(steps: nn.Module) -> int:
    """Channels that a chain of encoder steps gives."""
    return _run_probe(steps, _make_probe_input(steps)).shape[1]


def _make_probe_input(module: nn.Module) -> Tensor:
    """A black image with the channels that `module` begins with."""
    first = next(m for m in module.modules() if isinstance(m, nn.Conv2d))
    side = _PROBE_SIDE_PX
    return torch.zeros(1, first.in_channels, side, side, device=first.weight.device)


def _run_probe(step: nn.Module, x: Tensor) -> Tensor:
    """What `step` makes of `x`, without a trace in its batch norms, or in which of them train."""
    modes = {module: module.training for module in step.modules()}
    with torch.no_grad():
        y = step.eval()(x)
    for module, training in modes.items():
        module.training = training
    return cast(Tensor, y)


def conv_bn_relu(
    channels_in: int,
    channels_out: int,
    kernel: int = 3,
    stride: int = 1,
    groups: int = 1,
    activation: type[nn.Module] = nn.ReLU,
) -> nn.Sequential:
    """Convolution without bias, batch norm, activation."""
    padding = (kernel - 1) // 2
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, kernel, stride, padding, groups=groups, bias=False),
        nn.BatchNorm2d(channels_out),
        activation(inplace=True),
    )
