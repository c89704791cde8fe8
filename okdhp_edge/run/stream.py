"""The loop as an iterator, for programs: `for frame, poses in stream("webcam"): ...`"""

import logging
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Literal, NamedTuple

from okdhp_edge.backends.choose import load_backend
from okdhp_edge.pose.preprocess import Image
from okdhp_edge.pose.result import Pose
from okdhp_edge.run.assemble import People, assemble
from okdhp_edge.run.controls import Controls
from okdhp_edge.run.reader import FramePolicy
from okdhp_edge.run.sources.open import open_source

_log = logging.getLogger(__name__)


class Result(NamedTuple):
    """A picture (H, W, 3) uint8 BGR, and everybody found in it."""

    frame: Image
    poses: list[Pose]


def stream(
    source: str = "webcam",
    *,
    model: str | None = None,
    backend: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
    people: Literal["one", "many"] = "one",
    detector: str | Path | None = None,
    smooth: bool = False,
    stride: int = 1,
    max_fps: float | None = None,
    live: bool | None = None,
) -> Iterator[Result]:
    """Frames of a source and the people in them, estimated while the caller looks at the last.

    Of a camera the newest frame is taken whenever the caller comes for the one before it, so that a
    frame is never older than one round of the caller's loop; of a file, every frame.
    Leaving the loop closes camera and model. The arguments are those of `okdhp-edge run`; what
    `auto` chose is logged.

    Raises:
        OkdhpError: model, source or detector cannot be used, or the source broke.
    """
    with ExitStack() as closing:
        loaded, _ = load_backend(model, backend, precision, threads, _log.info, tune_threads=True)
        closing.enter_context(loaded)
        asked = People(
            how_many=people, detector=Path(detector) if detector else None, smooth=smooth
        )
        policy = FramePolicy(live=live, stride=stride, max_fps=max_fps)
        pipeline = assemble([open_source(source)], loaded, asked, policy, Controls(), closing)
        for seen in closing.enter_context(pipeline):
            yield Result(seen.frame.image, seen.poses)
