"""`okdhp-edge bench`."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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

if TYPE_CHECKING:
    from okdhp_edge.bench.measure import Row

_MAX_SHOWN_LAYERS = 8


@handle_errors
def bench(
    model: Annotated[str | None, typer.Option(help=MODEL_HELP)] = None,
    data: Annotated[
        str | None, typer.Option(help="KIND:PATH to measure accuracy on. Default: speed only.")
    ] = None,
    split: Annotated[str, typer.Option(help="train, val, test or all.")] = "val",
    metric: Annotated[str | None, typer.Option(help="Default: the data set's.")] = None,
    runs: Annotated[int, typer.Option(min=10, help="Timed runs per candidate.")] = 300,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.")] = None,
    max_drop: Annotated[
        float, typer.Option(min=0, help="Maximum metric drop of the recommendation, in points.")
    ] = 1.0,
    out: Annotated[
        Path | None, typer.Option(help="Folder for bench.json, bench.md and pareto.png.")
    ] = None,
) -> None:
    """Compare all available backends and precisions: accuracy, latency, size, load time."""
    from okdhp_edge.backends.selection import choose_model
    from okdhp_edge.bench.measure import candidates, measure, recommend, slower_than_float
    from okdhp_edge.bench.present import HEADINGS, format_cells
    from okdhp_edge.data.detection import load_for
    from okdhp_edge.errors import DataError, ModelError
    from okdhp_edge.evaluation.evaluate import check_metric
    from okdhp_edge.system.hardware import describe_machine

    if metric and not data:
        raise DataError("--metric needs a data set", "add --data KIND:PATH")
    path = choose_model(model)
    tried, left_out = candidates(path)
    if not tried:
        raise ModelError(f"no installed backend runs {path}", "; ".join(left_out))
    card = tried[0].card
    skeleton = card.skeleton.skeleton()
    poses = load_for(card.kind, data, split).with_skeleton(skeleton) if data else None
    chosen = metric or (poses.metric if poses else "")
    if poses:
        check_metric(chosen)
    _make_folder(out)
    with progress() as report:
        rows, refused = measure(tried, poses, chosen, runs=runs, threads=threads, report=report)
    title = f"{path.name}: {chosen or 'speed only'}, batch {card.batch or 1}"
    table(title, HEADINGS, [format_cells(r) for r in rows])
    for reason in [*left_out, *refused]:
        say(f"left out: {reason}")
    best = recommend(rows, max_drop)
    _say_what_to_run(best, max_drop, evaluated=poses is not None)
    slow = [_explain_slowness(row, faster, threads) for row, faster in slower_than_float(rows)]
    record = {
        "command": format_command_line(), "model": path.name, "metric": chosen,
        "split": poses.split if poses else split,
        "threads": threads, "machine": describe_machine(), "rows": [r.to_dict() for r in rows],
        "left_out": [*left_out, *refused], "max_drop": max_drop,
        "recommended": best and {"backend": best.candidate.backend,
                                 "precision": best.candidate.precision},
        "slower_than_float": slow,
    }  # fmt: skip
    print_json(record)
    if out:
        _write_files(out, record, rows, plotted=chosen if poses else None)


def _make_folder(out: Path | None) -> None:
    """Before anything is timed."""
    from okdhp_edge.system.files import wrap_write_errors

    if out:
        with wrap_write_errors(out):
            out.mkdir(parents=True, exist_ok=True)


def _write_files(
    out: Path, record: dict[str, Any], rows: "Sequence[Row]", plotted: str | None
) -> None:
    from okdhp_edge.bench.present import markdown, plot
    from okdhp_edge.system.files import write_text

    write_text(out / "bench.json", json.dumps(record, indent=2) + "\n")
    write_text(out / "bench.md", markdown(rows))
    if plotted:
        plot(rows, plotted, out / "pareto.png")


def _say_what_to_run(best: "Row | None", max_drop: float, *, evaluated: bool) -> None:
    if best:
        say(f"recommended here: --backend {best.candidate.backend} --precision "
            f"{best.candidate.precision} (fastest within {max_drop:g} points of fp32)")  # fmt: skip
    elif evaluated:
        say("no recommendation: export FP32 first to measure the INT8 accuracy drop")


def _explain_slowness(row: "Row", faster: "Row", threads: int | None) -> dict[str, Any]:
    """Report that INT8 is slower, with its slowest layers."""
    import numpy as np

    from okdhp_edge.backends.base import BackendConfig
    from okdhp_edge.backends.registry import get_backend_class

    candidate = row.candidate
    spec = candidate.card.input
    crop = np.zeros((candidate.card.batch or 1, spec.height, spec.width, 3), dtype=np.uint8)
    request = BackendConfig(candidate.folder, candidate.card, candidate.precision, threads)
    times = get_backend_class(candidate.backend).layer_times(request, crop)
    layers = sorted(times, key=lambda layer: -layer.us)[:_MAX_SHOWN_LAYERS]
    say(f"{candidate.backend} int8 is slower than {faster.candidate.precision} "
        f"({row.latency.p50:.2f} vs {faster.latency.p50:.2f} ms)")  # fmt: skip
    table(
        f"slowest layers of {candidate.backend} int8", ("layer", "ran as", "us"),
        [(layer.name, layer.kind, f"{layer.us:.0f}") for layer in layers],
    )  # fmt: skip
    return {
        "backend": candidate.backend, "faster": faster.candidate.precision,
        "layers": [layer._asdict() for layer in layers],
    }  # fmt: skip
