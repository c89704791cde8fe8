"""The command line in a child with limits, without its start: what a stranger's file does to it."""

import os
import resource
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import NamedTuple

HANG_S = 20
MAX_BYTES = 2**30
_EXIT_CODES = (0, 1, 2, 3)


class Ended(NamedTuple):
    """How a command ended.

    Attributes:
        fault: what is wrong with it; empty where nothing is.
    """

    code: int
    stderr: str
    seconds: float
    megabytes: float
    fault: str


def run_command(folder: Path, words: tuple[str, ...]) -> Ended:
    """Run `okdhp-edge WORDS` in `folder`, in a fork of this process, which must not have started a
    runtime's threads. Faults: a traceback, a signal, more than one line of error, 20 s, 1 GiB."""
    said = folder / "stderr.txt"
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        _in_child(folder, said, words)
    _, status, usage = os.wait4(child, 0)
    seconds = time.monotonic() - started
    megabytes = usage.ru_maxrss / 1024
    text = said.read_text(errors="replace")
    code = os.waitstatus_to_exitcode(status)
    return Ended(code, text, seconds, megabytes, _fault(code, text, seconds, megabytes))


def _fault(code: int, text: str, seconds: float, megabytes: float) -> str:
    if code < 0:
        return "hang" if -code == signal.SIGALRM else f"signal {-code}"
    if "Traceback" in text or code not in _EXIT_CODES:
        return "traceback"
    if seconds > HANG_S or megabytes > MAX_BYTES / 2**20:
        return f"{seconds:.0f} s, {megabytes:.0f} MiB"
    errors = [line for line in text.splitlines() if line.startswith("error:")]
    # `data check` ends with 1 and its list.
    if code == 1 and len(errors) != 1 and " fatal" not in text:
        return "no line of error" if not errors else "several errors"
    return "long message" if errors and len(errors[0]) > 400 else ""


def _in_child(folder: Path, said: Path, words: tuple[str, ...]) -> None:
    code = 70
    try:
        os.setsid()
        handle = os.open(said, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
        os.dup2(handle, 2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.chdir(folder)
        signal.alarm(HANG_S)
        # Address space, which is more than is used: libraries reserve.
        resource.setrlimit(resource.RLIMIT_AS, (6 * MAX_BYTES, 6 * MAX_BYTES))
        sys.argv = ["okdhp-edge", *words]
        from rich.console import Console

        from okdhp_edge.cli import console
        from okdhp_edge.cli.main import main

        console.console = Console(stderr=True, file=os.fdopen(2, "w", errors="replace"), width=200)
        main()
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 0 if error.code is None else 1
        if isinstance(error.code, str):
            os.write(2, error.code.encode(errors="replace"))
    except BaseException:
        os.write(2, traceback.format_exc().encode(errors="replace"))
    os._exit(code)
