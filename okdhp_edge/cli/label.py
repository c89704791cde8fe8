"""`okdhp-edge data label`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from okdhp_edge.cli import CLUSTER_HELP
from okdhp_edge.cli.console import handle_errors, print_json, progress, say
from okdhp_edge.errors import OutputError

if TYPE_CHECKING:
    from okdhp_edge.label.boxes import BoxFinder
    from okdhp_edge.label.coco_file import LabelResult

_SIDECAR_BOXES, _NO_BOXES = "beside", "none"


Sources = Annotated[list[Path] | None, typer.Argument(help="Images, folders or videos.")]
Teachers = Annotated[
    list[str],
    typer.Option(
        help="A model by name (large), or a pose network (ONNX or OpenVINO IR) with a .toml next "
        "to it; repeatable."
    ),
]
Calibrate = Annotated[
    str | None,
    typer.Option(
        help="Labelled set KIND:PATH[@SPLIT]: measure the teachers' grids and offsets on it, write "
        "them to their .toml files, and stop."
    ),
]
Views = Annotated[
    int,
    typer.Option(
        help="Crops of each person per teacher, mirror images included: 2; 6 with other paddings; "
        "14 with slight rotations; 20 with quarter and half turns."
    ),
]
Out = Annotated[Path, typer.Option(help="COCO JSON file to write.")]
Boxes = Annotated[
    str, typer.Option(help="beside (VOC XML or YOLO text next to the images), none, or COCO JSON.")
]
PersonClass = Annotated[
    str,
    typer.Option(help="Person class in the box files: a name in VOC and COCO, an index in YOLO."),
]
Detector = Annotated[
    str | None, typer.Option(help="For images without boxes: person, or an ONNX detector.")
]
Every = Annotated[int, typer.Option(min=1, help="Use every n-th frame of a video.")]
MaxNegatives = Annotated[
    int,
    typer.Option("--negatives", min=0, help="Maximum negative boxes per image."),
]
NoPeople = Annotated[
    bool, typer.Option("--no-people", help="Images contain no people: all negatives.")
]
MinScore = Annotated[float, typer.Option(min=0, max=1, help="Minimum mean score to label a joint.")]
MaxSpread = Annotated[
    float,
    typer.Option(min=0, max=1, help="Maximum spread of the predictions, as a fraction of the box."),
]
MaxAbsentScore = Annotated[
    float, typer.Option(min=0, max=1, help="Maximum score of an absent joint.")
]
MinJoints = Annotated[int, typer.Option(min=1, help="Minimum labelled joints per person.")]
MinBoxHeight = Annotated[
    float,
    typer.Option("--min-height", min=1, help="Minimum box height, in pixels."),
]
Duplicates = Annotated[
    int, typer.Option(min=-1, max=64, help="Maximum dHash bits between duplicates; -1 keeps all.")
]
Exclude = Annotated[
    list[Path] | None,
    typer.Option("--exclude", help="Folder or label file whose images are excluded."),
]
Precision = Annotated[str, typer.Option(help="Precision of the teachers: fp32 or bf16.")]
Workers = Annotated[int, typer.Option(min=1, help="Number of images processed in parallel.")]
Cluster = Annotated[str | None, typer.Option(help=CLUSTER_HELP)]
Format = Annotated[
    list[str] | None,
    typer.Option(
        "--format",
        help="Also write pre-annotations next to --out: label-studio or cvat; repeatable.",
    ),
]
Sheet = Annotated[Path | None, typer.Option(help="PNG or JPEG preview of labelled persons.")]
Seed = Annotated[int, typer.Option(min=0, help="Random seed.")]


@handle_errors
def label(
    teacher: Teachers,
    sources: Sources = None,
    out: Out = Path("labels.json"),
    boxes: Boxes = _SIDECAR_BOXES,
    person_class: PersonClass = "person",
    detector: Detector = None,
    every: Every = 10,
    negatives: MaxNegatives = 0,
    no_people: NoPeople = False,
    min_score: MinScore = 0.3,
    max_spread: MaxSpread = 0.04,
    max_absent_score: MaxAbsentScore = 0.1,
    min_joints: MinJoints = 5,
    min_height: MinBoxHeight = 32.0,
    duplicates: Duplicates = 5,
    exclude: Exclude = None,
    views: Views = 2,
    calibrate: Calibrate = None,
    precision: Precision = "fp32",
    workers: Workers = 2,
    cluster: Cluster = None,
    format_: Format = None,
    sheet: Sheet = None,
    seed: Seed = 0,
) -> None:
    """Label images automatically; the result is a data set `coco:FILE`.

    Each teacher predicts each person in several views; the median is used. Joints on which the
    predictions disagree stay unlabelled; joints that none finds are marked absent. A stopped run
    resumes where it left off.
    """
    from okdhp_edge.inference.external_pose_model import find_teacher
    from okdhp_edge.label.consensus import ConsensusRules
    from okdhp_edge.label.label_images import label as run
    from okdhp_edge.label.options import LabelOptions

    teachers = [find_teacher(model) for model in teacher]
    if calibrate is not None:
        _calibrate(teachers, calibrate, precision)
        return
    files = [Path(name) for name in (detector, boxes) if name and Path(name).is_file()]
    _check_outputs(
        out, sheet, format_ or (), [*(sources or ()), *teachers, *(exclude or ()), *files]
    )
    rules = ConsensusRules(min_score=min_score, max_spread=max_spread,
                           max_absent_score=max_absent_score, min_joints=min_joints)  # fmt: skip
    with progress() as report:
        result = run(LabelOptions(
            sources=sources or (), out=out, teachers=teachers, rules=rules,
            find=_make_box_finder(boxes, person_class),
            boxes=_describe_boxes(boxes, person_class),
            detector=detector, every=every,
            max_negatives=negatives, no_people=no_people, min_box_height=min_height, views=views,
            duplicates=None if duplicates < 0 else duplicates, exclude=exclude or (),
            precision=precision, workers=workers, cluster=cluster, seed=seed,
            report=report, warn=say,
        ))  # fmt: skip
    _write_pre_annotations(result.file, format_ or ())
    _show(result, sheet, seed)


def _check_outputs(
    out: Path, sheet: Path | None, tools: Sequence[str], read: Sequence[Path]
) -> None:
    import cv2

    from okdhp_edge.data.annotation_tools.convert import check_tool
    from okdhp_edge.data.image_file import IMAGE_SUFFIXES
    from okdhp_edge.system.outputs import check_outputs

    for tool in tools:
        check_tool(tool)
    writable = [suffix for suffix in sorted(IMAGE_SUFFIXES) if cv2.haveImageWriter(f"x{suffix}")]
    if sheet is not None and (sheet.suffix.lower() or ".png") not in writable:
        raise OutputError(f"{sheet} is not an image file", f"use one of {', '.join(writable)}")
    check_outputs({"--out": out, "the progress file of --out": out.with_suffix(".partial"),
                   "--sheet": sheet}, read)  # fmt: skip


def _calibrate(teachers: Sequence[Path], source: str, precision: str) -> None:
    from okdhp_edge.artifacts.external_model import is_own_export
    from okdhp_edge.data.load import load
    from okdhp_edge.data.sample import list_kinds
    from okdhp_edge.errors import DataError
    from okdhp_edge.inference.external_pose_model import ExternalPoseModel
    from okdhp_edge.label.calibrate import calibrate_teacher, write_calibration

    poses = load(source, "all")
    for path in teachers:
        if is_own_export(path):
            raise DataError(f"{path} needs no calibration: its grid is known", "omit it")
        model = ExternalPoseModel(path, precision=precision)
        with progress() as report:
            found = calibrate_teacher(
                model, poses, lambda done: report("calibrate", done, len(poses), "")
            )
        description = path.with_suffix(".toml")
        write_calibration(description, found, list_kinds(source))
        say(f"{description}: grid {found.grid.value}, median error {found.error_before:.3f} -> "
            f"{found.error_after:.3f} heatmap cells")  # fmt: skip
        print_json({"teacher": path.name, "grid": found.grid.value,
                    "offset": dict(zip(model.skeleton.joints, found.offset.tolist(), strict=True)),
                    "persons": int(found.persons.max()),
                    "error_before_cells": round(found.error_before, 4),
                    "error_after_cells": round(found.error_after, 4)})  # fmt: skip


def _show(result: "LabelResult", sheet: Path | None, seed: int) -> None:
    from okdhp_edge.label.preview import write_sheet

    if sheet is not None:
        write_sheet(result.file, sheet, seed)
    left_out = ", ".join(f"{count} {what}" for what, count in result.left_out.items())
    say(f"{result.persons} persons and {result.negatives} negative boxes in {result.images} "
        f"images: {result.file}" + (f"; left out: {left_out}" if left_out else ""))  # fmt: skip
    print_json({"file": str(result.file), "images": result.images, "persons": result.persons,
                "negatives": result.negatives, "left_out": result.left_out})  # fmt: skip


def _write_pre_annotations(labels: Path, tools: Sequence[str]) -> None:
    from okdhp_edge.data.annotation_tools.convert import export_pre_annotations
    from okdhp_edge.data.load import load
    from okdhp_edge.data.sample import make_source

    for tool in tools:
        poses = load(make_source("coco", labels), "all")
        for file in export_pre_annotations(poses, tool, labels):
            say(f"pre-annotations: {file}")


def _describe_boxes(boxes: str, person_class: str) -> str:
    """What a stopped run went on with: a file that changed since makes another."""
    from okdhp_edge.artifacts.card import compute_sha256

    content = f" {compute_sha256(Path(boxes))}" if Path(boxes).is_file() else ""
    return f"{boxes} {person_class}{content}"


def _make_box_finder(boxes: str, person_class: str) -> "BoxFinder | None":
    from okdhp_edge.label.boxes import make_coco_reader, make_sidecar_reader

    if boxes == _NO_BOXES:
        return None
    return (
        make_sidecar_reader(person_class)
        if boxes == _SIDECAR_BOXES
        else make_coco_reader(Path(boxes), person_class)
    )
