"""A small person detector as others publish them: two levels, decoded boxes, HardSwish in parts."""

from pathlib import Path

import torch
from torch import Tensor, nn

SIDE = 96
TOML = (
    'boxes = "xyxy"\nobjectness = false\ncolour = "RGB"\nmean = [120, 110, 100]\n'
    "std = [60, 60, 60]\n"
)


class ForeignDetector(nn.Module):
    """(1, N, 5) left, top, right, bottom in pixels of the input, and a score."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 8, 1), nn.Hardswish())
        self.down = nn.Sequential(nn.Conv2d(8, 8, 3, 2, 1), nn.Hardswish())
        self.heads = nn.ModuleList(nn.Conv2d(8, 5, 1) for _ in range(2))

    def forward(self, image: Tensor) -> Tensor:
        fine = self.stem(image)
        levels = zip((fine, self.down(fine)), self.heads, (8, 16), strict=True)
        return torch.cat([_decode(head(maps), stride) for maps, head, stride in levels], 1)


def _decode(maps: Tensor, stride: int) -> Tensor:
    side = SIDE // stride
    rows = maps.permute(0, 2, 3, 1).reshape(1, side * side, 5).sigmoid()
    before, after, score = rows.split((2, 2, 1), -1)
    at = (torch.arange(side) + 0.5) * stride
    centers = torch.stack(torch.meshgrid(at, at, indexing="xy"), -1).reshape(-1, 2)
    reach = 2 * stride
    return torch.cat([centers - before * reach, centers + after * reach, score], -1)


def write_foreign_detector(path: Path, toml: str = TOML) -> Path:
    """Its ONNX file, with the TOML file next to it."""
    torch.manual_seed(0)
    torch.onnx.export(
        ForeignDetector().eval(), (torch.zeros(1, 3, SIDE, SIDE),), path, dynamo=True,
        input_names=["x"], output_names=["boxes"], opset_version=18, external_data=False,
    )  # fmt: skip
    path.with_suffix(".toml").write_text(toml, encoding="utf-8")
    return path
