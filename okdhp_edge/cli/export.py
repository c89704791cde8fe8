"""`okdhp-edge export`."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from okdhp_edge.backends.registry import list_profiles
from okdhp_edge.cli.console import (
    format_command_line,
    handle_errors,
    print_json,
    progress,
    say,
    table,
)
from okdhp_edge.errors import BackendError, ModelError
from okdhp_edge.system.reading import is_count

if TYPE_CHECKING:
    from okdhp_edge.artifacts.card import ModelCard


Calibration = Annotated[
    str | None,
    typer.Option(
        help="Calibration data: a list of training samples, another data set as KIND:PATH, "
        "folder:DIR or video:FILE. Default: 300 training samples."
    ),
]
_CALIBRATOR, _MAX_DROP = "moving-average", 1.0

Calibrator = Annotated[
    str,
    typer.Option(
        help="moving-average, minmax, percentile-99.99, percentile-99.9, mse, entropy, or auto: "
        "the one with the best metric."
    ),
]
KeepFloat = Annotated[str | None, typer.Option(help="Regex of nodes to keep in float.")]
MaxDrop = Annotated[float, typer.Option(min=0, help="Maximum metric drop of INT8, in points.")]
Profiles = Annotated[
    list[str] | None,
    typer.Option(
        "--profile",
        "--backend",
        help=f"INT8 targets: {', '.join(list_profiles())} (one scale per tensor, for "
        "NPUs); repeatable. Default: all but generic.",
    ),
]
Tune = Annotated[
    bool,
    typer.Option(
        help="If plain PTQ exceeds --max-drop, try other calibrators, bias correction and mixed "
        "precision."
    ),
]
Qat = Annotated[
    int, typer.Option(min=0, help="Epochs of quantization-aware training if PTQ fails the gate.")
]
Sm = Annotated[
    list[str] | None,
    typer.Option(
        help="Build a TensorRT engine for these GPU generations (such as 89), without a GPU; "
        "repeatable. AMPERE_PLUS: one engine for Ampere and later."
    ),
]

BoxPadding = Annotated[
    float | None,
    typer.Option(min=1, max=3, help="Box padding factor at inference time. Default: as trained."),
]
KeepPytorch = Annotated[
    bool,
    typer.Option(
        "--pytorch/--no-pytorch",
        help="Keep PyTorch weights beside the ONNX file, for --backend pytorch.",
    ),
]


@handle_errors
def export(
    checkpoint: Annotated[
        Path | None, typer.Argument(help="Default: the newest models/*/best.safetensors.")
    ] = None,
    branch: Annotated[str, typer.Option(help="best, or a branch index from 0.")] = "best",
    int8: Annotated[bool, typer.Option("--int8", help="Also quantize, for every runtime.")] = False,
    data: Annotated[
        str | None, typer.Option(help="KIND:PATH to check and calibrate on. Default: as trained.")
    ] = None,
    calibration: Calibration = None,
    calibrator: Calibrator = _CALIBRATOR,
    keep_float: KeepFloat = None,
    max_drop: MaxDrop = _MAX_DROP,
    profile: Profiles = None,
    tune: Tune = True,
    qat: Qat = 0,
    sm: Sm = None,
    batch: Annotated[str, typer.Option(help="Fixed batch size, or `dynamic`.")] = "1",
    simplify: Annotated[bool, typer.Option(help="Simplify with onnxsim.")] = True,
    pytorch: KeepPytorch = True,
    box_padding: BoxPadding = None,
    out: Annotated[Path | None, typer.Option(help="Default: next to the checkpoint.")] = None,
) -> None:
    """Export one branch to verified ONNX and, with --int8, quantize it within --max-drop."""
    from okdhp_edge.artifacts import model_store
    from okdhp_edge.backends.registry import list_runtime_profiles
    from okdhp_edge.export.export_branch import ExportOptions, export_branch
    from okdhp_edge.quantize.quantize_model import QuantizeOptions
    from okdhp_edge.quantize_with_qat import quantize_with_qat
    from okdhp_edge.recipe.checkpoint import read_info
    from okdhp_edge.system.outputs import check_outputs

    batch_size = _batch(batch)
    changed = (calibrator, max_drop, tune) != (_CALIBRATOR, _MAX_DROP, True)
    _check_options(int8, [qat, profile, keep_float, calibration, changed], sm, profile)
    source = checkpoint or model_store.find_default_checkpoint()
    folder = out or source.parent
    read = [Path(calibration)] if calibration and Path(calibration).exists() else []
    check_outputs({"--out": folder / "fp32", "--int8": folder / "int8"}, [source, *read])
    say(f"exporting branch {branch} of {source}")
    with progress() as report:
        facts = read_info(source)
        wanted = QuantizeOptions(  # what they refuse is refused before anything is written
            data=data or facts.evaluation_data, train_data=None if data else facts.data,
            calibration=calibration, max_drop=max_drop,
            calibrator=calibrator, keep_float=keep_float, tune=tune,
            profiles=profile or list_runtime_profiles(), command=format_command_line(),
            report=report,
        )  # fmt: skip
        options = ExportOptions(
            out=folder, branch=branch, batch=batch_size, data=data, simplify=simplify,
            pytorch=pytorch, box_padding=box_padding, command=wanted.command, report=report,
        )  # fmt: skip
        fp32 = export_branch(source, options)
        made = [fp32]
        if int8:
            target = quantize_with_qat(fp32, source, wanted, epochs=qat)
            made += [target / name for name in wanted.profiles]
    _show(made)
    _build_engines(folder, sm or ())


def _check_options(
    int8: bool,
    int8_options: Sequence[object],
    generations: Sequence[str] | None,
    profiles: Sequence[str] | None,
) -> None:
    """Before anything is exported."""
    from okdhp_edge.backends.registry import has_package

    if not int8 and any(int8_options):
        raise ModelError("INT8 options given without --int8", "add --int8")
    if not generations:
        return
    if not has_package("tensorrt_rtx"):
        raise BackendError("--sm needs TensorRT-RTX", "pip install okdhp-edge[tensorrt]")
    if profiles and "tensorrt" not in profiles:
        raise ModelError("--sm builds engines of the profile tensorrt", "add --profile tensorrt")


def _build_engines(model: Path, generations: Sequence[str]) -> None:
    if not generations:
        return
    from okdhp_edge.artifacts import model_store
    from okdhp_edge.backends.engine import PORTABLE
    from okdhp_edge.quantize.graph.tensorrt import write_engines

    folder = model_store.find_artifact(model, "tensorrt", "int8")
    targets = [
        PORTABLE if g.upper() == PORTABLE else f"SM{g.upper().removeprefix('SM')}"
        for g in generations
    ]
    say(f"building a TensorRT engine for {', '.join(targets)}")
    with progress() as report:
        path = write_engines(folder, targets, report)
    say(f"{path.parent}: {path.stat().st_size / 1e6:.1f} MB each, built without a GPU and not run")


def _show(made: list[Path]) -> None:
    from okdhp_edge.artifacts.card import read_card

    cards = {path: read_card(path) for path in made}
    table(
        "written",
        ("folder", "precision", "metric", "before", "how", "saturates"),
        [(str(path), *_format_metric_cells(card)) for path, card in cards.items()],
    )
    for path in made:
        _show_trials(path)
    fp32 = cards[made[0]]
    values = {str(path): card.metrics[0].value for path, card in cards.items()}
    print_json({"parity_px": fp32.parity_px, "branch": fp32.branch, "artifacts": values})


def _show_trials(folder: Path) -> None:
    """Show the tuner if it has more than one trial."""
    file = folder / "trials.json"
    trials = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else []
    if len(trials) > 1:
        table(
            f"attempts for {folder}", ("trial", "metric", "drop", "passes"),
            [(r["trial"], f"{r['value']:.2f}", f"{r['drop']:.2f}", "yes" if r["passes"] else "no")
             for r in trials],
        )  # fmt: skip


def _format_metric_cells(card: "ModelCard") -> tuple[str, ...]:
    measured = card.metrics[0]
    before = "-" if measured.parent_value is None else f"{measured.parent_value:.2f}"
    how = card.calibration.method if card.calibration else "-"
    saturates = {True: "never", False: "on x86 without VNNI", None: "-"}[card.saturation_free]
    return card.precision, f"{measured.metric} {measured.value:.2f}", before, how, saturates


def _batch(text: str) -> int | None:
    if text == "dynamic":
        return None
    from okdhp_edge.artifacts.card import MAX_BATCH_SIZE

    if not is_count(text) or not 1 <= int(text) <= MAX_BATCH_SIZE:
        raise typer.BadParameter(
            f"must be an integer from 1 to {MAX_BATCH_SIZE}, or `dynamic`", param_hint="--batch"
        )
    return int(text)
