"""Image files: one, or those of a folder."""

from pathlib import Path

from okdhp_edge.data.image_file import IMAGE_SUFFIXES, read_image_and_note
from okdhp_edge.errors import DataError, SourceError
from okdhp_edge.pose.preprocess import Image
from okdhp_edge.run.sources.base import Source


class ImageSource(Source):
    """One image, or every image of a folder in name order."""

    continuous = False

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.name = str(path)
        self._files = list_images(path, self.notes) if path.is_dir() else [path]
        self._whole = path.is_dir()
        if not self._files:
            raise SourceError(
                f"no images in folder {path}", f"use {', '.join(sorted(IMAGE_SUFFIXES))}"
            )
        self._place = 0
        self._broken = 0

    def _next(self) -> Image | None:
        """The next that can be read: of a folder one broken image costs no other."""
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
        self._check_any_read()
        return None

    def _check_any_read(self) -> None:
        if self._broken == len(self._files):
            raise SourceError(
                f"none of the {self._broken} images in {self.name} can be read", "check the files"
            )

    def _image_name(self) -> str:
        return self._files[self._place - 1].name

    def _pass_over(self) -> bool:
        if self._place >= len(self._files):
            return False
        self._place += 1
        return True


def list_images(folder: Path, notes: list[str]) -> list[Path]:
    """In name order; what is left out is noted, but for hidden files."""
    files = sorted(f for f in folder.iterdir() if f.is_file() and not f.name.startswith("."))
    found = [f for f in files if f.suffix.lower() in IMAGE_SUFFIXES]
    others = sorted({f.suffix.lower() or f.name for f in files} - IMAGE_SUFFIXES)
    if others:
        count = len(files) - len(found)
        notes.append(f"left out: {count} files of other types ({', '.join(others[:5])})")
    return found
