"""SLEAP (`.slp`, `.pkg.slp`) and DeepLabCut (`CollectedData_*.csv`), read by `sleap-io`.

Coordinates are pixels, centres at whole numbers.
"""

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from okdhp_edge.data.annotation_tools import AnnotatedImage, AnnotatedPerson, AnnotationSet, Point
from okdhp_edge.errors import DataError
from okdhp_edge.pose.preprocess import Image

_GRAY_CHANNELS = 1


def is_sleap(path: Path) -> bool:
    """Whether a file is SLEAP's."""
    return path.suffix.lower() == ".slp"


def is_deeplabcut(path: Path) -> bool:
    """Whether a file is DeepLabCut's."""
    return path.name.startswith("CollectedData") and path.suffix.lower() in (".csv", ".h5")


def read_sleap(path: Path) -> AnnotationSet:
    """Read what people labelled; a model's predictions are left out.

    Raises:
        DataError: `sleap-io` is not installed, or cannot read the file.
    """
    return _read(path, "load_slp", "save it again with SLEAP")


def read_deeplabcut(path: Path) -> AnnotationSet:
    """Read a CSV of one or of several animals; for an `.h5` the CSV that DeepLabCut writes beside
    it, since HDF5 of pandas can hold pickles, which are code.

    Raises:
        DataError: `sleap-io` is not installed, or cannot read the file.
    """
    table = path.with_suffix(".csv")
    if not table.is_file():
        raise DataError(f"{table} does not exist", "DeepLabCut writes it next to the .h5 file")
    return _read(table, "load_dlc", "convert it with DeepLabCut's convertcsv2h5 and back")


def _read(path: Path, loader: str, remedy: str) -> AnnotationSet:
    if importlib.util.find_spec("sleap_io") is None:
        raise DataError(f"reading {path.name} needs sleap-io", "pip install okdhp-edge[import]")
    import sleap_io

    try:
        labels = getattr(sleap_io, loader)(str(path))
        skeleton = labels.skeletons[0]
        images = [_make_image(path.parent, frame, number) for number, frame in enumerate(labels)]
        limbs = [(skeleton.node_names[a], skeleton.node_names[b]) for a, b in skeleton.edge_inds]
    # It raises whatever its parsers do: KeyError, OSError, pandas' and h5py's own.
    except Exception as error:
        text = " ".join(str(error).split())[:120]
        raise DataError(f"{path} cannot be read by sleap-io ({text})", remedy) from error
    return AnnotationSet(images, {"person": list(skeleton.node_names)}, limbs)


def _make_image(root: Path, frame: Any, number: int) -> AnnotatedImage:
    persons = list(_parse_persons(frame))
    name = frame.video.filename
    if isinstance(name, list):  # a folder of images
        file = Path(name[frame.frame_idx])
        return AnnotatedImage((file.as_posix(), file.name), persons)
    stem = Path(str(name)).stem
    return AnnotatedImage(
        (f"{stem}_{frame.frame_idx:06d}_{number}.png",),
        persons,
        read=_make_pixel_reader(frame, root),
    )


def _parse_persons(frame: Any) -> Iterator[AnnotatedPerson]:
    for instance in frame.user_instances:
        points = zip(instance.skeleton.node_names, instance.numpy(), strict=True)
        yield AnnotatedPerson(
            {
                name: Point(float(x), float(y))
                for name, (x, y) in points
                if np.isfinite([x, y]).all()
            }
        )


def _make_pixel_reader(frame: Any, root: Path) -> Callable[[], Image]:
    def read() -> Image:
        video = frame.video
        beside = root / Path(str(video.filename)).name
        if not video.exists() and beside.is_file():
            video.replace_filename(str(beside))
        try:
            pixels = np.asarray(frame.image, dtype=np.uint8)
        except Exception as error:
            raise DataError(
                f"frame {frame.frame_idx} of {video.filename} cannot be read", "restore the video"
            ) from error
        gray = pixels.shape[-1] == _GRAY_CHANNELS
        code = cv2.COLOR_GRAY2BGR if gray else cv2.COLOR_RGB2BGR
        return np.asarray(cv2.cvtColor(pixels, code), dtype=np.uint8)

    return read
