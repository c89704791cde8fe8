"""What going on from `lite` brings a small set, against beginning from ImageNet at equal cost.

    python benchmarks/accuracy/finetuning.py --lspet PATH [--persons 20 100] [--seeds 0 1]

Of 500 persons and more the first seed alone.

The first persons of LSPET's `train` with its 14 joints, of which neck and head top are not
`lite`'s; it has seen these pictures with other labels, which flatters it. Both starts take the same
steps: the schedule of `okdhp-edge train --start lite`; from ImageNet everything learns, at the
rate that is best there. Selected on `val`, told on `test`. The result goes to
`results/finetuning.json`.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from okdhp_edge.data.load import load
from okdhp_edge.evaluation.evaluate import evaluate
from okdhp_edge.recipe.recipe import Recipe
from okdhp_edge.recipe.tables import FreezeTable
from okdhp_edge.system.files import write_text
from okdhp_edge.system.hardware import describe_machine
from okdhp_edge.train.finetune import make_finetuning_recipe
from okdhp_edge.train.loop import train
from okdhp_edge.train.open_teacher import load_checkpoint
from okdhp_edge.train.setup import TrainingOptions
from okdhp_edge.train.validate import make_predictor

RESULT = Path(__file__).parent.parent / "results" / "finetuning.json"
METRIC = "pck@0.2"
FROM_IMAGENET_LR = 2e-3
MANY = 500


def starts(persons: int) -> dict[str, Recipe]:
    tuned = make_finetuning_recipe("lite", persons, METRIC)
    optimizer = tuned.optimizer.model_copy(update={"lr": FROM_IMAGENET_LR, "patience": None})
    network = tuned.network.model_copy(update={"encoder_weights": "imagenet"})
    anew = {"start": None, "freeze": FreezeTable(), "optimizer": optimizer, "network": network}
    return {"lite": tuned, "imagenet": tuned.model_copy(update=anew)}


def trial(recipe: Recipe, persons: int, seed: int, lspet: Path, precision: str) -> dict[str, Any]:
    """One run and its accuracy on `test`."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        options = TrainingOptions(
            out=Path(folder) / "m", device="cpu", val_data=f"lspet:{lspet}@val[:60]",
            precision=precision,
        )  # fmt: skip
        source = f"lspet:{lspet}@train[:{persons}]"
        best = train(recipe.changed(seed=seed), source, options)
        net, facts = load_checkpoint(best)
    test = load(f"lspet:{lspet}", "test").with_skeleton(facts.skeleton.skeleton())
    found = evaluate(
        test, facts.recipe.input_spec(), facts.recipe.decoder_spec(),
        make_predictor(net, torch.device("cpu")), METRIC,
    )[f"branch{facts.best_branch}"]  # fmt: skip
    return {
        "value": round(found.value, 2), "low": round(found.low, 2), "high": round(found.high, 2),
        "epochs": facts.epochs_done, "seconds": round(time.monotonic() - began),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lspet", type=Path, required=True)
    parser.add_argument("--persons", type=int, nargs="+", default=[20, 100, 500])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--precision", default="32-true")
    asked = parser.parse_args()
    rows = []
    for persons in asked.persons:
        for start, recipe in starts(persons).items():
            for seed in asked.seeds if persons < MANY else asked.seeds[:1]:
                row = {"persons": persons, "start": start, "seed": seed}
                rows.append(row | trial(recipe, persons, seed, asked.lspet, asked.precision))
                print(rows[-1], flush=True)
                write(asked, rows)


def write(asked: argparse.Namespace, rows: list[dict[str, Any]]) -> None:
    """After each row, so that a study that is broken off has what it measured."""
    persons = sorted({row["persons"] for row in rows})
    record = {
        "command": f"python benchmarks/accuracy/finetuning.py --lspet PATH --persons "
        f"{' '.join(map(str, persons))} --seeds {' '.join(map(str, asked.seeds))} "
        f"--precision {asked.precision}",
        "metric": METRIC, "machine": describe_machine(), "rows": rows,
    }  # fmt: skip
    write_text(RESULT, json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
