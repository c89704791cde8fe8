"""`okdhp-edge data show`, `data check`, `data relabel` and `data label`."""

from pathlib import Path
from typing import Annotated

import typer

from okdhp_edge.cli import MODEL_HELP
from okdhp_edge.cli.label import label
from okdhp_edge.cli.show import emit, guarded, progress, say, table

app = typer.Typer(help="Look at a data set before training on it.", no_args_is_help=True)

_DATA = typer.Option(help="lspet:DIR, coco:PATH, mpii:PATH or synthetic[:COUNT].")
_SHOWN_PROBLEMS = 20


@app.command("show")
@guarded
def show(
    data: Annotated[str, _DATA] = "synthetic",
    split: Annotated[str, typer.Option(help="train, val, test or all.")] = "train",
    recipe: Annotated[
        Path | None, typer.Option(help="Whose crops and augmentation to show.")
    ] = None,
    out: Annotated[Path, typer.Option(help="PNG to write.")] = Path("contact-sheet.png"),
    count: Annotated[int, typer.Option(min=1)] = 12,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Write a contact sheet: samples with skeletons, augmented crops, target heatmaps."""
    import cv2

    from okdhp_edge import model_store
    from okdhp_edge.data.contact_sheet import contact_sheet
    from okdhp_edge.data.load import load
    from okdhp_edge.files import writing
    from okdhp_edge.recipe import read_recipe

    chosen = read_recipe(recipe or model_store.default_recipe())
    poses = load(data, split)
    for note in poses.notes:
        say(note)
    sheet = contact_sheet(poses, chosen.input_spec(), chosen.augmentation, chosen.heatmap.sigma,
                          count, seed)  # fmt: skip
    with writing(out):
        encoded = cv2.imencode(".png", sheet)[1].tobytes()
        out.write_bytes(encoded)
    say(f"contact sheet: {out}")
    emit({"file": str(out), "samples": min(count, len(poses)), "of": len(poses)})


@app.command("check")
@guarded
def check(
    data: Annotated[str, _DATA] = "synthetic",
    split: Annotated[str, typer.Option(help="train, val, test or all.")] = "all",
) -> None:
    """Count samples and list what is wrong; exit 1 if anything cannot be trained on."""
    from okdhp_edge.data.check import check as look
    from okdhp_edge.data.load import read_annotations

    poses = read_annotations(data, split)
    with progress() as report:
        found = look(poses, lambda done: report("check", done, len(poses), ""))
    for note in poses.notes:
        say(note)
    if found.problems:
        table(f"{len(found.problems)} problems", ("sample", "problem", "fatal"), [
            (p.sample, p.what, "yes" if p.fatal else "") for p in found.problems[:_SHOWN_PROBLEMS]
        ])  # fmt: skip
    say(f"{found.samples} samples, {found.joints_labelled:.1f} of {len(poses.skeleton)} joints "
        f"labelled on average, {len(found.problems)} problems, {found.fatal} fatal")  # fmt: skip
    emit({"samples": found.samples, "skeleton": poses.skeleton.name,
          "joints_labelled": found.joints_labelled, "fatal": found.fatal,
          "problems": [{"sample": p.sample, "what": p.what, "fatal": p.fatal}
                       for p in found.problems]})  # fmt: skip
    if found.fatal:
        raise typer.Exit(1)


@app.command("relabel")
@guarded
def relabel(
    data: Annotated[str, _DATA],
    split: Annotated[str, typer.Option(help="What is trained on.")] = "train",
    model: Annotated[str | None, typer.Option(help=MODEL_HELP)] = None,
    backend: Annotated[str, typer.Option(help="auto or a backend's name.")] = "auto",
    out: Annotated[Path, typer.Option(help="JSON to write.")] = Path("corrections.json"),
) -> None:
    """Find swapped sides and misplaced joints: labels that a model, sure of itself, doubts.

    A recipe takes them up by `corrections = "corrections.json"`; the data stay as they are.
    """
    from okdhp_edge.backends.choose import open_chosen
    from okdhp_edge.data.load import load
    from okdhp_edge.files import write_text
    from okdhp_edge.relabel import relabel as look

    poses = load(data, split)
    loaded, _ = open_chosen(model, backend, "auto", None, say)
    with loaded, progress() as report:
        found = look(poses, loaded, lambda done: report("look", done, len(poses), ""))
    write_text(out, found.model_dump_json(indent=1) + "\n")
    joints = sum(map(len, found.unlabelled.values()))
    say(f"{len(found.swapped)} of {len(poses)} persons have their sides swapped; {joints} joints "
        f"of {len(found.unlabelled)} persons are somewhere else: {out}")  # fmt: skip
    emit({"file": str(out), "swapped": len(found.swapped), "unlabelled_joints": joints,
          "persons": len(poses)})  # fmt: skip


app.command("label")(label)
