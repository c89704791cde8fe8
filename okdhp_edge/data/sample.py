"""One labelled person, wherever it comes from."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from okdhp_edge.data.mask import HullMask, Mask
from okdhp_edge.errors import DataError
from okdhp_edge.pose.crop import Box
from okdhp_edge.pose.preprocess import Image
from okdhp_edge.pose.skeleton import Skeleton
from okdhp_edge.system.reading import read_file

_MAX_BYTES = 1 << 28
_REMEDY = "replace the file or take it out of the list"
_JPEG, _JPEG_SCAN, _JPEG_END = b"\xff\xd8", b"\xff\xda", b"\xff\xd9"
# Encoders write about ten; each costs a pass over the whole picture (libjpeg-turbo's advisory on
# progressive JPEG).
_MAX_SCANS = 200
_PNG, _PNG_END = b"\x89PNG", b"IEND"
_OTHER_KINDS = {b"ftypheic": "HEIC", b"ftypheix": "HEIC", b"ftypmif1": "HEIF", b"ftypavif": "AVIF",
                b"JXL ": "JPEG XL", b"GIF8": "GIF"}  # fmt: skip


class LazyImage(Protocol):
    """Something that yields a picture when asked."""

    def read(self) -> Image:
        """The picture (H, W, 3) uint8 BGR."""
        ...


@dataclass(frozen=True)
class ImageFile:
    """A picture on disk, read when needed."""

    path: Path

    def read(self) -> Image:
        """Decode the file.

        Raises:
            DataError: the file is missing, truncated or no picture.
        """
        return read_image(self.path)


def read_image(path: Path) -> Image:
    """Decode a picture file to (H, W, 3) uint8 BGR, rotated as its EXIF says.

    Raises:
        DataError: the file is missing, truncated or no picture.
    """
    try:
        data = read_file(path, _MAX_BYTES)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise DataError(
            f"picture {path} does not exist", "check the path or the data set's images"
        ) from None
    except (OSError, ValueError) as error:
        raise DataError(f"picture {path} cannot be read ({error})", "check the file") from error
    return decode_image(data, path)


def decode_image(data: bytes, name: Path | str) -> Image:
    """As `read_image`, of a file's content.

    Raises:
        DataError: truncated, too large, of a kind that cannot be decoded here, or no picture.
    """
    if _is_cut_off(data):
        raise DataError(f"picture {name} is cut off", "copy or download it again")
    if data.startswith(_JPEG) and data.count(_JPEG_SCAN) > _MAX_SCANS:
        raise DataError(
            f"picture {name} has more than {_MAX_SCANS} scans, each of which is decoded", _REMEDY
        )
    try:
        image = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        limit = os.environ.get("OPENCV_IO_MAX_IMAGE_PIXELS", "2^30")
        reason = f"more than {limit} pixels" if "pixels" in str(error) else "no picture"
        raise DataError(f"picture {name} cannot be decoded ({reason})", _REMEDY) from error
    if image is None:
        kind = next((k for mark, k in _OTHER_KINDS.items() if mark in data[:32]), None)
        if kind:
            raise DataError(f"picture {name} is {kind}, which this OpenCV cannot decode",
                            "convert it to JPEG or PNG")  # fmt: skip
        raise DataError(f"picture {name} cannot be decoded (no picture)", _REMEDY)
    return np.asarray(image, dtype=np.uint8)


def _is_cut_off(data: bytes) -> bool:
    """Whether a JPEG's last scan or a PNG has no end; OpenCV fills the rest with grey."""
    if data.startswith(_JPEG):
        return data.rfind(_JPEG_END) < data.rfind(_JPEG_SCAN)
    return data.startswith(_PNG) and _PNG_END not in data[-64:]


