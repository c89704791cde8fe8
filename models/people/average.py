"""The mean of the weights of two passes over different data ("Model soups", Wortsman et al., ICML
2022), in half precision, with the score that it has.

    python models/people/average.py FIRST.safetensors SECOND.safetensors --data coco:PATH@all \
        --out weights.safetensors
"""

import argparse
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from okdhp_edge.data.load import load
from okdhp_edge.recipe import checkpoint
from okdhp_edge.train.teacher import load_checkpoint
from okdhp_edge.train.validate import validate


def average(first: Path, second: Path, data: str, out: Path) -> float:
    """Write the mean; returns its score on `data`."""
    one, other = load_file(first), load_file(second)
    mean = {
        name: torch.lerp(one[name].float(), values.float(), 0.5)
        if values.is_floating_point() else values
        for name, values in other.items()
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "mean.safetensors"
        _save(mean, checkpoint.read_info(second), whole)
        net, info = load_checkpoint(whole)
        recipe = info.recipe
        poses = load(data, "all").with_skeleton(info.skeleton.skeleton())
        scores = validate(
            net, poses, recipe.input_spec(), recipe.decoder_spec(), info.metric, lambda _: None
        ).scores
        best = scores[f"branch{info.best_branch}"]
        _save(mean, info.model_copy(update={"scores": scores, "best_score": best}), whole)
        checkpoint.save_half(whole, out)
    return best


def _save(tensors: dict[str, torch.Tensor], info: checkpoint.CheckpointInfo, path: Path) -> None:
    save_file(tensors, path, metadata={"okdhp_edge": info.model_dump_json()})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    print(average(options.first, options.second, options.data, options.out))


if __name__ == "__main__":
    main()
