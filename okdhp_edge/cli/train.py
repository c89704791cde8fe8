"""`okdhp-edge train`."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from okdhp_edge.cli.console import handle_errors, print_json, progress, say
from okdhp_edge.errors import OkdhpError

if TYPE_CHECKING:
    from okdhp_edge.recipe.recipe import Recipe


@handle_errors
def train(
    recipe: Annotated[
        str | None,
        typer.Option(
            help="TOML file, or the name of a shipped recipe: demo, lite, full, large, person, "
            "paper/..., lab/... Default: demo, on synthetic people."
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(help="lspet:DIR, coco:PATH, yolo:PATH, mpii:PATH or synthetic[:COUNT]."),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            help="Pretrained weights to fine-tune: lite, full, large, or a checkpoint. Without "
            "--recipe, the schedule depends on the size of the data set."
        ),
    ] = None,
    val_data: Annotated[
        str | None,
        typer.Option(help="KIND:PATH\\[@SPLIT] to validate on. Default: the val split of --data."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Output folder. Default: models/<recipe name>.")
    ] = None,
    resume: Annotated[bool, typer.Option(help="Resume after the last completed epoch.")] = False,
    epochs: Annotated[
        int | None,
        typer.Option(min=0, help="Override the recipe's epochs; 0: keep the start weights."),
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Override the recipe's seed.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    precision: Annotated[str, typer.Option(help="32-true or bf16-mixed.")] = "32-true",
    workers: Annotated[int, typer.Option(min=0, help="Data loading processes.")] = 1,
) -> None:
    """Train a recipe's network, all branches at once, and save a checkpoint of the best one."""
    from okdhp_edge.artifacts import model_store
    from okdhp_edge.train.loop import train as run_training
    from okdhp_edge.train.processes import read_process_layout
    from okdhp_edge.train.setup import LAST, TrainingOptions

    chosen = _choose_recipe(recipe, start, data).changed(epochs=epochs, seed=seed)
    folder = out or model_store.MODELS / chosen.name
    source = data or chosen.data
    options = TrainingOptions(
        out=folder, resume=resume, val_data=val_data, device=device, precision=precision,
        workers=workers,
    )  # fmt: skip
    if read_process_layout().rank:  # the first process speaks for all
        run_training(chosen, source, options)
        return
    if (folder / LAST).is_file() and not resume:
        say(f"replacing the model in {folder}; use --resume to continue its training")
    say(f"training recipe {chosen.name} on {source}, output in {folder}")
    with progress() as report:
        best = run_training(chosen, source, replace(options, report=report, say=say))
    _show(best)


def _show(best: Path) -> None:
    from okdhp_edge.recipe.checkpoint import read_info

    if not best.is_file():
        raise OkdhpError(
            f"training in {best.parent} is already complete", "drop --resume to start over"
        )
    facts = read_info(best)
    say(f"best branch {facts.best_branch}: {facts.metric} {facts.best_score:.2f} on val, {best}")
    print_json({"checkpoint": str(best), "metric": facts.metric, "best_branch": facts.best_branch,
          "best_score": facts.best_score, "scores": facts.scores})  # fmt: skip


def _choose_recipe(recipe: str | None, start: str | None, data: str | None) -> "Recipe":
    """The requested recipe, or one for fine-tuning `start` on this many persons."""
    from okdhp_edge.artifacts import model_store
    from okdhp_edge.data.detection import load_for
    from okdhp_edge.recipe.checkpoint import read_info
    from okdhp_edge.recipe.recipe import read_recipe
    from okdhp_edge.train.finetune import make_finetuning_recipe

    if start is None or recipe is not None:
        chosen = read_recipe(model_store.resolve_recipe(recipe))
        return chosen if start is None else chosen.model_copy(update={"start": start})
    if data is None:
        raise OkdhpError("--start without --recipe needs a data set", "add --data coco:PATH")
    kind = read_info(model_store.resolve_weights(start)).recipe.kind
    train_set = load_for(kind, data, "train")
    persons = len(train_set)
    chosen = make_finetuning_recipe(start, persons, joints=train_set.skeleton.joints)
    frozen = chosen.freeze
    parts = [f"the encoder up to stride {frozen.to_stride}"] if frozen.to_stride else []
    parts += ["norms"] if frozen.norms else []
    say(f"{persons} persons: at most {chosen.optimizer.epochs} epochs at {chosen.optimizer.lr:g}"
        + (f", {' and '.join(parts)} frozen" if parts else ""))  # fmt: skip
    return chosen
