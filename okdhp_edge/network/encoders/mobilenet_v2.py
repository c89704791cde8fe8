"""MobileNetV2 x1.0 (Sandler et al., CVPR 2018), named as torchvision's state dict."""

from typing import cast

from torch import Tensor, nn

from okdhp_edge.network.encoders.base import Encoder, Layers, conv_bn_relu

# expansion, width, repeats, stride
_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


class _InvertedResidual(nn.Module):
    def __init__(self, width_in: int, width: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = width_in * expansion
        layers: list[nn.Module] = []
        if expansion != 1:
            layers.append(conv_bn_relu(width_in, inner, 1, activation=nn.ReLU6))
        layers += [
            conv_bn_relu(inner, inner, 3, stride, groups=inner, activation=nn.ReLU6),
            nn.Conv2d(inner, width, 1, bias=False),
            nn.BatchNorm2d(width),
        ]
        self.conv = nn.Sequential(*layers)
        self.residual = stride == 1 and width_in == width

    def forward(self, x_BCHW: Tensor) -> Tensor:
        y = self.conv(x_BCHW)
        return cast(Tensor, x_BCHW + y if self.residual else y)


class _Layers(Layers):
    def __init__(self) -> None:
        super().__init__()
        features: list[nn.Module] = [conv_bn_relu(3, 32, 3, 2, activation=nn.ReLU6)]
        width_in = 32
        for expansion, width, repeats, stride in _STAGES:
            for i in range(repeats):
                step = stride if i == 0 else 1
                features.append(_InvertedResidual(width_in, width, step, expansion))
                width_in = width
        features.append(conv_bn_relu(width_in, 1280, 1, activation=nn.ReLU6))
        self.features = nn.Sequential(*features)


class MobileNetV2(Encoder):
    """With its last 1280-wide convolution, as MobilePose has it."""

    layers_type, channels, stride = _Layers, 1280, 32
    first_conv, ignored = "features.0.0.weight", ("classifier",)
