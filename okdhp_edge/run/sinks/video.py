"""Annotated video files."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import cv2
import numpy as np
from av.container import OutputContainer
from av.video.frame import PictureType

from okdhp_edge.errors import OutputError
from okdhp_edge.pose.preprocess import Image, resize_within
from okdhp_edge.run.pipeline import FrameResult
from okdhp_edge.run.sinks.base import check_writable
from okdhp_edge.system.files import wrap_write_errors

_AVI_CODEC = "mjpeg"
_CODECS = {
    ".mp4": ("mpeg4", "yuv420p"), ".mov": ("mpeg4", "yuv420p"), ".mkv": ("mpeg4", "yuv420p"),
    ".avi": (_AVI_CODEC, "yuvj420p"),
}  # fmt: skip
# FFmpeg's AVI writer refuses a frame more than 60,000 after the one before.
_MAX_AVI_GAP_FRAMES = 30_000
_MAX_MPEG4_PX = 8191
_MAX_FRAGMENT_S = 1.0
# Of a container's rate; the frames stand at their own times whatever it is.
_MIN_FPS, _MAX_FPS = 0.01, 1000.0
_FRAGMENTED_MP4_OPTIONS = {
    "movflags": "frag_keyframe+empty_moov+default_base_moof",
    "flush_packets": "1",
}
_CONTAINER_OPTIONS = {
    ".mp4": _FRAGMENTED_MP4_OPTIONS, ".mov": _FRAGMENTED_MP4_OPTIONS,
    ".avi": {"flush_packets": "1"},
    ".mkv": {"cluster_time_limit": "1000", "flush_packets": "1"},
}  # fmt: skip


class VideoSink:
    """An annotated video, as long as its source: each frame stands at its own time.

    MP4 and MOV are written in fragments of a second, Matroska in clusters: whatever ends a run,
    what was written before plays. The first two seconds go to a hidden file (a leading dot), since
    no player opens it before; until then an old video of that name stays.
    """

    wants_image = True

    def __init__(self, path: Path, fps: float) -> None:
        self._path, self._fps = path, fps
        if path.suffix.lower() not in _CODECS:
            raise OutputError(f"{path} has no video suffix", f"use one of {', '.join(_CODECS)}")
        self._codec, self._pixels = _CODECS[path.suffix.lower()]
        self._container: OutputContainer | None = None
        self._closed = False
        self._size = (0, 0)
        self._last = -1
        self._keyframes, self._key_s = 0, 0.0
        # A pipe or device is written into as it is.
        replaceable = not path.exists() or path.is_file()
        hidden = path.with_name(f".{os.getpid()}-{path.name}")
        self._growing = hidden if replaceable else path
        check_writable(path)

    def write(self, result: FrameResult, annotated: Image) -> bool:
        """Encode the annotated frame at its own time; True: the run goes on.

        Raises:
            OutputError: the file cannot be written.
        """
        if self._container is None:
            self._open((annotated.shape[1], annotated.shape[0]))
        if self._size != (annotated.shape[1], annotated.shape[0]):
            # A video has one size.
            annotated = fit_to_size(annotated, self._size)
        frame = av.VideoFrame.from_ndarray(_pad_to_even(annotated), format="bgr24")
        # Times never stand still, whatever a source says of its frames.
        due = max(self._last + 1, round(result.frame.seconds / self._step))
        frame.time_base = self._step
        while self._codec == _AVI_CODEC and due - self._last > _MAX_AVI_GAP_FRAMES:
            self._last += _MAX_AVI_GAP_FRAMES
            frame.pts = self._last
            self._mux(frame)
        frame.pts = self._last = due
        if result.frame.seconds - self._key_s >= _MAX_FRAGMENT_S:  # also of a slow loop's frames
            frame.pict_type, self._key_s = PictureType.I, result.frame.seconds
        self._mux(frame)
        return True

    def _open(self, size: tuple[int, int]) -> None:
        suffix = self._path.suffix.lower()
        if max(size) > _MAX_MPEG4_PX and self._codec == "mpeg4":
            raise OutputError(
                f"{self._path}: MPEG-4 supports at most {_MAX_MPEG4_PX} pixels per side, not "
                f"{size[0]}x{size[1]}",
                "save it as .avi",
            )
        rate = Fraction(min(max(self._fps, _MIN_FPS), _MAX_FPS)).limit_denominator(1001)
        # AVI knows no times, only a rate.
        self._step = 1 / rate if suffix == ".avi" else Fraction(1, 1000)
        with _wrap_ffmpeg_errors(self._path):
            self._container = av.open(
                f"file:{self._growing}", "w", options=_CONTAINER_OPTIONS[suffix]
            )
        self._size = size
        stream = cast(av.VideoStream, self._container.add_stream(self._codec, rate=rate))
        stream.width, stream.height = (side + side % 2 for side in size)
        stream.pix_fmt = self._pixels
        stream.gop_size = max(1, round(rate))
        stream.bit_rate = _choose_bit_rate(size)
        stream.codec_context.time_base = self._step
        self._stream = stream

    def _mux(self, frame: av.VideoFrame | None) -> None:
        assert self._container is not None
        with _wrap_ffmpeg_errors(self._path):
            for packet in self._stream.encode(frame):
                self._container.mux(packet)
                self._keyframes += packet.is_keyframe
            # MP4 writes a fragment out with the next one's keyframe, Matroska one frame after it.
            if self._keyframes > 2:
                self._show()

    def _show(self) -> None:
        if self._growing != self._path:
            self._growing.replace(self._path)
            self._growing = self._path

    def _show_or_drop(self) -> None:
        """A file without a frame takes no other's place."""
        if self._keyframes:
            self._show()
        elif self._growing != self._path:
            self._growing.unlink(missing_ok=True)

    def close(self, *, success: bool) -> None:
        """Flush the encoder and close the file; what was recorded stays, whatever ended the run."""
        if self._closed or self._container is None:
            return
        self._closed = True
        try:
            self._mux(None)
        except OutputError:
            if success:
                raise
        finally:
            with _wrap_ffmpeg_errors(self._path):
                try:
                    self._container.close()
                finally:
                    self._show_or_drop()


@contextmanager
def _wrap_ffmpeg_errors(path: Path) -> Iterator[None]:
    """FFmpeg's refusals as ours, a full disk among them."""
    with wrap_write_errors(path):
        try:
            yield
        except av.FFmpegError as error:
            # OSError's number and text, where it is one.
            raise OSError(error.errno, error.strerror) from error


def _choose_bit_rate(size: tuple[int, int]) -> int:
    """About what OpenCV gave: sharp lines without the size of single images."""
    return max(1_000_000, 8 * size[0] * size[1])


def _pad_to_even(image: Image) -> Image:
    """With an even width and height, as colours at half the resolution need."""
    bottom, right = image.shape[0] % 2, image.shape[1] % 2
    if not bottom and not right:
        return np.ascontiguousarray(image)
    return cv2.copyMakeBorder(image, 0, bottom, 0, right, cv2.BORDER_REPLICATE).astype("uint8")


def fit_to_size(image: Image, size: tuple[int, int]) -> Image:
    """The whole image within (width, height), on black."""
    small = resize_within(image, size)
    bottom, right = size[1] - small.shape[0], size[0] - small.shape[1]
    return cv2.copyMakeBorder(small, 0, bottom, 0, right, cv2.BORDER_CONSTANT).astype("uint8")
