"""A small pose network as others publish them: shuffles, splits, fixed sizes, its own grid."""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from okdhp_edge.pose.skeleton import LSP14

SIDE, WIDTH = 64, 8
TOML = (
    'joints = "lsp14"\nsize = [64, 64]\ncolour = "RGB"\nmean = [120, 110, 100]\n'
    'std = [60, 60, 60]\nsigma = 1.5\ngrid = "origin"\n'
)


class ForeignNetwork(nn.Module):
    """Heatmaps at a quarter of the input."""

    def __init__(self, joints: int = len(LSP14)) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, WIDTH, 3, 2, 1), nn.BatchNorm2d(WIDTH), nn.ReLU(),
            nn.Conv2d(WIDTH, WIDTH, 3, 2, 1), nn.ReLU(),
        )  # fmt: skip
        self.second = nn.Conv2d(WIDTH // 2, WIDTH // 2, 1)
        self.down = nn.Conv2d(WIDTH, WIDTH, 3, 2, 1, groups=WIDTH)
        self.head = nn.Conv2d(WIDTH, joints, 1)

    def forward(self, image: Tensor) -> Tensor:
        features = self.stem(image)
        kept, changed = features.split(WIDTH // 2, dim=1)
        joined = torch.cat([kept, F.relu(self.second(changed))], 1)
        b, c, h, w = (int(n) for n in joined.shape)
        mixed = joined.reshape(b, 2, c // 2, h, w).transpose(1, 2).reshape(b, c, h, w)
        up = F.interpolate(self.down(mixed), (h, w), mode="nearest")
        smooth = F.interpolate(self.down(mixed), (h, w), mode="bilinear", align_corners=True)
        return self.head(F.relu(mixed + up + smooth))


def write_foreign_network(path: Path, toml: str = TOML, joints: int = len(LSP14)) -> Path:
    """Its ONNX file, with the TOML file next to it."""
    torch.manual_seed(0)
    torch.onnx.export(
        ForeignNetwork(joints).eval(), (torch.zeros(1, 3, SIDE, SIDE),), path, dynamo=True,
        input_names=["x"], output_names=["maps"], opset_version=18, external_data=False,
    )  # fmt: skip
    path.with_suffix(".toml").write_text(toml, encoding="utf-8")
    return path
