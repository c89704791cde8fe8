"""How every command talks: people on stderr, one JSON line at the end of stdout, exit codes."""

import errno
import functools
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, ParamSpec, TypeVar

import typer
from rich.console import Console

from okdhp_edge.errors import OkdhpError, OutputError, to_one_line
from okdhp_edge.system.progress import Report

P = ParamSpec("P")
R = TypeVar("R")

console = Console(stderr=True)
_LOG_INTERVAL_S = 60.0


class _Settings:
    """Options of the command itself, before a subcommand's."""

    json_summary = False


settings = _Settings()


def handle_errors(command: Callable[P, R]) -> Callable[P, R]:
    """Turn expected errors into one line on stderr and their exit code."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except KeyboardInterrupt:
            console.print("stopped", soft_wrap=True)
            raise typer.Exit(130) from None
        except Exception as error:
            line = _describe_expected_error(error)
            if line is None:
                raise
            console.print(f"[bold red]error:[/] {_escape_markup(line)}", soft_wrap=True)
            code = error.exit_code if isinstance(error, OkdhpError) else 1
            raise typer.Exit(code) from error

    return run


# What numpy raises as MemoryError, libraries in C++ say in words.
_OUT_OF_MEMORY_PHRASES = (
    "bad_alloc", "allocate memory", "Insufficient memory", "can't start new thread",
    "failed to map",
)  # fmt: skip


def _describe_expected_error(error: Exception) -> str | None:
    """The line for an error that is not a mistake in this code; None for all others."""
    if isinstance(error, OkdhpError):
        return str(error)
    if isinstance(error, ModuleNotFoundError):
        return _describe_missing_package(error)
    if isinstance(error, MemoryError) or any(sign in str(error) for sign in _OUT_OF_MEMORY_PHRASES):
        return ("the memory of this machine or process is used up; end other programs, or give "
                "smaller pictures, batches or fewer --workers")  # fmt: skip
    return _describe_os_error(error)


def _describe_missing_package(error: ModuleNotFoundError) -> str | None:
    package = (error.name or "").split(".")[0]
    if package == __package__.split(".")[0]:
        return None
    return (f"package '{package}' is not installed; install the extra that this command needs "
            "(`okdhp-edge doctor` lists them), as pip install okdhp-edge[all]")  # fmt: skip


def _describe_os_error(error: Exception) -> str | None:
    """Of the operating system: what it says, of which file, and what can be done."""
    if isinstance(error, RuntimeError) and "home directory" in str(error):  # pathlib's, of ~name
        return "a path begins with ~ of an unknown user; give the whole path"
    if isinstance(error, UnicodeEncodeError):
        return ("a name is not text in UTF-8; rename the file, or set PYTHONUTF8=1 where the name "
                "is right")  # fmt: skip
    if not isinstance(error, OSError):
        return None
    remedy = _REMEDY_BY_ERRNO.get(error.errno or 0, "check the path and its permissions")
    name = f" ({to_one_line(str(error.filename), 120)})" if error.filename else ""
    return f"{to_one_line(error.strerror or str(error), 120)}{name}; {remedy}"


_REMEDY_BY_ERRNO = {
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENOSPC: "free space, or choose another place",
    errno.EPIPE: "the program that reads the output has ended",
    errno.ENOENT: "check that the folder of this command still exists",
}


def _escape_markup(text: str) -> str:
    """One line, with Rich's markup switched off."""
    return " ".join(text.split()).replace("[", r"\[")


def say(text: str) -> None:
    """A line for people."""
    console.print(_escape_markup(text), soft_wrap=True, highlight=False)


def emit(record: Mapping[str, Any]) -> None:
    """The command's result: the last line of stdout, JSON, for programs. On a terminal, where the
    table has said it, only with `--json-summary`; a closed stdout wants none."""
    if sys.stdout is None or (sys.stdout.isatty() and not settings.json_summary):
        return
    try:
        sys.stdout.write(json.dumps(record, allow_nan=False) + "\n")
        sys.stdout.flush()
    except OSError as error:
        drop_stdout()
        raise OutputError(
            f"the result cannot be written to standard output ({error.strerror})",
            "check what reads it",
        ) from error


def drop_stdout() -> None:
    """Let what is still buffered go nowhere: the interpreter would try it again at its end."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def progress() -> Iterator[Report]:
    """Bars with time left, one per stage; a stage that is done leaves its line. In a log, where no
    terminal is, a plain line for each stage that ends, and one a minute."""
    if not console.is_terminal:
        yield _make_log_reporter()
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console) as bars:
        tasks: dict[str, Any] = {}

        def report(stage: str, done: int, total: int, note: str) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total, note=note)
            total = max(total, done) if total == 0 else total
            bars.update(tasks[stage], completed=min(done, total), total=total,
                        note=_escape_markup(note))  # fmt: skip

        yield report


def _make_log_reporter() -> Report:
    """Lines of a stage: when it ends, and once a minute."""
    written: dict[str, float] = {}

    def report(stage: str, done: int, total: int, note: str) -> None:
        now = time.monotonic()
        ended = 0 < total <= done
        if not ended and now - written.setdefault(stage, now) < _LOG_INTERVAL_S:
            return
        written[stage] = now
        say(f"{stage} {done}/{total or '?'} {note}".rstrip())

    return report


def table(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table for people."""
    from rich.table import Table

    shown = Table(*headings, title=title, title_justify="left")
    for row in rows:
        shown.add_row(*(_escape_markup(cell) for cell in row))
    console.print(shown)


def format_command_line() -> str:
    """What the person typed, for cards and results; places outside the project become PATH."""
    return " ".join(["okdhp-edge", *(_redact_path(word) for word in sys.argv[1:])])


def _redact_path(word: str) -> str:
    kind, colon, path = word.rpartition(":")
    return f"{kind}{colon}PATH" if path.startswith(("/", "~", "..")) else word
