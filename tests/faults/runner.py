"""Each broken file is read in a child of its own, so that a crash or a hang is only counted."""

import os
import random
import resource
import shutil
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import NamedTuple

from okdhp_edge.errors import OkdhpError
from tests.faults.mutations import mutate
from tests.faults.targets import TARGETS, Target

HANG_S = 10
MOST_MEMORY = 2**30
"""Bytes that reading one small file may add."""
_EXIT_READ, _EXIT_REFUSED, _EXIT_TRACEBACK, _EXIT_MEMORY, _EXIT_LONG_MESSAGE = 0, 3, 4, 5, 6
_MAX_MESSAGE_CHARS = 300
OUTCOMES = {
    _EXIT_READ: "read", _EXIT_REFUSED: "refused", _EXIT_TRACEBACK: "traceback",
    _EXIT_MEMORY: "memory", _EXIT_LONG_MESSAGE: "message",
}  # fmt: skip
BAD = ("traceback", "memory", "message", "crash", "hang", "escape")


class Case(NamedTuple):
    """One broken file and what came of it."""

    target: str
    seed: int
    outcome: str
    said: str


def try_case(target: Target, valid: Path, scratch: Path, seed: int) -> Case:
    """Break a copy of the valid files and read it."""
    folder = scratch / "case"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(valid, folder)
    mutate(folder / target.file, random.Random(f"{target.name} {seed}"))
    log = scratch / "said.txt"
    log.write_text("")
    before = sorted(p.name for p in scratch.iterdir())
    child = os.fork()
    if child == 0:
        _in_child(target, folder, log)
    outcome = _outcome(child)
    if sorted(p.name for p in scratch.iterdir()) != before:
        outcome = "escape"
    return Case(target.name, seed, outcome, log.read_text(errors="replace")[-2000:])


def _in_child(target: Target, folder: Path, log: Path) -> None:
    code = _EXIT_READ
    try:
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, 1)
        os.dup2(devnull, 2)
        os.chdir(folder)
        signal.alarm(HANG_S)
        started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            target.read(folder)
        except OkdhpError as error:
            text = str(error)
            code = (
                _EXIT_LONG_MESSAGE
                if "\n" in text or len(text) > _MAX_MESSAGE_CHARS
                else _EXIT_REFUSED
            )
            log.write_text(text, errors="replace")
        used = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - started) * 1024
        if used > MOST_MEMORY:
            code = _EXIT_MEMORY
            log.write_text(f"{used / 2**20:.0f} MiB")
    except BaseException:
        code = _EXIT_TRACEBACK
        log.write_text(traceback.format_exc(), errors="replace")
    os._exit(code)


def _outcome(child: int) -> str:
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return "hang" if os.WTERMSIG(status) == signal.SIGALRM else "crash"
    return OUTCOMES.get(os.WEXITSTATUS(status), "crash")


def try_many(
    valid: dict[str, Path], scratch: Path, count: int, seed: int, *, only: str = "", verbose=False
) -> list[Case]:
    """`count` cases, the targets in turns."""
    targets = [t for t in TARGETS if only in t.name]
    found = []
    started = time.monotonic()
    for number in range(count):
        target = targets[number % len(targets)]
        case = try_case(target, valid[target.name], scratch, seed + number // len(targets))
        found.append(case)
        if verbose and (number + 1) % 500 == 0:
            rate = (number + 1) / (time.monotonic() - started)
            bad = sum(c.outcome in BAD for c in found)
            sys.stderr.write(f"{number + 1} of {count}, {rate:.0f}/s, {bad} bad\n")
    return found
