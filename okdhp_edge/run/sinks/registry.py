"""The table of file outputs: one line per kind, which `run --write KIND:FILE` knows."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from okdhp_edge.pose.skeleton import Skeleton
from okdhp_edge.run.sinks.base import Sink
from okdhp_edge.run.sinks.images import ImageSink
from okdhp_edge.run.sinks.records import CocoSink, CsvSink, JsonSink
from okdhp_edge.run.sources.base import Source


class OutputRequest(NamedTuple):
    """What a sink is opened for.

    Attributes:
        path: the file to write.
        skeleton: of the model.
        fps: frames a second that come, where a source says so, else 30.
    """

    path: Path
    source: Source
    skeleton: Skeleton
    fps: float


def _open_image_or_video(request: OutputRequest) -> Sink:
    if not request.source.continuous:
        return ImageSink(request.path)
    from okdhp_edge.run.sinks.video import VideoSink  # imports PyAV

    return VideoSink(request.path, request.fps)


SINKS: dict[str, Callable[[OutputRequest], Sink]] = {
    "save": _open_image_or_video,
    "json": lambda request: JsonSink(request.path),
    "coco": lambda request: CocoSink(request.path),
    "csv": lambda request: CsvSink(request.path, request.skeleton),
}
