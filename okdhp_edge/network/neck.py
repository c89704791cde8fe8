"""A feature pyramid's top-down path: coarse maps, doubled, meet the encoder's finer ones."""

from torch import Tensor, nn
from torch.nn import functional as F

from okdhp_edge.network.decoder import conv_bn_relu
from okdhp_edge.network.encoders import Encoder, count_output_channels


class TopDownNeck(nn.Module):
    """The encoder and the path back up to `stride` (Lin et al., "Feature Pyramid Networks", CVPR
    2017, figure 3).

    At each level a 1x1 of the coarser map, doubled by nearest neighbours, and a 1x1 of the
    encoder's own map are added; between levels a 3x3 follows. What is returned is the last sum.

    Args:
        encoder: is taken apart; it cannot be used alone afterwards.
        stride: of the map that is returned.
        channels: width of each level, the coarsest first.
    """

    def __init__(self, encoder: Encoder, stride: int, channels: tuple[int, ...]) -> None:
        super().__init__()
        self.channels = channels[-1]
        rest: nn.Sequential = nn.Sequential(*encoder.layers.steps())
        levels: list[nn.Module] = []
        widths: list[int] = []
        at = stride
        while at < encoder.stride:
            fine, _ = encoder.split(at)
            levels.append(rest[sum(map(len, levels)) : len(fine)])  # type: ignore[arg-type]
            widths.append(count_output_channels(fine))
            at *= 2
        levels.append(rest[sum(map(len, levels)) :])  # type: ignore[arg-type]
        self.levels = nn.ModuleList(levels)
        coarser = [encoder.channels, *channels[:-1]]
        self.down = nn.ModuleList(_make_unit(a, b) for a, b in zip(coarser, channels, strict=True))
        self.across = nn.ModuleList(
            _make_unit(a, b) for a, b in zip(reversed(widths), channels, strict=True)
        )
        self.between = nn.ModuleList(
            nn.Sequential(nn.ReLU(), *conv_bn_relu(width, width)) for width in channels[:-1]
        )

    def forward(self, image_BCHW: Tensor) -> Tensor:
        """(B, channels, H / stride, W / stride)."""
        maps: list[Tensor] = []
        x = image_BCHW
        for level in self.levels:
            x = level(x)
            maps.append(x)
        x = maps.pop()
        last = len(self.down) - 1
        for number, (down, across) in enumerate(zip(self.down, self.across, strict=True)):
            fine = maps.pop()
            x = _upsample(down(x), fine) + across(fine)
            if number < last:
                x = self.between[number](x)
        return x


def _upsample(coarse_BCHW: Tensor, fine_BCHW: Tensor) -> Tensor:
    """Each cell twice along both axes, without the last one of an odd axis of the finer map."""
    height, width = fine_BCHW.shape[2:]
    doubled = F.interpolate(coarse_BCHW, scale_factor=2.0, mode="nearest")
    if doubled.shape[2:] == (height, width):
        return doubled
    return doubled[:, :, :height, :width]


def _make_unit(channels_in: int, channels_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 1, bias=False), nn.BatchNorm2d(channels_out)
    )
