"""Open a source from its `--source` description."""

import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

from okdhp_edge.data.image_file import IMAGE_SUFFIXES
from okdhp_edge.errors import SourceError
from okdhp_edge.run.sources.base import Source
from okdhp_edge.run.sources.camera import (
    NO_WEBCAM_REMEDY,
    CameraSettings,
    open_gstreamer,
    open_webcam,
)
from okdhp_edge.run.sources.images import ImageSource, list_images
from okdhp_edge.run.sources.raw import RawSource, ScreenSource
from okdhp_edge.system.redact import redact_address

_MAX_PIXELS = 1 << 27
_WEBCAM_PATTERN = re.compile(r"webcam(?::(\d+))?")
_NUMBER_PATTERN = r"(\d+(?:\.\d+)?)"
_REMEDY = "use a video, image, folder, URL or webcam[:N]; `okdhp-edge run --help` lists all"


def is_webcam(text: str) -> bool:
    """Whether a source is a camera of this machine, which takes `CameraSettings`."""
    return _WEBCAM_PATTERN.fullmatch(text) is not None


def check_source(text: str) -> None:
    """Refuse what cannot be there, without opening anything: before a model is loaded and timed.

    Raises:
        SourceError: a file or a camera that does not exist.
    """
    if match := _WEBCAM_PATTERN.fullmatch(text):
        device = Path(f"/dev/video{match[1] or 0}")
        if sys.platform == "linux" and not device.exists():
            raise SourceError(
                f"webcam {match[1] or 0} cannot be opened (no {device})", NO_WEBCAM_REMEDY
            )
    elif not any(pattern.fullmatch(text) for pattern, _ in _SOURCE_OPENERS):
        _require_existing(text)


def count_images(texts: Sequence[str]) -> int | None:
    """How many still images the sources hold; None where one of them is a stream."""
    counts = [_count_images(text) for text in texts]
    return None if None in counts else sum(count or 0 for count in counts)


def _count_images(text: str) -> int | None:
    path = Path(text).expanduser()
    if any(pattern.fullmatch(text) for pattern, _ in _SOURCE_OPENERS) or not path.exists():
        return None
    if path.is_dir():
        return len(list_images(path, []))
    return 1 if path.suffix.lower() in IMAGE_SUFFIXES else None


def _require_existing(text: str) -> Path:
    path = Path(text).expanduser()
    if not path.exists():
        raise SourceError(f"source {redact_address(text)} does not exist", _REMEDY)
    return path


def open_source(text: str, wanted: CameraSettings = CameraSettings()) -> Source:  # noqa: B008
    """Open a source by its description (`okdhp-edge run --help` lists them).

    Args:
        wanted: size and rate to ask of a camera.

    Raises:
        SourceError: nothing of that name can be opened.
    """
    for pattern, opened in _SOURCE_OPENERS:
        if match := pattern.fullmatch(text):
            return opened(match, wanted)
    return _open_path(text, wanted)


def _open_webcam(match: re.Match[str], wanted: CameraSettings) -> Source:
    return open_webcam(int(match[1] or 0), wanted)


def _open_synthetic(match: re.Match[str], wanted: CameraSettings) -> Source:  # noqa: ARG001
    # It loads numpy's random generators, 3 MB that no other source needs.
    from okdhp_edge.run.sources import synthetic

    return synthetic.SyntheticSource(
        int(match[1] or synthetic.DEFAULT_NUM_FRAMES), _parse_rate(match[2])
    )


def _open_stdin(match: re.Match[str], wanted: CameraSettings) -> Source:  # noqa: ARG001
    size = int(match[1]), int(match[2])
    if not 0 < size[0] * size[1] <= _MAX_PIXELS:
        raise SourceError(
            f"frames of {size[0]}x{size[1]} cannot be read",
            "give the frame size: stdin:WxH",
        )
    if sys.stdin is None:
        raise SourceError("stdin is closed", "pipe the frames into this command")
    return RawSource(cast(Any, sys.stdin.buffer).raw, size, _parse_rate(match[3]))


def _open_screen(match: re.Match[str], wanted: CameraSettings) -> Source:  # noqa: ARG001
    region = tuple(int(v) for v in match.groups()[:4]) if match[1] else None
    return ScreenSource(cast(tuple[int, int, int, int] | None, region), _parse_rate(match[5]))


def _open_pipeline(match: re.Match[str], wanted: CameraSettings) -> Source:  # noqa: ARG001
    return open_gstreamer(match[1])


def _parse_rate(text: str | None) -> float | None:
    if text is None:
        return None
    if float(text) <= 0:
        raise SourceError(f"invalid frame rate {text}", "use a rate above 0")
    return float(text)


def _open_address(match: re.Match[str], wanted: CameraSettings) -> Source:  # noqa: ARG001
    """A video file behind an address has an end, a camera has none."""
    # PyAV is imported for those who read videos alone.
    from okdhp_edge.run.sources.network import open_network_camera
    from okdhp_edge.run.sources.videos import VideoSource

    address = match[0]
    camera = open_network_camera(address)
    if address.startswith("http") and camera.get_frame_count() > 0:
        camera.close()
        return VideoSource(address)
    return camera


def _open_path(text: str, wanted: CameraSettings) -> Source:
    path = Path(text).expanduser()
    if path.is_char_device() or str(path).startswith("/dev/video"):
        return open_webcam(str(path), wanted)
    path = _require_existing(text)
    if path.is_dir() or path.suffix.lower() in IMAGE_SUFFIXES:
        return ImageSource(path)
    from okdhp_edge.run.sources.videos import VideoSource

    return VideoSource(path)


_SOURCE_OPENERS: tuple[
    tuple[re.Pattern[str], Callable[[re.Match[str], CameraSettings], Source]], ...
] = (
    (_WEBCAM_PATTERN, _open_webcam),
    (re.compile(rf"synthetic(?::(\d+))?(?:@{_NUMBER_PATTERN})?"), _open_synthetic),
    (re.compile(rf"stdin:(\d+)x(\d+)(?:@{_NUMBER_PATTERN})?"), _open_stdin),
    (re.compile(rf"screen(?::(\d+),(\d+),(\d+),(\d+))?(?:@{_NUMBER_PATTERN})?"), _open_screen),
    (re.compile(r"gst:(.+)"), _open_pipeline),
    (re.compile(r"(?:rtsps?|rtmp|https?|udp|tcp|srt)://.+"), _open_address),
)
