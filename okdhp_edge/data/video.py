"""The frames of a video file, or of an address that has an end: every one, in its own shape.

OpenCV's reader scales all frames to the size of the first and guesses rates and ends; here what the
stream itself says is used.
"""

import itertools
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import av
from av.video.reformatter import VideoReformatter

from okdhp_edge.data.video_frame import convert_frame
from okdhp_edge.errors import DataError
from okdhp_edge.pose.preprocess import Image

# 8K: a decoder keeps up to sixteen frames beside the one in hand.
_MAX_PIXELS = 7680 * 4320
_FALLBACK_FPS, _MAX_FPS = 30.0, 1000.0
_TIMEOUT_S, _LIVE_TIMEOUT_S = 10.0, 5.0
_MAX_GAP_S = 300.0
_MAX_DAMAGED_IN_A_ROW = 300
# An MPEG transport stream has no index: seconds before a time from which it is decoded, in turn.
_SEEK_BACK_S = (0.0, 2.0, 10.0, 60.0, math.inf)
# How far before its announced end a whole video may stop.
_MAX_MISSING_END_S, _MAX_MISSING_END_SHARE = 1.0, 0.05


class TimedImage(NamedTuple):
    """A decoded frame.

    Attributes:
        image: (H, W, 3) BGR, turned as the file says.
        seconds: since the stream's own start.
    """

    image: Image
    seconds: float