@dataclass(frozen=True)
class Sample:
    """A person in a picture.

    Attributes:
        id: unique within its set, the same on every machine; lists of samples name it.
        image: where the pixels come from.
        box: (4,) x, y, width, height of the person in the picture, unpadded.
        xy: (K, 2) joints in picture pixels, centres at whole numbers; rubbish where unlabelled.
        labelled: (K,) whether the joint's position is known.
        absent: (K,) whether the joint is known not to be in the picture; None where the set does
            not say. What is neither labelled nor absent may be anywhere.
        head_size: pixels, for PCKh; None where the set has no head.
        area: square pixels of the person, for OKS; None where the set does not say.
        outline: the silhouette; None where the set has none.
    """

    id: str
    image: LazyImage
    box: Box
    xy: NDArray[np.float32]
    labelled: NDArray[np.bool_]
    head_size: float | None = None
    area: float | None = None
    outline: Mask | None = None
    absent: NDArray[np.bool_] | None = None

    @property
    def image_name(self) -> str:
        """The same for all persons of one picture: the id without the person's part."""
        return self.id.rsplit("#", 1)[0]

    @property
    def is_negative(self) -> bool:
        """Whether the box is known to hold nobody."""
        return self.absent is not None and bool(self.absent.all())

    @property
    def mask(self) -> Mask:
        """The silhouette, or the hull of the labelled joints in its place."""
        return self.outline or HullMask(self.xy[self.labelled])


def kinds_of(source: str) -> str:
    """A source without its places, as cards and results name it: `lspet+coco`."""
    return "+".join(part.partition(":")[0] for part in source.split(","))


@dataclass(frozen=True)
class PoseDataset:
    """Samples that share a skeleton.

    Attributes:
        source: what was asked for, such as `lspet:/data/lspet`.
        split: train, val, test or all.
        metric: the metric this kind of set is usually evaluated by.
        notes: what a reader should know about how the annotations were read.
    """

    source: str
    split: str
    skeleton: Skeleton
    samples: Sequence[Sample]
    metric: str
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.samples)

    def subset(self, ids: Sequence[str]) -> "PoseDataset":
        """The samples named by `ids`, in that order.

        Raises:
            DataError: an id that this set does not hold.
        """
        by_id = {s.id: s for s in self.samples}
        missing = [i for i in ids if i not in by_id]
        if missing:
            raise DataError(
                f"{len(missing)} of {len(ids)} listed samples are not in {self.source} "
                f"({self.split}), first '{missing[0]}'",
                "use a list made for this data set",
            )
        return PoseDataset(
            self.source, self.split, self.skeleton, [by_id[i] for i in ids], self.metric, self.notes
        )

    def places_read(self) -> list[Path]:
        """The files that hold the annotations, and the folders of the images."""
        named = (Path(part.partition(":")[2].rpartition("@")[0] or part.partition(":")[2])
                 for part in self.source.split(","))  # fmt: skip
        folders = {s.image.path.parent for s in self.samples if isinstance(s.image, ImageFile)}
        return [*(path for path in named if path.is_file()), *sorted(folders)]

    def with_skeleton(self, skeleton: Skeleton) -> "PoseDataset":
        """The same persons with a model's joints, matched by name; joints the set lacks are
        unlabelled.

        Raises:
            DataError: the model knows none of the set's joints.
        """
        if skeleton.joints == self.skeleton.joints:
            return self
        source = skeleton.columns_in(self.skeleton)
        if (source < 0).all():
            raise DataError(
                f"the model's joints ({', '.join(skeleton.joints[:3])}, ...) are not those of "
                f"{self.source} ({', '.join(self.skeleton.joints[:3])}, ...)",
                "use data whose joints have the model's names",
            )
        samples = [_renamed(s, source) for s in self.samples]
        return replace(self, skeleton=skeleton, samples=samples)


def _renamed(sample: Sample, source_K: NDArray[np.int64]) -> Sample:
    """With the joints at these places; -1 for those it does not have."""
    known = source_K >= 0
    return replace(
        sample,
        xy=np.where(known[:, None], sample.xy[source_K], np.float32(0)),
        labelled=known & sample.labelled[source_K],
        absent=None if sample.absent is None else _renamed_absence(sample, source_K),
    )


def _renamed_absence(sample: Sample, source_K: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Where nobody is, joints that the set does not know are absent too."""
    assert sample.absent is not None
    return np.where(source_K >= 0, sample.absent[source_K], sample.is_negative)
