"""The command `okdhp-edge`."""

import os

import typer

from okdhp_edge import __version__
from okdhp_edge.cli import bench, data, demo, doctor, evaluate, export, report, run, train

app = typer.Typer(
    name="okdhp-edge",
    help="2D human pose from training to the edge: train, export, quantize, run.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command("train")(train.train)
app.command("eval")(evaluate.evaluate)
app.command("export")(export.export)
app.command("run")(run.run)
app.command("report")(report.report)
app.command("bench")(bench.bench)
app.command("doctor")(doctor.doctor)
app.command("demo")(demo.demo)
app.add_typer(data.app, name="data")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"okdhp-edge {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version."
    ),
) -> None:
    """Options of the command itself."""


def main() -> None:
    """Entry point."""
    # Read when numpy is imported. Its arrays are small here, and threads that OpenBLAS cannot start
    # for want of memory end the process without a word of ours.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    app()
