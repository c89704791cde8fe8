"""Console output of all commands: messages on stderr, one JSON line on stdout, exit codes."""

import errno
import functools
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, ParamSpec, TypeVar

import typer
from rich.console import Console

from okdhp_edge.errors import OkdhpError, OutputError, to_one_line
from okdhp_edge.system.files import CLOSED_PIPE_REMEDY
from okdhp_edge.system.progress import Report

P = ParamSpec("P")
R = TypeVar("R")

console = Console(stderr=True)
_LOG_INTERVAL_S = 60.0


class _Settings:
    """Global options, given before the subcommand."""

    json_summary = False


settings = _Settings()


def handle_errors(command: Callable[P, R]) -> Callable[P, R]:
    """Report expected errors as one line on stderr and exit with their code."""

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


# Where a package is not one of the extra `all`.
_EXTRAS = {"pyarrow": "batch", "fsspec": "batch", "ray": "cluster", "sleap_io": "import",
           "mss": "screen", "pillow_heif": "heif"}  # fmt: skip
# numpy raises MemoryError; C++ libraries only say so in their messages.
_OUT_OF_MEMORY_PHRASES = (
    "bad_alloc", "allocate memory", "Insufficient memory", "can't start new thread",
    "failed to map",
)  # fmt: skip


def _describe_expected_error(error: Exception) -> str | None:
    """The message of an expected error; None for a bug in this code."""
    if isinstance(error, OkdhpError):
        return str(error)
    if isinstance(error, ModuleNotFoundError):
        return _describe_missing_package(error)
    if isinstance(error, MemoryError) or any(sign in str(error) for sign in _OUT_OF_MEMORY_PHRASES):
        return ("out of memory; close other programs, or use smaller images, smaller batches or "
                "fewer --workers")  # fmt: skip
    return _describe_os_error(error)


def _describe_missing_package(error: ModuleNotFoundError) -> str | None:
    package = (error.name or "").split(".")[0]
    if package == __package__.split(".")[0]:
        return None
    extra = _EXTRAS.get(package, "all")
    return (f"package '{package}' is not installed; install the extra this command needs "
            f"(see `okdhp-edge doctor`), or run pip install okdhp-edge[{extra}]")  # fmt: skip


def _describe_os_error(error: Exception) -> str | None:
    """The message of an operating system error: its text, the file and a remedy."""
    if isinstance(error, RuntimeError) and "home directory" in str(error):  # pathlib's, of ~name
        return "unknown user in a '~' path; give the full path"
    if isinstance(error, UnicodeEncodeError):
        return ("a file name is not valid UTF-8; rename the file, or set PYTHONUTF8=1 if the name "
                "is correct")  # fmt: skip
    if not isinstance(error, OSError):
        return None
    remedy = _REMEDY_BY_ERRNO.get(error.errno or 0, "check the path and its permissions")
    if error.errno == errno.EACCES and not error.filename:
        remedy = "worker processes need shared memory: check the permissions of /dev/shm"
    name = f" ({to_one_line(str(error.filename), 120)})" if error.filename else ""
    return f"{to_one_line(error.strerror or str(error), 120)}{name}; {remedy}"


_REMEDY_BY_ERRNO = {
    errno.EMFILE: "raise the open file limit (ulimit -n)",
    errno.ENOSPC: "free up disk space, or choose another location",
    errno.EPIPE: CLOSED_PIPE_REMEDY,
    errno.ENOENT: "check that the working directory still exists",
}


def _escape_markup(text: str) -> str:
    """One line, with Rich's markup switched off."""
    return " ".join(text.split()).replace("[", r"\[")


def say(text: str) -> None:
    """Print a line to stderr."""
    console.print(_escape_markup(text), soft_wrap=True, highlight=False)


def print_json(record: Mapping[str, Any]) -> None:
    """Print the command's result as JSON, the last line of stdout. On a terminal, which already
    shows the table, only with `--json-summary`; nothing if stdout is closed."""
    if sys.stdout is None or (sys.stdout.isatty() and not settings.json_summary):
        return
    try:
        sys.stdout.write(json.dumps(record, allow_nan=False) + "\n")
        sys.stdout.flush()
    except OSError as error:
        drop_stdout()
        raise OutputError(
            f"the result cannot be written to standard output ({error.strerror})",
            "check the program that reads it",
        ) from error


def drop_stdout() -> None:
    """Discard buffered output, which the interpreter would otherwise flush again at exit."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def progress() -> Iterator[Report]:
    """Progress bars with the remaining time, one per stage; finished stages stay visible. Without
    a terminal, a plain line when a stage ends and at most one per minute."""
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
    """Log a stage when it ends and at most once per minute."""
    written: dict[str, float] = {}
    ended: set[str] = set()

    def report(stage: str, done: int, total: int, note: str) -> None:
        now = time.monotonic()
        has_ended = 0 < total <= done
        is_due = now - written.setdefault(stage, now) >= _LOG_INTERVAL_S
        if stage in ended or not (has_ended or is_due):
            return
        if has_ended:
            ended.add(stage)
        written[stage] = now
        say(f"{stage} {done}/{total or '?'} {note}".rstrip())

    return report


def table(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table to stderr."""
    from rich.table import Table

    shown = Table(*map(_escape_markup, headings), title=_escape_markup(title), title_justify="left")
    for row in rows:
        shown.add_row(*(_escape_markup(cell) for cell in row))
    console.print(shown)


def format_command_line() -> str:
    """The command as typed, for cards and results; paths outside the project become PATH."""
    return " ".join(["okdhp-edge", *(_redact_path(word) for word in sys.argv[1:])])


def _redact_path(word: str) -> str:
    return ",".join(_redact_part(part) for part in re.split(r"(?<!\\),", word))


def _redact_part(word: str) -> str:
    option, equals, value = word.rpartition("=") if word.startswith("-") else ("", "", word)
    parts = value.split(":")
    outside = (i for i, part in enumerate(parts) if part.startswith(("/", "~", "..", "\\")))
    first = next(outside, None)
    redacted = value if first is None else ":".join([*parts[:first], "PATH"])
    return f"{option}{equals}{redacted}"
