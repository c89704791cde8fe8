"""Read image files, with one-line errors for bad files and a note for multi-image files."""

import importlib.util
import io
import os
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from okdhp_edge.errors import DataError
from okdhp_edge.pose.preprocess import Image
from okdhp_edge.system.reading import read_file

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".heic", ".heif",
                  ".avif", ".mpo"}  # fmt: skip
_MAX_BYTES = 1 << 28
_REMEDY = "replace the file, or leave it out"
_MAX_PIXELS = 1 << 26
_HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")
_JPEG_MAGIC = b"\xff\xd8"
_JPEG_SCAN, _JPEG_END = 0xDA, 0xD9
# Segments with a length, and the end; in a scan FF 00 and restarts (D0 to D7) are data.
_JPEG_MARKER = re.compile(rb"\xff([\xc0-\xcf\xd9-\xef\xfe])")
# Encoders write about ten; each costs a pass over the whole image (libjpeg-turbo's advisory on
# progressive JPEG).
_MAX_SCANS = 200
_PNG_MAGIC, _PNG_END_CHUNK = b"\x89PNG", b"IEND\xaeB`\x82"
_UNDECODABLE_FORMATS = {
    b"ftypheic": "HEIC", b"ftypheix": "HEIC", b"ftypmif1": "HEIF", b"ftypavif": "AVIF",
    b"JXL ": "JPEG XL", b"GIF8": "GIF",
}  # fmt: skip


@dataclass(frozen=True)
class ImageFile:
    """An image on disk, read when needed."""

    path: Path

    def read(self) -> Image:
        """Decode the file.

        Raises:
            DataError: the file is missing, truncated or not an image.
        """
        return read_image(self.path)


def read_image(path: Path) -> Image:
    """Decode an image file to (H, W, 3) uint8 BGR, rotated according to its EXIF orientation.

    Raises:
        DataError: the file is missing, truncated or no image.
    """
    return read_image_and_note(path)[0]


def read_image_and_note(path: Path) -> tuple[Image, str | None]:
    """As `read_image`, with what to say of a file that holds more than the one image."""
    try:
        data = read_file(path, _MAX_BYTES)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise DataError(f"image {path} does not exist", "check the path") from None
    except (OSError, ValueError) as error:
        raise DataError(f"image {path} cannot be read ({error})", "check the file") from error
    count = count_images(data)
    note = f"{path.name} holds {count} images: only the first is read" if count > 1 else None
    return decode_image(data, path), note


def decode_image(data: bytes, name: Path | str) -> Image:
    """As `read_image`, of a file's content.

    Raises:
        DataError: truncated, too large, of a kind that cannot be decoded here, or not an image.
    """
    # A PNG is cut off without its end, a JPEG without the end of its scans.
    scans = _read_scans(data) if data.startswith(_JPEG_MAGIC) else _Scans(0, ended=True)
    png_cut = data.startswith(_PNG_MAGIC) and _PNG_END_CHUNK not in data
    if png_cut or (scans.number > 0 and not scans.ended):  # OpenCV fills the rest with grey
        raise DataError(f"image {name} is truncated", "copy or download it again")
    if scans.number > _MAX_SCANS:
        raise DataError(
            f"image {name} is a progressive JPEG with more than {_MAX_SCANS} scans", _REMEDY
        )
    whole = _decode_heif(data, name)
    if whole is not None:
        return whole
    try:
        image = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        limit = os.environ.get("OPENCV_IO_MAX_IMAGE_PIXELS", "2^30")
        reason = f"more than {limit} pixels" if "pixels" in str(error) else "not an image"
        raise DataError(f"image {name} cannot be decoded ({reason})", _REMEDY) from error
    if image is None:
        raise _explain_undecodable(data, name)
    return np.asarray(image, dtype=np.uint8)


