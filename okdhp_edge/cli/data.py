"""`okdhp-edge data show`, `check`, `crops`, `errors`, `relabel`, `label` and `import`."""

from pathlib import Path
from typing import Annotated

import typer

from okdhp_edge.cli import MODEL_HELP
from okdhp_edge.cli.console import handle_errors, print_json, progress, say, table
from okdhp_edge.cli.import_annotations import import_data
from okdhp_edge.cli.label import label
from okdhp_edge.errors import DataError, OutputError
from okdhp_edge.system.progress import counter

app = typer.Typer(help="Inspect, label, correct and convert data sets.", no_args_is_help=True)

_DATA_OPTION = typer.Option(help="lspet:DIR, coco:PATH, yolo:PATH, mpii:PATH or synthetic[:COUNT].")
_MAX_SHOWN_PROBLEMS = 20
_SHEET_SUFFIXES = (".png", ".jpg", ".jpeg")


@app.command("show")
@handle_errors
def show(
    data: Annotated[str, _DATA_OPTION] = "synthetic",
    split: Annotated[str, typer.Option(help="train, val, test or all.")] = "train",
    recipe: Annotated[
        str | None, typer.Option(help="Recipe whose crops and augmentation are shown.")
    ] = None,
    out: Annotated[Path, typer.Option(help="PNG or JPEG file to write.")] = Path(
        "contact-sheet.png"
    ),
    count: Annotated[int, typer.Option(min=1, help="Number of samples.")] = 12,
    seed: Annotated[int, typer.Option(min=0, help="Random seed.")] = 0,
) -> None:
    """Write a contact sheet: samples with skeletons, augmented crops and target heatmaps."""
    import cv2

    from okdhp_edge.artifacts import model_store
    from okdhp_edge.data.load import load
    from okdhp_edge.data.preview import draw_preview
    from okdhp_edge.recipe.recipe import read_recipe
    from okdhp_edge.system.files import write_bytes
    from okdhp_edge.system.outputs import check_outputs

    if out.suffix.lower() not in _SHEET_SUFFIXES:
        raise OutputError(f"cannot write {out}", f"use one of {', '.join(_SHEET_SUFFIXES)}")
    chosen = read_recipe(model_store.resolve_recipe(recipe))
    poses = load(data, split)
    check_outputs({"--out": out}, poses.list_input_paths())
    for note in poses.notes:
        say(note)
    sheet = draw_preview(poses, chosen.input_spec(), chosen.augmentation, chosen.heatmap.sigma,
                          count, seed)  # fmt: skip
    write_bytes(out, cv2.imencode(out.suffix, sheet)[1].tobytes())
    say(f"contact sheet: {out}")
    print_json({"file": str(out), "samples": min(count, len(poses)), "of": len(poses)})


@app.command("check")
@handle_errors
def check(
    data: Annotated[str, _DATA_OPTION] = "synthetic",
    split: Annotated[str, typer.Option(help="train, val, test or all.")] = "all",
) -> None:
    """Count samples and list problems; exit with 1 if any of them prevents training."""
    from okdhp_edge.data.check import check as look
    from okdhp_edge.data.load import read_annotations

    poses = read_annotations(data, split)
    with progress() as report:
        found = look(poses, counter(report, "check", len(poses)))
    for note in poses.notes:
        say(note)
    say(poses.skeleton.mirroring)
    if found.problems:
        table(f"{len(found.problems)} problems", ("sample", "problem", "fatal"), [
            (p.sample, p.what, "yes" if p.fatal else "")
            for p in found.problems[:_MAX_SHOWN_PROBLEMS]
        ])  # fmt: skip
    say(f"{found.samples} samples, {found.joints_labelled:.1f} of {len(poses.skeleton)} joints "
        f"labelled on average, {len(found.problems)} problems, {found.fatal} fatal")  # fmt: skip
    print_json({"samples": found.samples, "skeleton": poses.skeleton.name,
          "joints_labelled": found.joints_labelled, "fatal": found.fatal,
          "problems": [{"sample": p.sample, "what": p.what, "fatal": p.fatal}
                       for p in found.problems]})  # fmt: skip
    if not found.samples:
        raise DataError(f"{data} contains no usable person", "check paths and labels")
    if found.fatal:
        raise typer.Exit(1)


@app.command("relabel")
@handle_errors
def relabel(
    data: Annotated[str, _DATA_OPTION],
    split: Annotated[str, typer.Option(help="Split to check.")] = "train",
    model: Annotated[str | None, typer.Option(help=MODEL_HELP)] = None,
    backend: Annotated[str, typer.Option(help="auto, or a backend name.")] = "auto",
    out: Annotated[Path, typer.Option(help="JSON file to write.")] = Path("corrections.json"),
) -> None:
    """Find swapped sides and misplaced joints: labels that a confident model contradicts.

    To apply them, set `corrections = "corrections.json"` in a recipe; the data are not changed.
    """
    from okdhp_edge.backends.selection import load_backend
    from okdhp_edge.data.load import load
    from okdhp_edge.label.relabel import relabel as look
    from okdhp_edge.system.files import write_text
    from okdhp_edge.system.outputs import check_outputs

    poses = load(data, split)
    check_outputs({"--out": out}, poses.list_input_paths())
    loaded = load_backend(model, backend, "auto", None, say).backend
    with loaded, progress() as report:
        found = look(poses, loaded, counter(report, "look", len(poses)))
    write_text(out, found.model_dump_json(indent=1) + "\n")
    joints = sum(map(len, found.unlabelled.values()))
    say(f"{len(found.swapped)} of {len(poses)} persons have their sides swapped; {joints} joints "
        f"of {len(found.unlabelled)} persons look misplaced: {out}")  # fmt: skip
    print_json({"file": str(out), "swapped": len(found.swapped), "unlabelled_joints": joints,
          "persons": len(poses)})  # fmt: skip


