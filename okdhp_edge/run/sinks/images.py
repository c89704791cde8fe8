"""Annotated images: a file for a single image, a folder for a folder."""

from pathlib import Path

import cv2

from okdhp_edge.data.image_file import IMAGE_SUFFIXES
from okdhp_edge.errors import OutputError
from okdhp_edge.pose.preprocess import Image
from okdhp_edge.run.pipeline import FrameResult
from okdhp_edge.run.sinks.base import check_writable
from okdhp_edge.system.files import wrap_write_errors

_PROBE_NAME = ".okdhp-edge-probe.png"


class ImageSink:
    """Writes each image when it is done, under the name of its source where `path` is a folder.

    Args:
        path: an image file (by its suffix), or a folder, which is made where it is not there.
    """

    wants_image = True

    def __init__(self, path: Path) -> None:
        self._path = path
        self._folder = path.is_dir() or not path.suffix
        if not self._folder and path.suffix.lower() not in IMAGE_SUFFIXES:
            raise OutputError(
                f"images cannot be saved as {path.name}",
                f"use a folder, or one of {', '.join(sorted(IMAGE_SUFFIXES))}",
            )
        self._written = 0
        check_writable(path if not self._folder or not path.is_dir() else path / _PROBE_NAME)

    def write(self, result: FrameResult, annotated: Image) -> bool:
        """Write the annotated frame as an image; True: the run goes on."""
        target = self._path
        if self._folder:
            target = self._path / (result.frame.name or f"{result.frame.number:06d}.png")
            if not cv2.haveImageWriter(target.name):  # phones' HEIC, for one
                target = target.with_name(f"{target.name}.png")
        elif self._written:
            raise OutputError(
                f"{self._path} is a single image but the source has more", "pass a folder to --save"
            )
        _save(annotated, target)
        self._written += 1
        return True

    def close(self, *, success: bool) -> None:
        """Every image is whole already."""


def _save(image: Image, target: Path) -> None:
    """Written beside and renamed, so that an image is whole or not there."""
    try:
        good, encoded = cv2.imencode(target.suffix.lower(), image)
    except cv2.error:  # as older releases say it
        good = False
    if not good:
        height, width = image.shape[:2]
        raise OutputError(
            f"an image of {width}x{height} cannot be written as {target.suffix}", "save it as .png"
        )
    partial = target.with_name(f".{target.name}.part")
    with wrap_write_errors(target):
        target.parent.mkdir(exist_ok=True)
        try:
            partial.write_bytes(encoded.tobytes())
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)
