"""Progress callbacks of long operations."""

from collections.abc import Callable

Report = Callable[[str, int, int, str], None]
"""Called with the stage's name, steps done, steps in all (0: not known), and a note."""


def ignore_progress(stage: str, done: int, total: int, note: str) -> None:
    """A `Report` that shows nothing."""


def counter(report: Report, stage: str, total: int, note: str = "") -> Callable[[int], None]:
    """A callback that takes the number of steps done."""
    return lambda done: report(stage, done, total, note)
