"""Annotation tools: import their projects to COCO, and write pre-annotations for them.

One module per tool, one line per tool in `convert.READERS` and `convert.WRITERS`; here is what they
have in common: images, persons and named keypoints.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from okdhp_edge.pose.crop import Box
from okdhp_edge.pose.preprocess import Image


class Point(NamedTuple):
    """A keypoint in image pixels, pixel centres at whole numbers.

    Attributes:
        visibility: COCO's: 0 not labelled, 1 hidden, 2 visible.
    """

    x: float
    y: float
    visibility: int = 2


@dataclass(frozen=True)
class AnnotatedPerson:
    """One object of an image.

    Attributes:
        points: by the keypoint's name, as the tool spells it.
        box: x, y, width, height; None where the tool has none.
        category: the object's class; empty where the tool does not say.
    """

    points: Mapping[str, Point]
    box: Box | None = None
    category: str = ""


@dataclass(frozen=True)
class AnnotatedImage:
    """An image as the tool names it.

    Attributes:
        names: the names its file may have, likeliest first.
        size: width and height that the coordinates refer to; None where the tool does not say.
        read: decodes the pixels of an image that has no file of its own, such as a video's frame.
    """

    names: tuple[str, ...]
    persons: Sequence[AnnotatedPerson]
    size: tuple[int, int] | None = None
    read: Callable[[], Image] | None = None


@dataclass(frozen=True)
class AnnotationSet:
    """A tool's project.

    Attributes:
        keypoints: the declared keypoint names of each category, in order.
        limbs: pairs of keypoint names that are joined by a line.
        twins: pairs of keypoint names that mirroring exchanges, where the names do not say so.
        notes: what was left out, a sentence each.
    """

    images: Sequence[AnnotatedImage]
    keypoints: Mapping[str, Sequence[str]] = field(default_factory=dict)
    limbs: Sequence[tuple[str, str]] = ()
    twins: Sequence[tuple[str, str]] = ()
    notes: Sequence[str] = ()
