"""`okdhp-edge export`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from okdhp_edge import model_store
from okdhp_edge.cli.show import command_line, emit, guarded, progress, say, table

if TYPE_CHECKING:
    from okdhp_edge.card import ModelCard


@guarded
def export(
    checkpoint: Annotated[
        Path | None, typer.Argument(help="Default: the newest models/*/best.safetensors.")
    ] = None,
    branch: Annotated[str, typer.Option(help="best, or a number from 0.")] = "best",
    int8: Annotated[bool, typer.Option("--int8", help="Also quantize, for every runtime.")] = False,
    data: Annotated[
        str | None, typer.Option(help="KIND:PATH to check and calibrate on. Default: as trained.")
    ] = None,
    calibration: Annotated[
        Path | None, typer.Option(help="List of training samples. Default: a draw of 300.")
    ] = None,
    max_drop: Annotated[
        float, typer.Option(min=0, help="Points of the metric that INT8 may lose.")
    ] = 1.0,
    profile: Annotated[
        list[str] | None, typer.Option(help="INT8 for these runtimes only; may be repeated.")
    ] = None,
    batch: Annotated[str, typer.Option(help="Fixed batch size, or `dynamic`.")] = "1",
    simplify: Annotated[bool, typer.Option(help="Run onnxsim.")] = True,
    out: Annotated[Path | None, typer.Option(help="Default: beside the checkpoint.")] = None,
) -> None:
    """Keep one branch, strip the rest, write checked ONNX, and INT8 that passes its gate."""
    from okdhp_edge.card import read_card
    from okdhp_edge.checkpoint import read_facts
    from okdhp_edge.export.stage import ExportOptions, export_branch
    from okdhp_edge.quantize.stage import PROFILES, QuantizeOptions, quantize

    batch_size = _batch(batch)
    source = checkpoint or model_store.default_checkpoint()
    folder = out or source.parent
    say(f"exporting branch {branch} of {source}")
    with progress() as report:
        fp32 = export_branch(source, ExportOptions(
            out=folder, branch=branch, batch=batch_size, data=data, simplify=simplify,
            command=command_line(), report=report))  # fmt: skip
        made = [fp32]
        if int8:
            target = quantize(fp32, QuantizeOptions(
                data=data or read_facts(source).data, calibration=calibration, max_drop=max_drop,
                profiles=profile or PROFILES, command=command_line(), report=report))  # fmt: skip
            made += [target / name for name in profile or PROFILES]
    cards = {path: read_card(path) for path in made}
    table(
        "written",
        ("folder", "precision", "metric", "before"),
        [(str(path), *_metric_cells(card)) for path, card in cards.items()],
    )
    values = {str(path): card.metrics[0].value for path, card in cards.items()}
    emit({"parity_px": cards[fp32].parity_px, "branch": cards[fp32].branch, "artefacts": values})


def _metric_cells(card: "ModelCard") -> tuple[str, str, str]:
    measured = card.metrics[0]
    before = "-" if measured.parent_value is None else f"{measured.parent_value:.2f}"
    return card.precision, f"{measured.metric} {measured.value:.2f}", before


def _batch(text: str) -> int | None:
    if text == "dynamic":
        return None
    if not text.isdigit() or int(text) < 1:
        raise typer.BadParameter("a positive number or `dynamic`", param_hint="--batch")
    return int(text)
