"""MobilePose decoders: from the encoder's coarse map to heatmaps at a quarter of the input."""

from typing import cast

from torch import Tensor, nn

from okdhp_edge.network.branches import Branch, BranchStacks


class Decoder(Branch):
    """The branch's own part of the encoder, if any, then stages and a head: a single stack."""

    def __init__(self, stages: list[nn.Module], head: nn.Conv2d) -> None:
        super().__init__()
        self.encoder: nn.Module = nn.Identity()
        """The part of the encoder that this branch does not share."""
        self.stages = nn.Sequential(*stages)
        self.head = head

    def forward(self, features_BCHW: Tensor) -> BranchStacks:
        """One stack of (B, K, h, w) heatmaps from trunk features."""
        features = self.stages(self.encoder(features_BCHW))
        return BranchStacks(self.head(features).unsqueeze(1), features)

    def last(self, features_BCHW: Tensor) -> Tensor:
        """(B, K, H, W)."""
        return cast(Tensor, self.head(self.stages(self.encoder(features_BCHW))))


class UpsampleDecoder(Decoder):
    """Per stage nearest x2, then `depth` plain 3x3 convolutions: nothing INT8 must leave float.

    Args:
        before: whether as many convolutions come before the first stage, as after a neck's sum.
    """

    def __init__(
        self,
        channels_in: int,
        channels: tuple[int, ...],
        joints: int,
        depth: int,
        *,
        before: bool = False,
    ) -> None:
        stages: list[nn.Module] = []
        if before:
            stages.append(nn.ReLU())
            for _ in range(depth):
                stages += conv_bn_relu(channels_in, channels_in)
        for width in channels:
            stages.append(nn.Upsample(scale_factor=2.0))
            for _ in range(depth):
                stages += conv_bn_relu(channels_in, width)
                channels_in = width
        super().__init__(stages, nn.Conv2d(channels_in, joints, 1))


class DucDecoder(Decoder):
    """MobilePose's dense upsampling: 1x1 to 256, then blocks of 3x3, BN, ReLU, PixelShuffle."""

    def __init__(self, channels_in: int, upsamplings: int, joints: int, depth: int) -> None:
        width = 256
        stages: list[nn.Module] = [nn.Conv2d(channels_in, width, 1, bias=False)]
        for _ in range(upsamplings):
            for _ in range(depth - 1):
                stages += conv_bn_relu(width, width)
            stages += [*conv_bn_relu(width, 2 * width), nn.PixelShuffle(2)]
            width //= 2
        super().__init__(stages, nn.Conv2d(width, joints, 1, bias=False))


class ConvolutionBranch(Decoder):
    """A branch after the last features: `depth` 3x3 convolutions, the last of them the head.

    Those before the head begin as identities, so that every branch begins as the file's network.
    """

    def __init__(self, channels: int, joints: int, depth: int) -> None:
        stages: list[nn.Module] = []
        for _ in range(depth - 1):
            identity = nn.Conv2d(channels, channels, 3, padding=1)
            nn.init.dirac_(identity.weight)
            nn.init.zeros_(identity.bias)  # type: ignore[arg-type]
            stages += [identity, nn.ReLU()]
        super().__init__(stages, nn.Conv2d(channels, joints, 3, padding=1))


def conv_bn_relu(channels_in: int, channels_out: int) -> list[nn.Module]:
    """A 3x3 convolution without bias, batch norm, ReLU."""
    return [
        nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(),
    ]
