"""The command `okdhp-edge`."""

import sys
from collections.abc import Iterable
from pathlib import Path

import typer

from okdhp_edge import __version__
from okdhp_edge.cli import batch, bench, data, demo, doctor, evaluate, export, report, run, train
from okdhp_edge.cli.console import drop_stdout, settings

app = typer.Typer(
    name="okdhp-edge",
    help="2D human pose estimation from training to the edge: train, export, quantize, run.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command("train")(train.train)
app.command("eval")(evaluate.evaluate)
app.command("export")(export.export)
app.command("run")(run.run)
app.command("batch")(batch.batch)
app.command("report")(report.report)
app.command("bench")(bench.bench)
app.command("doctor")(doctor.doctor)
app.command("demo")(demo.demo)
app.add_typer(data.app, name="data")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"okdhp-edge {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(  # noqa: ARG001
        False, "--version", callback=_print_version, is_eager=True, help="Print the version."
    ),
    json_summary: bool = typer.Option(
        False, "--json-summary", help="Print the JSON result even if stdout is a terminal."
    ),
) -> None:
    """Global options."""
    settings.json_summary = json_summary


def expand_home(words: Iterable[str]) -> list[str]:
    """`~` in `--out=~/models` too: a shell expands it only where a word begins."""
    split = [word.partition("=") for word in words]
    return [
        name + equals + str(Path(value).expanduser())
        if name.startswith("--") and value.startswith("~/")
        else name + equals + value
        for name, equals, value in split
    ]


def main() -> None:
    """Entry point."""
    try:
        # Some libraries abort silently if the working directory does not exist.
        Path.cwd()
        app(expand_home(sys.argv[1:]))
    except OSError as error:
        # Raised before a command starts: --help on a full disk, a deleted working directory.
        drop_stdout()
        sys.exit(f"error: {error.strerror or error}; check stdout and the working directory")