def _explain_undecodable(data: bytes, name: Path | str) -> DataError:
    kind = next((k for mark, k in _UNDECODABLE_FORMATS.items() if mark in data[:32]), None)
    if kind in ("HEIC", "HEIF"):
        return DataError(
            f"image {name} is {kind}, which OpenCV cannot decode",
            "pip install okdhp-edge[heif], or convert it to JPEG",
        )
    if kind:
        return DataError(
            f"image {name} is {kind}, which this OpenCV build cannot decode",
            "convert it to JPEG or PNG",
        )
    return DataError(f"image {name} cannot be decoded (not an image)", _REMEDY)


def _decode_heif(data: bytes, name: Path | str) -> Image | None:
    """A phone's photo, put together from its tiles; None where it is no HEIF, or nothing here
    reads it."""
    if data[8:12] not in _HEIF_BRANDS or importlib.util.find_spec("pillow_heif") is None:
        return None
    import pillow_heif

    try:
        photo = pillow_heif.open_heif(io.BytesIO(data), convert_hdr_to_8bit=True, bgr_mode=True)
        if photo.size[0] * photo.size[1] > _MAX_PIXELS:
            raise DataError(f"image {name} has more than {_MAX_PIXELS} pixels", _REMEDY)
        return np.ascontiguousarray(np.asarray(photo)[..., :3])
    except (ValueError, RuntimeError, OSError, EOFError) as error:
        reason = f"HEIC that cannot be decoded ({error})"
        raise DataError(f"image {name} is {reason}", _REMEDY) from error


def count_images(data: bytes) -> int:
    """How many images a file holds: of animations their frames, of TIFF and MPO their pages."""
    try:
        for mark, count in _IMAGE_COUNTERS.items():
            if mark in data[:12]:
                return max(1, count(data))
    except (struct.error, IndexError):  # a file that is broken says so when it is decoded
        pass
    return 1


def _count_webp(data: bytes) -> int:
    return data.count(b"ANMF")


def _count_png(data: bytes) -> int:
    place = data.find(b"acTL", 0, data.find(b"IDAT"))
    return 1 if place < 0 else int(struct.unpack_from(">I", data, place + 4)[0])


def _count_tiff(data: bytes) -> int:
    order = "<" if data[:2] == b"II" else ">"
    (place,) = struct.unpack_from(f"{order}I", data, 4)
    places: set[int] = set()
    while place and place not in places and len(places) < _MAX_PAGES:
        places.add(place)
        (entries,) = struct.unpack_from(f"{order}H", data, place)
        (place,) = struct.unpack_from(f"{order}I", data, place + 2 + 12 * entries)
    return len(places)


def _count_jpeg(data: bytes) -> int:
    """CIPA DC-007, multi-picture format: an index of all in the first one's APP2."""
    start = data.find(b"MPF\0")
    if start < 0:
        return 1
    base = start + 4
    order = "<" if data[base : base + 2] == b"II" else ">"
    (place,) = struct.unpack_from(f"{order}I", data, base + 4)
    (entries,) = struct.unpack_from(f"{order}H", data, base + place)
    for entry in range(entries):
        tag, _, _, value = struct.unpack_from(f"{order}HHII", data, base + place + 2 + 12 * entry)
        if tag == _MPF_NUMBER_OF_IMAGES:
            return int(value)
    return 1


_MPF_NUMBER_OF_IMAGES = 0xB001
_MAX_PAGES = 10_000
_IMAGE_COUNTERS: dict[bytes, Callable[[bytes], int]] = {
    b"WEBP": _count_webp, _PNG_MAGIC: _count_png, b"II*\0": _count_tiff, b"MM\0*": _count_tiff,
    _JPEG_MAGIC: _count_jpeg,
}  # fmt: skip


class _Scans(NamedTuple):
    """Of the first image of a JPEG file; phones write videos behind it."""

    number: int
    ended: bool


def _read_scans(data: bytes) -> _Scans:
    count, place = 0, len(_JPEG_MAGIC)
    while (marker := _JPEG_MARKER.search(data, place)) is not None:
        (code,) = marker[1]
        if code == _JPEG_END:
            return _Scans(count, ended=True)
        count += code == _JPEG_SCAN
        place = marker.end() + int.from_bytes(data[marker.end() : marker.end() + 2], "big")
    return _Scans(count, ended=False)
