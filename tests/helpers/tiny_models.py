"""Recipes that train in seconds, built on the fly; no binary fixtures."""

from pathlib import Path

from okdhp_edge.recipe.recipe import Recipe

DATA = "synthetic:96"
DETECTOR_DATA = "synthetic:160"


def tiny_recipe(**changes: object) -> Recipe:
    """A two-branch hourglass of width 16 on 64x64 crops."""
    content: dict[str, object] = {
        "name": "tiny",
        "network": {
            "kind": "hourglass",
            "width": 16,
            "shared_stacks": 0,
            "branches": [1, 1],
            "aggregation": "depthwise",
        },
        "input": {"size": [64, 64]},
        "heatmap": {"hard_loss": "ce", "sigma": 1.0},
        "distillation": {"method": "okdhp", "ramp_epochs": 1},
        "optimizer": {"epochs": 2, "batch_size": 16, "lr": 3e-3},
    }
    return Recipe.model_validate({**content, **changes})


def write_tiny_recipe(folder: Path, extra: str = "") -> Path:
    """The same as a TOML file, for the CLI."""
    path = folder / "recipe.toml"
    path.write_text(
        'name = "tiny"\n'
        f"{extra}\n"
        '[network]\nkind = "hourglass"\nwidth = 16\nbranches = [1, 1]\n'
        "[input]\nsize = [64, 64]\n[heatmap]\nsigma = 1.0\n"
        "[optimizer]\nepochs = 1\nbatch_size = 16\n",
        encoding="utf-8",
    )
    return path


def detector_recipe(**changes: object) -> Recipe:
    """A two-branch person detector on 96x96 images."""
    content: dict[str, object] = {
        "kind": "detector",
        "name": "tiny-detector",
        "network": {
            "kind": "mobilepose", "encoder": "shufflenet_v2", "branches": [1, 1],
            "aggregation": "mean", "stride": 8, "neck": 8, "decoder_channels": [32, 32, 16],
        },
        "input": {"size": [96, 96]},
        "distillation": {"method": "okdhp", "ramp_epochs": 1},
        "augmentation": {"zoom": 1.3, "mosaic": 0.1, "stretch": 0.1},
        "optimizer": {"epochs": 12, "batch_size": 16, "lr": 4e-3},
    }  # fmt: skip
    return Recipe.model_validate({**content, **changes})