@app.command("crops")
@handle_errors
def crops(
    data: Annotated[str, _DATA_OPTION],
    out: Annotated[Path, typer.Option(help="Folder for images and annotations.json.")],
    split: Annotated[str, typer.Option(help="train, val, test or all.")] = "all",
    side: Annotated[
        int, typer.Option(min=16, help="Longer side of a person box, in pixels; never enlarged.")
    ] = 176,
    crop_scale: Annotated[
        float,
        typer.Option(
            "--crop-scale",
            min=1,
            max=4,
            help="Side of the crop, as a multiple of the box's longer side.",
        ),
    ] = 1.6,
    suffix: Annotated[str, typer.Option(help=".webp, .avif or .jpg.")] = ".webp",
    quality: Annotated[int, typer.Option(min=1, max=100, help="Encoder quality.")] = 80,
    threads: Annotated[int, typer.Option(min=1, help="Encoder threads.")] = 2,
) -> None:
    """Crop every person with a margin: a data set a tenth as large, for training elsewhere.

    Train on it with `train --data coco:OUT/annotations.json`. The margin must cover the
    augmentation: --crop-scale is at least the recipe's box_padding divided by its smallest scale
    (1.6 for lite and full: upright persons). What rotation shows beyond it, and for persons wider
    than the input's shape (2.3), is filled with the border colour.
    """
    from okdhp_edge.data.crops import ANNOTATIONS, CropOptions, find_held_out_ids, write_crops
    from okdhp_edge.data.load import load
    from okdhp_edge.system.outputs import check_outputs

    poses = load(data, split)
    check_outputs({"--out": out}, poses.list_input_paths())
    options = CropOptions(side, crop_scale, suffix, quality, threads)
    with progress() as report:
        counted = counter(report, "cut", len(poses))
        written = write_crops(poses, out, options, counted, find_held_out_ids(data))
    say(f"{len(poses)} persons, {written / 1e6:.1f} MB: {out / ANNOTATIONS}")
    print_json({"file": str(out / ANNOTATIONS), "persons": len(poses), "bytes": written})


@app.command("errors")
@handle_errors
def errors(
    data: Annotated[str, _DATA_OPTION],
    split: Annotated[str, typer.Option(help="train, val, test or all.")] = "val",
    model: Annotated[str | None, typer.Option(help=MODEL_HELP)] = None,
    backend: Annotated[str, typer.Option(help="auto, or a backend name.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, int8, fp32 or bf16.")] = "auto",
    out: Annotated[Path, typer.Option(help="HTML file to write.")] = Path("errors.html"),
    count: Annotated[int, typer.Option(min=1, help="Persons to show, worst first.")] = 120,
) -> None:
    """Write an HTML report of a model's errors: kinds by joint and size, and the worst persons."""
    from okdhp_edge.backends.base import predict_with
    from okdhp_edge.backends.selection import load_backend
    from okdhp_edge.data.load import load
    from okdhp_edge.evaluation.error_kinds import classify
    from okdhp_edge.evaluation.error_page import error_page, summary
    from okdhp_edge.evaluation.evaluate import predict_joints
    from okdhp_edge.system.files import write_text
    from okdhp_edge.system.outputs import check_outputs

    loaded, asked, _ = load_backend(model, backend, precision, None, say)
    with loaded, progress() as report:
        card = loaded.card
        poses = load(data, split).with_skeleton(card.skeleton.skeleton())
        check_outputs({"--out": out}, poses.list_input_paths())
        xy = predict_joints(
            poses, card.input, card.decoder, predict_with(loaded),
            progress=counter(report, "evaluate", len(poses)),
        )["model"]  # fmt: skip
        found = classify(poses, xy)
        title = (f"{card.name}, {asked} in {loaded.name}: errors on {len(poses)} persons of "
                 f"{poses.split}")  # fmt: skip
        shown = min(count, len(poses))
        page = error_page(poses, xy, found, title, count, counter(report, "draw", shown))
    write_text(out, page)
    rows = summary(poses, found)
    kinds = ("good", "jitter", "inversion", "swap", "miss")
    table(title, ("joint", *kinds), [
        (row["name"], *("-" if row[k] is None else f"{row[k]:.1f}" for k in kinds))
        for row in (*rows["by_joint"], rows["all"])
    ])  # fmt: skip
    say(f"errors: {out}")
    print_json({"file": str(out), "persons": len(poses), **rows["all"]})


app.command("label")(label)
app.command("import")(import_data)
