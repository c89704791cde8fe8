"""ResNet-18 (He et al., CVPR 2016), named as torchvision's state dict."""

from torch import Tensor, nn
from torch.nn import functional as F

from okdhp_edge.network.encoders.base import Encoder, Layers


class _BasicBlock(nn.Module):
    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = (
            nn.Sequential(nn.Conv2d(width_in, width, 1, stride, bias=False), nn.BatchNorm2d(width))
            if stride != 1 or width_in != width
            else nn.Identity()
        )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x_BCHW)))
        return F.relu(self.bn2(self.conv2(y)) + self.downsample(x_BCHW))


class _Layers(Layers):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = _make_stage(64, 64, 1)
        self.layer2 = _make_stage(64, 128, 2)
        self.layer3 = _make_stage(128, 256, 2)
        self.layer4 = _make_stage(256, 512, 2)

    def steps(self) -> list[nn.Module]:
        stem = nn.Sequential(self.conv1, self.bn1, nn.ReLU(), nn.MaxPool2d(3, 2, 1))
        return [stem, self.layer1, self.layer2, self.layer3, self.layer4]


def _make_stage(width_in: int, width: int, stride: int) -> nn.Sequential:
    return nn.Sequential(_BasicBlock(width_in, width, stride), _BasicBlock(width, width, 1))


class ResNet18(Encoder):
    """Without pooling and classifier."""

    layers_type, channels, stride = _Layers, 512, 32
    first_conv, ignored = "conv1.weight", ("fc.",)
