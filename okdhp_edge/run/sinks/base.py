"""The interface of every sink."""

import os
from pathlib import Path
from typing import Protocol

from okdhp_edge.errors import OutputError
from okdhp_edge.pose.preprocess import Image
from okdhp_edge.run.pipeline import FrameResult


class Sink(Protocol):
    """Takes each frame's result."""

    @property
    def wants_image(self) -> bool:
        """Whether it would now look at the image with the skeletons in it."""
        ...

    def write(self, result: FrameResult, annotated: Image) -> bool:
        """Store or show; False asks the loop to end."""
        ...

    def close(self, *, success: bool) -> None:
        """Finish; `success` is False where the run ended in an error. What was written before is
        kept whole in either case. Safe to call twice."""
        ...


def check_writable(path: Path) -> None:
    """Say before a run what would go wrong at its end.

    Raises:
        OutputError: a file of this name cannot be written.
    """
    if not path.parent.is_dir():
        raise OutputError(f"folder {path.parent} does not exist", "create it first")
    if not os.access(path.parent, os.W_OK) or path.is_dir():
        raise OutputError(f"cannot write {path}", "check permissions, or choose another location")
