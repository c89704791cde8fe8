"""A network that says what it is told to, and batches to go with it."""

import numpy as np
import torch
from torch import nn

from okdhp_edge.network.branches import BranchOutputs
from okdhp_edge.recipe.recipe import Recipe
from okdhp_edge.train.dataset import Batch
from tests.helpers.tiny_models import tiny_recipe

PERSONS, JOINTS, SIDE = 2, 14, 6


class FixedNet(nn.Module):
    """Random heatmaps, as leaves that gradients can be asked for; the ensemble is one of them."""

    channels = 3

    def __init__(self, own=(1, 2), shared=0, crops=PERSONS, seed=0):
        super().__init__()
        torch.manual_seed(seed)

        def leaf(*shape):
            return torch.randn(*shape, requires_grad=True)

        maps = (JOINTS, SIDE, SIDE)
        self.outputs = BranchOutputs(
            shared=[leaf(crops, *maps) for _ in range(shared)],
            branches=[leaf(crops, depth, *maps) for depth in own],
            ensemble=leaf(crops, *maps),
            backbone_features=leaf(crops, 8, 3, 3),
            branch_features=[leaf(crops, 5, SIDE, SIDE) for _ in own],
        )
        self.seen = None

    def probe(self, size):
        return self.outputs

    def forward(self, image):
        self.seen = image
        if len(image) == len(self.outputs.ensemble):
            return self.outputs
        return BranchOutputs(*(
            [t[: len(image)] for t in part] if isinstance(part, list) else part[: len(image)]
            for part in self.outputs
        ))  # fmt: skip


def made_batch(crops=PERSONS, seed=0, channels=3):
    rng = np.random.default_rng(seed)
    weight = torch.tensor(rng.integers(0, 2, (crops, JOINTS)), dtype=torch.float32)
    weight[:, 0] = 1
    return Batch(
        image=torch.tensor(rng.integers(0, 256, (crops, 64, 64, channels)), dtype=torch.uint8),
        xy=torch.tensor(rng.uniform(0, SIDE - 1, (crops, JOINTS, 2)), dtype=torch.float32),
        weight=weight,
        absent=torch.zeros_like(weight),
        labelled=torch.ones(crops, dtype=torch.bool),
        heatmap_from_frame=torch.eye(3)[:2].repeat(crops, 1, 1),
        mirrored=torch.zeros(crops, dtype=torch.bool),
        large=torch.zeros(crops, 0, dtype=torch.uint8),
    )


def recipe_with(distillation: dict[str, object], **changes: object) -> Recipe:
    return tiny_recipe(distillation=distillation, **changes)
