"""`okdhp-edge data import`."""

from pathlib import Path
from typing import Annotated

import typer

from okdhp_edge.cli.console import handle_errors, print_json, say

Source = Annotated[
    Path,
    typer.Argument(
        help="Export of Label Studio (JSON), CVAT (for images 1.1), Supervisely, SLEAP (.slp), "
        "DeepLabCut (CollectedData_*.csv) or YOLO pose (data.yaml).",
    ),
]
Out = Annotated[Path, typer.Option(help="COCO JSON file to write.")]
Tool = Annotated[
    str | None,
    typer.Option(
        help="label-studio, cvat, supervisely, sleap, deeplabcut or yolo. Default: detected."
    ),
]
Images = Annotated[
    Path | None, typer.Option(help="Folder with the images. Default: next to the export.")
]
PersonClass = Annotated[
    str | None,
    typer.Option(help="Class to import. Default: person, or else the most frequent one."),
]


@handle_errors
def import_data(
    source: Source,
    out: Out = Path("imported.json"),
    tool: Tool = None,
    images: Images = None,
    person_class: PersonClass = None,
) -> None:
    """Convert an annotation tool's export to a COCO file for `--data coco:FILE`."""
    from okdhp_edge.data.annotation_tools.convert import import_annotations
    from okdhp_edge.system.outputs import check_outputs

    check_outputs({"--out": out}, [source])
    found = import_annotations(
        source, out, tool=tool, images=images, person_class=person_class
    )  # fmt: skip
    for note in found.notes:
        say(note)
    say(f"{found.persons} persons with {len(found.keypoints)} keypoints in {found.images} images: "
        f"{out}")  # fmt: skip
    print_json({"file": str(out), "images": found.images, "persons": found.persons,
          "keypoints": found.keypoints, "notes": found.notes})  # fmt: skip
