"""A labelled person, and data sets of them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from okdhp_edge.data.image_file import ImageFile
from okdhp_edge.data.mask import HullMask, Mask
from okdhp_edge.errors import DataError
from okdhp_edge.pose.crop import Box
from okdhp_edge.pose.preprocess import Image
from okdhp_edge.pose.skeleton import Skeleton


class LazyImage(Protocol):
    """An image that is read on demand."""

    def read(self) -> Image:
        """The image (H, W, 3) uint8 BGR."""
        ...


@dataclass(frozen=True)
class Sample:
    """A person in an image.

    Attributes:
        id: unique within its set, the same on every machine; lists of samples name it.
        image: where the pixels come from.
        box: (4,) x, y, width, height of the person in the image, unpadded.
        xy: (K, 2) joints in image pixels, centres at whole numbers; rubbish where unlabelled.
        labelled: (K,) whether the joint's position is known.
        absent: (K,) whether the joint is known not to be in the image; None where the set does
            not say. What is neither labelled nor absent may be anywhere.
        head_size: pixels, for PCKh; None where the set has no head.
        area: square pixels of the person, for OKS; None where the set does not say.
        outline: the silhouette; None where the set has none.
        spread: (K,) how uncertain each joint's position is, as a share of the box's longer side;
            None where the set does not say.
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
    spread: NDArray[np.float32] | None = None

    @property
    def image_name(self) -> str:
        """The same for all persons of one image: the id without the person's part."""
        return self.id.rsplit("#", 1)[0]

    @property
    def is_negative(self) -> bool:
        """Whether the box is known to contain no person."""
        return self.absent is not None and bool(self.absent.all())

    @property
    def mask(self) -> Mask:
        """The silhouette, or the hull of the labelled joints in its place."""
        return self.outline or HullMask(self.xy[self.labelled])


def split_sources(source: str) -> list[str]:
    """`KIND:PATH` of each set of a source; a comma in a path is written `\\,`."""
    return [part.replace("\\,", ",") for part in re.split(r"(?<!\\),", source)]


def make_source(kind: str, path: Path) -> str:
    """A set by its kind and path, as `split_sources` reads it."""
    return f"{kind}:{path}".replace(",", "\\,")


def list_kinds(source: str) -> str:
    """A source without its places, as cards and results name it: `lspet+coco`."""
    return "+".join(part.partition(":")[0] for part in split_sources(source))


# Of the formats that are read: COCO, Roboflow, YOLO, MPII, LSPET, and lists of splits.
_ANNOTATION_PATTERNS = (
    "*.json", "annotations/*.json", "*/_annotations.coco.json", "*.yaml", "*.yml", "*.mat", "*.txt",
    "splits/*.txt", "labels/**/*.txt",
)  # fmt: skip


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

    def select_by_ids(self, ids: Sequence[str]) -> "PoseDataset":
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
                "use a list created for this data set",
            )
        return replace(self, samples=[by_id[i] for i in ids])

    def list_input_paths(self) -> list[Path]:
        """The files that may hold annotations, and the folders of the images."""
        files = []
        for part in split_sources(self.source):
            place = part.partition(":")[2]
            # A path may hold an @; what follows the last one may be the split.
            path = Path(place) if Path(place).exists() else Path(place.rpartition("@")[0] or place)
            found = [path] if path.is_file() else [
                file for pattern in _ANNOTATION_PATTERNS for file in path.glob(pattern)
            ]  # fmt: skip
            files += sorted(found)
        folders = {s.image.path.parent for s in self.samples if isinstance(s.image, ImageFile)}
        return [*files, *sorted(folders)]

    def with_skeleton(self, skeleton: Skeleton) -> "PoseDataset":
        """The same persons with a model's joints, matched by name; joints the set lacks are
        unlabelled.

        Raises:
            DataError: the model knows none of the set's joints.
        """
        if skeleton.joints == self.skeleton.joints:
            return self
        source = skeleton.find_columns(self.skeleton)
        if (source < 0).all():
            raise DataError(
                f"the model's joints ({', '.join(skeleton.joints[:3])}, ...) are not those of "
                f"{self.source} ({', '.join(self.skeleton.joints[:3])}, ...)",
                "use data with the model's joint names",
            )
        samples = [_reorder_joints(s, source) for s in self.samples]
        return replace(self, skeleton=skeleton, samples=samples)


def _reorder_joints(sample: Sample, source_K: NDArray[np.int64]) -> Sample:
    """With the joints at these places; -1 for those it does not have."""
    known, absent = source_K >= 0, sample.absent
    return replace(
        sample,
        xy=np.where(known[:, None], sample.xy[source_K], np.float32(0)),
        labelled=known & sample.labelled[source_K],
        # Where nobody is, joints that the set does not know are absent too.
        absent=None if absent is None else np.where(known, absent[source_K], sample.is_negative),
        spread=None if sample.spread is None else sample.spread[source_K],
    )
