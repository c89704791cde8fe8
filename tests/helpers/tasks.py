"""Work for executors. Workers import this module: it imports nothing that takes long."""

import os
import signal
import time
from pathlib import Path

from okdhp_edge.errors import DataError


def add(shared: int, task: int) -> int:
    if task < 0:
        raise DataError(f"{task} is negative", "use another")
    return shared + task


def die_once(folder: Path, task: int) -> int:
    """Kill this worker at the first attempt of each task."""
    mark = folder / f"died-{task}"
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return task


def die(_: Path, task: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return task


def sleep_for_long(folder: Path, _: str) -> None:
    (folder / f"{os.getpid()}.pid").touch()
    time.sleep(600)


def die_at_zero(_: Path, task: int) -> int:
    if task == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return task


def fail_at_zero(_: None, task: int) -> int:
    """The first task fails at once; others take an hour."""
    if task:
        time.sleep(3600)
    raise DataError("no", "use another")
