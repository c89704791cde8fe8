"""Video files: every frame, as fast as requested."""

from pathlib import Path

from okdhp_edge.data.video import VideoReader
from okdhp_edge.errors import DataError, SourceError
from okdhp_edge.pose.preprocess import Image
from okdhp_edge.run.sources.base import Source
from okdhp_edge.system.redact import redact_address

_MAX_SHOWN_JUMPS = 3


class VideoSource(Source):
    """A video file or the address of one, every frame.

    Args:
        threads: of the decoder; None: as many as there are cores.
    """

    _truncated_remedy = "copy it again or re-encode it; results up to there are kept"

    def __init__(self, place: Path | str, threads: int | None = None) -> None:
        super().__init__()
        self.name = redact_address(str(place))
        try:
            self._reader = VideoReader(place, threads=threads)
        except DataError as error:
            # The cause names the place as it was given, with its password.
            raise SourceError(error.cause.replace(str(place), self.name), error.remedy) from error
        self.fps = self._reader.fps
        if not self._reader.is_rate_known:
            self.notes.append(f"the stream has no frame rate: assuming {self.fps:g} FPS")

    def _next(self) -> Image | None:
        found = self._reader.read()
        if found is not None:
            return found.image
        self._check_end()
        return None

    def _check_end(self) -> None:
        """A file that ends long before its announced end is cut off, and that is no end."""
        reader = self._reader
        if self._number == 0:
            why = f" ({reader.error})" if reader.error else ""
            raise SourceError(
                f"no frame of video {self.name} can be decoded{why}",
                "check that the file is complete, readable by FFmpeg and not larger than 8K",
            )
        for number, gap in reader.jumps[:_MAX_SHOWN_JUMPS]:
            self.notes.append(
                f"timestamps jump by {gap:.0f} s at frame {number}: the jump is removed"
            )
        if reader.is_cut_off:
            raise SourceError(
                f"video {self.name} is truncated: {self._number} of {reader.count_frames()} "
                f"announced frames could be read, {reader.seconds:.1f} of "
                f"{reader.duration_s:.1f} s",
                self._truncated_remedy,
            )
        if reader.num_damaged:
            self.notes.append(f"{reader.num_damaged} damaged packets of {self.name} are left out")
        if reader.error:
            self.notes.append(f"decoding ended early: {reader.error}")

    def _seconds_in(self, now_ns: int) -> float:  # noqa: ARG002
        return self._reader.seconds

    def _pass_over(self) -> bool:
        return self._reader.skip()

    def _release(self) -> None:
        self._reader.close()
