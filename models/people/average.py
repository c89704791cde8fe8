"""Average the weights of two stages of one network (Wortsman et al., "Model soups", ICML 2022).

    python models/people/average.py lite-4.safetensors lite-5.safetensors --share 0.5 \\
        --out models/lite/weights.safetensors

The result has the description (recipe, skeleton, data) of the second file.
"""

import argparse
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)
    parser.add_argument("--share", type=float, default=0.5, help="of the second file's weights")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    first, second = load_file(options.first), load_file(options.second)
    mixed = {
        name: torch.lerp(tensor.float(), second[name].float(), options.share).to(tensor.dtype)
        if tensor.is_floating_point() else second[name]
        for name, tensor in first.items()
    }  # fmt: skip
    with safe_open(options.second, "pt") as file:
        save_file(mixed, options.out, metadata=file.metadata())


if __name__ == "__main__":
    main()
