"""What INT8 costs in accuracy: every calibrator, bias correction, and training with quantization.

    python benchmarks/accuracy/quantization.py models/lite/best.safetensors --data lspet:PATH \
        --epochs 3 [--train-split 'train[:3000]'] [--profiles generic]

For each profile the branch is quantized in each way; the way is chosen on `val`, the difference to
the float branch is reported on `test`, paired over persons, with its 95 % interval. The result goes
to `results/quantization-MODEL.json`.
"""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from okdhp_edge.artifacts.card import read_card
from okdhp_edge.backends.base import BackendConfig, predict_with
from okdhp_edge.backends.registry import get_profile, list_profiles, open_backend
from okdhp_edge.data.load import load, split_off_suffix
from okdhp_edge.data.sample import PoseDataset, list_kinds
from okdhp_edge.evaluation.evaluate import predict_joints
from okdhp_edge.evaluation.paired import Hits, compute_gain, count_hits
from okdhp_edge.export.export_branch import ExportOptions, export_branch
from okdhp_edge.quantize.quantize_model import QuantizeOptions, prepare_quantization_inputs
from okdhp_edge.quantize.ranges.calibrators import METHODS
from okdhp_edge.quantize.search.inputs import QuantizationInputs
from okdhp_edge.quantize.search.plan import LEARNED_CALIBRATOR, Plan
from okdhp_edge.quantize.search.verify import verify
from okdhp_edge.quantize.search.write import write_artifact
from okdhp_edge.quantize_with_qat import make_qat_recipe
from okdhp_edge.recipe.checkpoint import read_info
from okdhp_edge.recipe.recipe import Recipe
from okdhp_edge.system.files import write_text
from okdhp_edge.system.hardware import describe_machine
from okdhp_edge.train.loop import train
from okdhp_edge.train.setup import TrainingOptions

RESULTS = Path(__file__).parent.parent / "results"


def main(
    checkpoint: Path,
    data: Annotated[str, typer.Option(help="KIND:PATH")],
    calibration: Annotated[str | None, typer.Option()] = None,
    epochs: Annotated[int, typer.Option(help="Of training with quantization; 0: none.")] = 3,
    train_split: Annotated[str, typer.Option(help="What is trained on.")] = "train",
    profiles: Annotated[str, typer.Option(help="Comma-separated.")] = ",".join(list_profiles()),
    trained: Annotated[str, typer.Option(help="Profiles that are trained for.")] = "generic",
    calibrators: Annotated[str, typer.Option(help="Comma-separated.")] = ",".join(METHODS),
    runs: Annotated[Path, typer.Option()] = Path("runs/quantization"),
) -> None:
    """Quantize in every way and evaluate."""
    facts = read_info(checkpoint)
    folder = runs / facts.recipe.name
    fp32 = export_branch(checkpoint, ExportOptions(out=folder, data=data))
    options = QuantizeOptions(data=data, calibration=calibration)
    inputs, test = prepare_quantization_inputs(fp32, options), load(data, "test")
    test = test.with_skeleton(inputs.card.skeleton.skeleton())
    reference = _hits(fp32, "onnxruntime", test)
    rows = []
    for name in profiles.split(","):
        made = list(_ptq(name, calibrators.split(","), inputs, folder))
        if epochs and name in trained.split(","):
            recipe = make_qat_recipe(facts.recipe, checkpoint, read_card(fp32), name, epochs)
            recipe = recipe.model_copy(update={"train_split": train_split})
            made.append(_qat(name, recipe, folder, options))
        for how, path, val in made:
            against = compute_gain(_hits(path, get_profile(name).runtime, test), reference)
            drop = round(inputs.float_metric - val, 2)
            rows.append({
                "profile": name, "how": how, "val_drop": drop,
                "test_gain": round(against.value, 2), "low": round(against.low, 2),
                "high": round(against.high, 2),
            })  # fmt: skip
            print(f"{name:12} {how:34} val {-drop:+.2f}  test {against}", flush=True)
    suffix = split_off_suffix(data)[1]
    content = {
        "command": "python benchmarks/accuracy/quantization.py CHECKPOINT "
        f"--data {list_kinds(data)}:PATH{'@' + suffix if suffix else ''} "
        f"--calibration {calibration} --epochs {epochs} --train-split '{train_split}' "
        f"--profiles {profiles} --trained {trained} --calibrators {calibrators}",
        "model": facts.recipe.name, "float_test": reference.pck,
        "persons": int((reference.counted > 0).sum()), "qat_epochs": epochs,
        "qat_split": train_split,
        "machine": describe_machine(), "rows": rows,
    }  # fmt: skip
    write_text(
        RESULTS / f"quantization-{facts.recipe.name}.json", json.dumps(content, indent=1) + "\n"
    )


Made = tuple[str, Path, float]
"""How, where, and the metric on `val`."""


def _ptq(name: str, methods: list[str], inputs: QuantizationInputs, folder: Path) -> list[Made]:
    found = [_made(Plan(method), name, inputs, folder) for method in methods]
    best = max(found, key=lambda made: made[2])[0]
    return [*found, _made(Plan(best, bias_correction=True), name, inputs, folder)]


def _made(plan: Plan, name: str, inputs: QuantizationInputs, folder: Path) -> Made:
    path = folder / "int8" / name / str(plan).replace(", ", "-").replace(" ", "-")
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    write_artifact(plan, get_profile(name), inputs, path)
    return str(plan), path, verify(path, get_profile(name).runtime, inputs).value


def _qat(name: str, recipe: Recipe, folder: Path, options: QuantizeOptions) -> Made:
    out = folder / f"qat-{name}"
    best = train(recipe, options.data, TrainingOptions(out=out, resume=True))
    fp32 = export_branch(best, ExportOptions(out=out, data=options.data))
    inputs = replace(prepare_quantization_inputs(fp32, options), reference_sha256="")
    _, path, value = _made(Plan(LEARNED_CALIBRATOR), name, inputs, out)
    return f"training with quantization, {recipe.optimizer.epochs} epochs", path, value


def _hits(folder: Path, backend: str, poses: PoseDataset) -> Hits:
    card: Any = read_card(folder)
    with open_backend(backend, BackendConfig(folder, card, card.precision)) as loaded:
        found = predict_joints(poses, card.input, card.decoder, predict_with(loaded))
    return count_hits(poses, found["model"])


if __name__ == "__main__":
    typer.run(main)
