"""ShuffleNetV2 x1.0 (Ma et al., ECCV 2018), named as torchvision's state dict."""

import torch
from torch import Tensor, nn

from okdhp_edge.network.encoders.base import Encoder, Layers, conv_bn_relu

# width, repeats
_STAGES = ((116, 4), (232, 8), (464, 4))


def _make_depthwise(width: int, stride: int) -> list[nn.Module]:
    conv = nn.Conv2d(width, width, 3, stride, 1, groups=width, bias=False)
    return [conv, nn.BatchNorm2d(width)]


class _Unit(nn.Module):
    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        half = width // 2
        self.halves_input = stride == 1
        self.branch1 = (
            nn.Sequential()
            if self.halves_input
            else nn.Sequential(*_make_depthwise(width_in, stride), *conv_bn_relu(width_in, half, 1))
        )
        self.branch2 = nn.Sequential(
            *conv_bn_relu(half if self.halves_input else width_in, half, 1),
            *_make_depthwise(half, stride),
            *conv_bn_relu(half, half, 1),
        )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        if self.halves_input:
            kept, worked = x_BCHW.chunk(2, dim=1)
        else:
            kept = worked = x_BCHW
        y = torch.cat([self.branch1(kept), self.branch2(worked)], dim=1)
        channels, height, width = y.shape[1:]
        # Not the batch: a runtime may give the exported file another one.
        shuffled = y.view(-1, 2, channels // 2, height, width).transpose(1, 2)
        return shuffled.contiguous().view(-1, channels, height, width)


class _Layers(Layers):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = conv_bn_relu(3, 24, 3, 2)
        width_in = 24
        for number, (width, repeats) in enumerate(_STAGES, start=2):
            units = [_Unit(width_in, width, 2)]
            units += [_Unit(width, width, 1) for _ in range(repeats - 1)]
            self.add_module(f"stage{number}", nn.Sequential(*units))
            width_in = width
        self.conv5 = conv_bn_relu(width_in, 1024, 1)

    def steps(self) -> list[nn.Module]:
        stages = [self.get_submodule(f"stage{number}") for number in range(2, 2 + len(_STAGES))]
        return [self.conv1, nn.MaxPool2d(3, 2, 1), *stages, self.conv5]


class ShuffleNetV2(Encoder):
    """With its last 1024-wide convolution, as MobilePose has it."""

    layers_type, channels, stride = _Layers, 1024, 32
    first_conv, ignored = "conv1.0.weight", ("fc.",)
