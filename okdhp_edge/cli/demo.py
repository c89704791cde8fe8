"""`okdhp-edge demo`: the whole pipeline on synthetic people."""

from pathlib import Path
from typing import Annotated

import typer

from okdhp_edge.cli.console import handle_errors, say
from okdhp_edge.cli.export import export
from okdhp_edge.cli.run import run
from okdhp_edge.cli.train import train


@handle_errors
def demo(
    out: Annotated[Path, typer.Option(help="Folder for model and video.")] = Path("models/demo"),
    backend: Annotated[str, typer.Option(help="Backend that runs the INT8 model.")] = "auto",
) -> None:
    """Train, export, quantize and run in one go: about three minutes on two cores."""
    say("1/3 train: two branches and their ensemble, on synthetic people")
    train(out=out)
    say("2/3 export the best branch and quantize it for three runtimes")
    export(checkpoint=out / "best.safetensors", int8=True)
    say("3/3 run the INT8 model on a synthetic video")
    video = out / "demo.mp4"
    run(source=["synthetic"], model=str(out), backend=backend, save=video, window=False,
        report=out / "report.json")  # fmt: skip
    say(f"annotated video: {video}")
