"""Videos and pictures: every frame, as fast as it is wanted."""

from pathlib import Path

from okdhp_edge.data.image_file import IMAGE_SUFFIXES, read_image_and_note
from okdhp_edge.data.video import VideoReader
from okdhp_edge.errors import DataError, SourceError
from okdhp_edge.pose.preprocess import Image
from okdhp_edge.run.sources.base import Source
from okdhp_edge.system.redact import public_name

_SHOWN_JUMPS = 3


class VideoSource(Source):
    """A video file or the address of one, every frame."""

    def __init__(self, place: Path | str) -> None:
        super().__init__()
        self.name = public_name(str(place))
        try:
            self._reader = VideoReader(place)
        except DataError as error:
            # The cause names the place as it was given, with its password.
            raise SourceError(error.cause.replace(str(place), self.name), error.remedy) from error
        self.fps = self._reader.fps
        if not self._reader.is_rate_known:
            self.notes.append(f"the stream says no rate: times are counted at {self.fps:g} FPS")

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
                f"video {self.name} has no frame that decodes{why}",
                "check the file: whole, of a kind that FFmpeg decodes, and no larger than 8K",
            )
        for number, gap in reader.jumps[:_SHOWN_JUMPS]:
            self.notes.append(
                f"the file's clock jumps by {gap:.0f} s at frame {number}: times go on from there"
            )
        if reader.is_cut_off:
            raise SourceError(
                f"video {self.name} is cut off: {self._number} of {reader.count_frames()} "
                f"announced frames could be read, {reader.seconds:.1f} of "
                f"{reader.duration_s:.1f} s",
                "copy it again or re-encode it; what was read is kept",
            )
        if reader.error:
            self.notes.append(f"decoding ended early: {reader.error}")

    def _seconds_in(self, now_ns: int) -> float:  # noqa: ARG002
        return self._reader.seconds

    def _pass_over(self) -> bool:
        return self._reader.skip()

    def close(self) -> None:
        """Close the video file."""
        self._reader.close()


class ImageSource(Source):
    """One picture, or every picture of a folder in name order."""

    continuous = False

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.name = str(path)
        self._files = _pictures_in(path, self.notes) if path.is_dir() else [path]
        self._whole = path.is_dir()
        if not self._files:
            raise SourceError(
                f"folder {path} holds no picture", f"use {', '.join(sorted(IMAGE_SUFFIXES))}"
            )
        self._place = 0
        self._broken = 0

    def _next(self) -> Image | None:
        """The next that can be read: of a folder one broken picture costs no other."""
        while self._place < len(self._files):
            self._place += 1
            try:
                image, note = read_image_and_note(self._files[self._place - 1])
            except DataError as error:
                if not self._whole:
                    raise SourceError(error.cause, error.remedy) from error
                self._broken += 1
                self.notes.append(f"left out: {error.cause}")
                continue
            if note:
                self.notes.append(note)
            return image
        if self._broken == len(self._files):
            raise SourceError(
                f"none of the {self._broken} pictures in {self.name} can be read", "check them"
            )
        return None

    def _image_name(self) -> str:
        return self._files[self._place - 1].name

    def _pass_over(self) -> bool:
        if self._place >= len(self._files):
            return False
        self._place += 1
        return True


def _pictures_in(folder: Path, notes: list[str]) -> list[Path]:
    """In name order; what is left out is noted, but for hidden files."""
    files = sorted(f for f in folder.iterdir() if f.is_file() and not f.name.startswith("."))
    found = [f for f in files if f.suffix.lower() in IMAGE_SUFFIXES]
    others = sorted({f.suffix.lower() or f.name for f in files} - IMAGE_SUFFIXES)
    if others:
        count = len(files) - len(found)
        notes.append(f"left out: {count} files of other kinds ({', '.join(others[:5])})")
    return found
