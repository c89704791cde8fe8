"""`okdhp-edge eval`."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from okdhp_edge.cli import MODEL_HELP
from okdhp_edge.cli.console import (
    format_command_line,
    handle_errors,
    print_json,
    progress,
    say,
    table,
)
from okdhp_edge.cli.evaluate_ap import evaluate_results, evaluate_with_coco
from okdhp_edge.errors import DataError
from okdhp_edge.system.progress import counter

if TYPE_CHECKING:
    from okdhp_edge.backends.base import Backend

_AP, _AUTO = "ap", "auto"
Metric = Annotated[
    str | None,
    typer.Option(
        help="pck@0.2, pckh@0.5, oks, ap (COCO); for detectors box_ap. Default: by data set."
    ),
]
FlipTest = Annotated[
    bool,
    typer.Option(help="Average over each crop and its mirror image (doubles inference time)."),
]
Detector = Annotated[
    str | None,
    typer.Option(
        help="With ap: use this detector's boxes instead of the labelled ones: person, or an ONNX "
        "file."
    ),
]
Predictions = Annotated[Path | None, typer.Option(help="With ap: COCO results file to write.")]
Results = Annotated[
    Path | None, typer.Option(help="Evaluate this COCO results file instead of running a model.")
]
Record = Annotated[
    Path | None, typer.Option(help="JSON file to add the result to, one per kind of measurement.")
]


@handle_errors
def evaluate(
    data: Annotated[str, typer.Option(help="KIND:PATH.")],
    model: Annotated[str | None, typer.Option(help=MODEL_HELP)] = None,
    backend: Annotated[str, typer.Option(help="auto, or a backend name.")] = _AUTO,
    precision: Annotated[str, typer.Option(help="auto, int8, fp32 or bf16.")] = _AUTO,
    split: Annotated[str, typer.Option(help="train, val, test or all.")] = "val",
    metric: Metric = None,
    flip_test: FlipTest = False,
    detector: Detector = None,
    predictions: Predictions = None,
    results: Results = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.")] = None,
    record: Record = None,
) -> None:
    """Evaluate a model's accuracy, with a 95 % bootstrap interval over persons."""
    from okdhp_edge.artifacts.result_files import add_result, read_results_file
    from okdhp_edge.backends.selection import load_backend
    from okdhp_edge.data.load import split_off_suffix
    from okdhp_edge.system.outputs import check_outputs

    place = Path(split_off_suffix(data.partition(":")[2])[0]).expanduser()
    read = [path for path in (results, Path(detector or ""), place) if path and path.is_file()]
    check_outputs({"--predictions": predictions, "--record": record}, read)
    if record:
        read_results_file(record)  # refused now, and not once everything is measured
    if results is not None:
        unused = {"--record": record, "--predictions": predictions, "--detector": detector,
                  "--model": model, "--flip-test": flip_test, "--threads": threads,
                  "--backend": backend != _AUTO, "--precision": precision != _AUTO,
                  f"--metric {metric}": metric not in (None, _AP)}  # fmt: skip
        if given := [name for name, value in unused.items() if value]:
            raise DataError(f"{', '.join(given)} cannot be used with --results", "omit them")
        evaluate_results(data, split, results)
        return
    if metric != _AP and (detector or predictions):
        raise DataError("--detector and --predictions only apply to COCO AP", "add --metric ap")
    loaded, asked, _ = load_backend(model, backend, precision, threads, say)
    with loaded:
        result = (
            evaluate_with_coco(data, split, loaded, flip_test, detector, predictions)
            if metric == _AP
            else _evaluate_with_metric(data, split, loaded, metric, flip_test)
        )
        card = loaded.card
        result = {
            "model": card.name, "profile": card.profile, "backend": loaded.name,
            "precision": asked, **result, "flip_test": flip_test,
            "runs": loaded.describe().to_dict(), "sha256": card.files[card.model_file],
            "command": format_command_line(),
        }  # fmt: skip
    print_json(result)
    if record:
        add_result(record, result)


def _evaluate_with_metric(
    data: str, split: str, loaded: "Backend", metric: str | None, flip_test: bool
) -> dict[str, object]:
    from okdhp_edge.backends.base import predict_with
    from okdhp_edge.data.detection import load_for
    from okdhp_edge.data.sample import list_kinds
    from okdhp_edge.evaluation.evaluate import evaluate as evaluate_set
    from okdhp_edge.inference.flip_test import Predict, add_flip_test

    card = loaded.card
    if flip_test and card.kind == "detector":
        raise DataError("--flip-test averages heatmaps, and a detector has none", "omit it")
    poses = load_for(card.kind, data, split).with_skeleton(card.skeleton.skeleton())
    for note in poses.notes:
        say(note)
    chosen = metric or poses.metric
    predict: Predict = predict_with(loaded)
    if flip_test:
        predict = add_flip_test(predict, poses.skeleton)
    with progress() as report:
        score = evaluate_set(
            poses, card.input, card.decoder, predict, chosen,
            progress=counter(report, "evaluate", len(poses)),
        )["model"]  # fmt: skip
    joints = {
        joint: None if math.isnan(points) else points  # never labelled
        for joint, points in zip(poses.skeleton.joints, score.per_joint.tolist(), strict=True)
    }
    rows = [(joint, "-" if v is None else f"{v:.1f}") for joint, v in joints.items()]
    table(f"{chosen} on {poses.split}", ("joint", "points"), rows)
    say(f"{chosen} {score.value:.2f} (95 % {score.low:.2f} to {score.high:.2f}), "
        f"{score.persons} persons")  # fmt: skip
    return {
        "data": list_kinds(poses.source), "split": poses.split, "metric": chosen,
        "value": score.value, "low": score.low, "high": score.high, "persons": score.persons,
        "per_joint": joints,
    }  # fmt: skip
