"""SqueezeNet 1.1 (Iandola et al., 2016), named as torchvision's state dict."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from okdhp_edge.network.encoders.base import Encoder, Layers


class _Fire(nn.Module):
    def __init__(self, width_in: int, squeezed: int, expanded: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(width_in, squeezed, 1)
        self.expand1x1 = nn.Conv2d(squeezed, expanded, 1)
        self.expand3x3 = nn.Conv2d(squeezed, expanded, 3, padding=1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        x = F.relu(self.squeeze(x_BCHW))
        return torch.cat([F.relu(self.expand1x1(x)), F.relu(self.expand3x3(x))], dim=1)


class _Layers(Layers):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            # torchvision pads nothing here and rounds up; padding keeps the map at exactly 1/16.
            nn.Conv2d(3, 64, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2, padding=1),
            _Fire(64, 16, 64),
            _Fire(128, 16, 64),
            nn.MaxPool2d(3, stride=2, padding=1),
            _Fire(128, 32, 128),
            _Fire(256, 32, 128),
            nn.MaxPool2d(3, stride=2, padding=1),
            _Fire(256, 48, 192),
            _Fire(384, 48, 192),
            _Fire(384, 64, 256),
            _Fire(512, 64, 256),
        )


class SqueezeNet11(Encoder):
    """Without the classifier; its map is at stride 16."""

    layers_type, channels, stride = _Layers, 512, 16
    first_conv, ignored = "features.0.weight", ("classifier",)