class VideoReader:
    """Reads a video from its first frame to its last. Use from one thread at a time.

    Args:
        place: a file, or an address.
        live: the address is a camera's.
        threads: of the decoder; None: as many as FFmpeg finds cores.

    Attributes:
        fps: the stream's rate.
        is_rate_known: whether the stream says its rate; else times are counted with 30 a second.
        frame_count: frames that the file announces; 0 where it does not say.
        duration_s: length of the video stream itself, without what sound or a late start add; 0
            where the file does not say.
        error: why decoding ended before the end of the file; empty where it did not.
        num_damaged: packets that could not be decoded.
        jumps: (number of the frame, seconds) where the file's clock leaps by minutes, as in joined
            recordings; the times that are given go on with the next step there.

    Raises:
        DataError: no video, or frames larger than 8K.
    """

    def __init__(
        self, place: Path | str, *, live: bool = False, threads: int | None = None
    ) -> None:
        self._name = str(place)
        try:
            # Under a locale without UTF-8 its letters are surrogates in Python.
            name = os.fsencode(self._name).decode()
        except UnicodeError:
            raise DataError(
                f"the file name of video {self._name} is not valid UTF-8", "rename the file"
            ) from None
        # Or a colon in a file's name would be taken for a protocol.
        url = f"file:{name}" if isinstance(place, Path) else name
        try:
            self._container = av.open(
                url, options=_STREAM_OPTIONS | (_LIVE_OPTIONS if live else {}),
                timeout=_LIVE_TIMEOUT_S if live else _TIMEOUT_S,
            )  # fmt: skip
        except (av.FFmpegError, OSError, ValueError) as error:
            raise DataError(
                f"video {self._name} cannot be opened ({_describe_error(error)})",
                "check that FFmpeg can decode it",
            ) from error
        if not self._container.streams.video:
            self.close()
            raise DataError(f"{self._name} has no video stream", "check the file")
        self._stream = self._container.streams.video[0]
        if self._stream.codec_context is None:
            self.close()
            raise DataError(
                f"FFmpeg has no decoder for video {self._name}", "convert it, for example to H.264"
            )
        self._check_size(self._stream.codec_context.width, self._stream.codec_context.height)
        # Threads that decode frames side by side hold back as many.
        self._stream.thread_type = "SLICE" if live else "AUTO"
        self._stream.codec_context.thread_count = threads or 0
        self._stream.codec_context.options = {"max_pixels": str(_MAX_PIXELS)}
        self._convert = VideoReformatter()
        self._frames = self._decode()
        self.fps, self.is_rate_known = self._read_rate()
        self.frame_count = int(self._stream.frames)
        self.duration_s = self._read_duration()
        self.error, self.num_damaged = "", 0
        self.jumps: list[tuple[int, float]] = []
        self._offset: float | None = None
        self._seconds = -1 / self.fps
        self._joins_gaps = True
        self._read = 0

    def read(self) -> TimedImage | None:
        """The next frame; None at the end, also of a file that breaks off (see `error`).

        Raises:
            DataError: a frame larger than 8K.
        """
        frame = next(self._frames, None)
        if frame is None:
            return None
        seconds = self._get_time(frame)
        self._check_size(frame.width, frame.height)
        return TimedImage(convert_frame(frame, self._convert), seconds)

    def skip(self) -> bool:
        """Decode the next frame without converting it; False at the end."""
        frame = next(self._frames, None)
        if frame is not None:
            self._get_time(frame)
        return frame is not None

    def seek(self, seconds: float) -> None:
        """Go to the first frame at or after a time; what follows is read from there.

        From here on times are those of the file's clock, leaps and all, so that each frame has the
        same time wherever reading began.
        """
        base = self._stream.time_base
        start = float((self._stream.start_time or 0) * (base or 0))
        frames: Iterator[av.VideoFrame] = self._decode()
        if base and (seconds > 0 or self._read):
            frames = self._decode_from(start + seconds, start)
        self._offset, self._seconds, self._joins_gaps = start, seconds - 1 / self.fps, False
        self._frames = itertools.dropwhile(
            lambda frame: frame.time is not None and frame.time < start + seconds - 1e-3, frames
        )

    def _decode_from(self, time: float, start: float) -> Iterator[av.VideoFrame]:
        """All frames from a time of the file's clock on, and some before it.

        A container without an index is entered between key frames, where nothing can be decoded up
        to the next one, or only with errors: then further back.
        """
        base = self._stream.time_base
        assert base is not None
        for back in _SEEK_BACK_S:
            is_beginning = time - back <= start
            if is_beginning:  # packets are found by when they are decoded, before they are shown
                self._container.seek(min(0, round(start * av.time_base)))
            else:
                self._container.seek(round((time - back) / base), stream=self._stream)
            frames = self._decode()
            first = next(frames, None)
            if first is None:
                continue
            is_early = first.time is None or first.time <= time + 1e-3
            if is_beginning or (first.key_frame and is_early):
                return itertools.chain([first], frames)
        return iter(())

    def count_frames(self) -> int:
        """Frames that the file announces, else as many as its length and rate make; 0 of a live
        stream."""
        container_s = (self._container.duration or 0) / av.time_base
        return self.frame_count or round((self.duration_s or container_s) * self.fps)

    @property
    def has_times(self) -> bool:
        """Whether the format knows times, by which frames can be sought: not a raw stream."""
        return not self._is_raw

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) that the stream announces; a frame may have another."""
        context = self._stream.codec_context
        return context.width, context.height

    @property
    def is_cut_off(self) -> bool:
        """After the last frame: whether the file ended long before the end it announces.

        Frames before an edit list's start are stored and counted, but not shown: a count that is
        not reached is believed only where the announced length is not reached either.
        """
        if self.duration_s and not self._ends_early():
            return False
        if self.frame_count and self._joins_gaps:  # counted from the beginning
            return (
                self._read
                < self.frame_count * (1 - _MAX_MISSING_END_SHARE) - self.fps * _MAX_MISSING_END_S
            )
        return self._ends_early()

    def has_announced_packets(self) -> bool:
        """Whether the file holds the frames that it announces, whatever they show and for how long,
        or where it announces no number, one near its end.

        Nothing can be read afterwards.
        """
        self._container.seek(0)
        found, last = 0, 0.0
        base = self._stream.time_base or 0
        for packet in self._container.demux(self._stream):
            found += packet.size > 0
            last = max(last, float((packet.pts or 0) * base))
        if self.frame_count:
            return self.frame_count * (1 - _MAX_MISSING_END_SHARE) <= found
        start = float((self._stream.start_time or 0) * base)
        return self.duration_s - (last - start) <= _MAX_MISSING_END_S

    def _ends_early(self) -> bool:
        missing = self.duration_s - self.seconds - sum(gap for _, gap in self.jumps)
        return missing > max(_MAX_MISSING_END_S, _MAX_MISSING_END_SHARE * self.duration_s)

    @property
    def seconds(self) -> float:
        """Of the frame that was read last."""
        return max(self._seconds, 0.0)

    def close(self) -> None:
        """Close the file; safe to call twice."""
        self._container.close()

    def _decode(self) -> Iterator[av.VideoFrame]:
        """All frames; a damaged packet costs its own, and many in a row are the end."""
        damaged_in_a_row = 0
        try:
            for packet in self._container.demux(self._stream):
                try:
                    frames = packet.decode()
                except av.InvalidDataError:
                    self.num_damaged += 1
                    damaged_in_a_row += 1
                    if damaged_in_a_row >= _MAX_DAMAGED_IN_A_ROW:
                        raise
                    continue
                damaged_in_a_row = 0
                yield from frames
        except (av.FFmpegError, OSError) as error:
            self.error = _describe_error(error)

    def _get_time(self, frame: av.VideoFrame) -> float:
        """Where the file puts the frame; by the rate where it does not say, or goes back."""
        step = 1 / self.fps
        self._read += 1
        if frame.time is None or self._is_raw:
            self._seconds += step
            return self._seconds
        if self._offset is None:
            self._offset = frame.time
        time = frame.time - self._offset
        gap = time - self._seconds
        if gap > _MAX_GAP_S and self._joins_gaps:
            self.jumps.append((self._read - 1, gap))
            self._offset += gap - step
            time = self._seconds + step
        self._seconds = time if gap > 0 else self._seconds + step
        return self._seconds

    def _read_rate(self) -> tuple[float, bool]:
        """Raw streams have no times; their rate is in the codec's own header, if anywhere."""
        self._is_raw = self._container.format.name in _RAW_FORMATS
        rates = (
            (self._stream.codec_context.framerate,)
            if self._is_raw
            else (self._stream.average_rate, self._stream.guessed_rate)
        )
        for rate in rates:
            if rate and 0 < float(rate) <= _MAX_FPS:
                return float(rate), True
        return _FALLBACK_FPS, False

    def _read_duration(self) -> float:
        base = self._stream.time_base
        if self._stream.duration and base:
            return float(self._stream.duration * base)
        # Matroska has the stream's length in its tags alone, as 00:00:03.000000000.
        hours, _, rest = self._stream.metadata.get("DURATION", "").partition(":")
        minutes, _, seconds = rest.partition(":")
        begins = float((self._stream.start_time or 0) * (base or 0))
        try:
            # It counts from zero, whenever the stream begins.
            return int(hours) * 3600 + int(minutes) * 60 + float(seconds) - begins
        except ValueError:
            return 0.0

    def _check_size(self, width: int, height: int) -> None:
        if width * height > _MAX_PIXELS:
            self.close()
            raise DataError(
                f"video {self._name} has {width}x{height} frames, larger than 8K",
                "make it smaller: ffmpeg -i FILE -vf scale=1920:-2 SMALLER.mp4",
            )


# As OpenCV asks for streams: whole frames, by TCP.
_LIVE_OPTIONS = {"rtsp_transport": "tcp"}
_RAW_FORMATS = ("h264", "hevc", "m4v", "mpegvideo", "obu", "av1")
# Before a decoder is made, frames are decoded to find out what the stream is.
_STREAM_OPTIONS = {"max_pixels": str(_MAX_PIXELS)}


def _describe_error(error: Exception) -> str:
    """FFmpeg's words, without the place, which the caller names."""
    return getattr(error, "strerror", None) or str(error).splitlines()[0][:80]
