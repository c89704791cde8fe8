"""Where the images and text files of a YOLO data set lie."""

from pathlib import Path

from okdhp_edge.data.image_file import IMAGE_SUFFIXES
from okdhp_edge.errors import DataError
from okdhp_edge.system.reading import read_text


def list_images(place: Path) -> list[Path]:
    """The images of a folder, or of a list with one a line.

    Raises:
        DataError: the list cannot be read.
    """
    if place.is_dir():
        return sorted(p for p in place.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
    lines = _read_list(place).splitlines()
    # Written on Windows it has other slashes.
    return [place.parent / line.strip().replace("\\", "/") for line in lines if line.strip()]


def _read_list(place: Path) -> str:
    try:
        return read_text(place)
    except (OSError, ValueError) as error:
        raise DataError(f"list {place} cannot be read ({error})", "save it as UTF-8") from error


def find_label_file(image: Path) -> Path:
    """The last folder `images` of the path becomes `labels`."""
    parts = list(image.parts)
    for place in range(len(parts) - 2, -1, -1):
        if parts[place] == "images":
            parts[place] = "labels"
            break
    return Path(*parts).with_suffix(".txt")
