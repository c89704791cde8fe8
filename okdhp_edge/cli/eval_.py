"""`okdhp-edge eval`."""

import math
from pathlib import Path
from typing import Annotated

import typer

from okdhp_edge.cli import MODEL_HELP
from okdhp_edge.cli.show import command_line, emit, guarded, progress, say, table


@guarded
def evaluate(
    data: Annotated[str, typer.Option(help="KIND:PATH.")],
    model: Annotated[str | None, typer.Option(help=MODEL_HELP)] = None,
    backend: Annotated[str, typer.Option(help="auto or a backend's name.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, int8, fp32 or bf16.")] = "auto",
    split: Annotated[str, typer.Option(help="train, val, test or all.")] = "val",
    metric: Annotated[
        str | None, typer.Option(help="pck@0.2, pckh@0.5, oks. Default: the data set's own.")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.")] = None,
    record: Annotated[
        Path | None, typer.Option(help="JSON file that keeps results, one per kind of measurement.")
    ] = None,
) -> None:
    """Measure a model's accuracy, with a 95 % bootstrap interval over persons."""
    from okdhp_edge.backends.base import predict_with
    from okdhp_edge.backends.choose import open_chosen
    from okdhp_edge.data.load import load
    from okdhp_edge.data.sample import kinds_of
    from okdhp_edge.evaluate import evaluate as judge
    from okdhp_edge.results import keep_result

    loaded, asked = open_chosen(model, backend, precision, threads, say)
    poses = load(data, split).as_seen_by(loaded.card.skeleton.skeleton())
    for note in poses.notes:
        say(note)
    chosen = metric or poses.metric
    with loaded, progress() as report:
        card = loaded.card
        ran = loaded.describe()
        score = judge(
            poses, card.input, card.decoder, predict_with(loaded), chosen,
            progress=lambda done: report("judge", done, len(poses), ""),
        )["model"]  # fmt: skip
    joints = {
        joint: None if math.isnan(points) else points  # nobody has it labelled
        for joint, points in zip(poses.skeleton.joints, score.per_joint.tolist(), strict=True)
    }
    rows = [(joint, "-" if v is None else f"{v:.1f}") for joint, v in joints.items()]
    table(f"{chosen} on {split}", ("joint", "points"), rows)
    say(f"{chosen} {score.value:.2f} (95 % {score.low:.2f} to {score.high:.2f}), "
        f"{score.persons} persons")  # fmt: skip
    result = {
        "model": card.name, "profile": card.profile, "backend": ran.backend, "precision": asked,
        "data": kinds_of(poses.source), "split": split, "metric": chosen,
        "value": score.value, "low": score.low, "high": score.high, "persons": score.persons,
        "per_joint": joints, "runs": ran.to_dict(), "sha256": card.files[card.model_file],
        "command": command_line(),
    }  # fmt: skip
    if record:
        keep_result(record, result)
    emit(result)
