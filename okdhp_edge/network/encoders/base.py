"""What every encoder is: layers with a known stride and width."""

from typing import cast

from torch import Tensor, nn


class Encoder(nn.Module):
    """Normalised BGR picture (B, 3, H, W) to features (B, channels, H/stride, W/stride).

    State dict names below `layers` follow the published weights of each family, so that those
    load as they are. Input channels are BGR: `first_conv` names the weight to turn round when
    weights trained on RGB are loaded.
    """

    channels: int
    stride: int
    first_conv: str
    ignored: tuple[str, ...]
    """Prefixes in the published state dict that the encoder leaves out (classifiers)."""

    def __init__(self, layers: nn.Module) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, image_BCHW: Tensor) -> Tensor:
        return cast(Tensor, self.layers(image_BCHW))


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
