"""Normalize a COCO annotation as written by various labelling tools.

CVAT, Label Studio, Roboflow, coco-annotator, Supervisely and VIA agree on the names of the keys and
on little else: numbers may be text, keypoints nested, ids missing, boxes empty.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from okdhp_edge.data.mask import PolygonMask
from okdhp_edge.errors import DataError
from okdhp_edge.pose.crop import Box, box_around
from okdhp_edge.pose.skeleton import Skeleton

_PIXEL_STD = 200.0
PERSON_CATEGORY = "person"
# COCO's persons fill about this share of their box (Ruggero Ronchi and Perona, ICCV 2017, use
# the annotated area where there is one); sets without `area` get the box's.
PERSON_BOX_AREA_RATIO = 0.53
_HEAD_BOX_SIZE_RATIO = 0.6
_MIN_PERSON_PX = 16.0


def is_person(category: Mapping[str, Any]) -> bool:
    """Whether a category is called `person`, in whatever case."""
    return str(category.get("name", "")).lower() == PERSON_CATEGORY


def make_category(skeleton: Skeleton) -> dict[str, Any]:
    """The entry of `categories` for persons with these joints."""
    category = {
        "id": 1, "name": PERSON_CATEGORY, "keypoints": list(skeleton.joints),
        "skeleton": (skeleton.limb_index + 1).tolist(),
    }  # fmt: skip
    # Twins that the names do not tell.
    return category | ({"flip_idx": skeleton.flip_index.tolist()} if skeleton.twins else {})


def parse_numbers(values: Any, what: str, name: str) -> NDArray[np.float64]:
    """A flat array of numbers, nested lists and text among them.

    Raises:
        DataError: something else stands there.
    """
    try:
        flat = np.array(_flatten(values), dtype=np.float64)
    except (TypeError, ValueError, OverflowError, RecursionError):
        raise DataError(f"annotation {name}: `{what}` is not a list of numbers", "fix it") from None
    return flat


def _flatten(values: Any) -> list[float]:
    if values is None:
        return []
    if isinstance(values, list | tuple):
        return [number for value in values for number in _flatten(value)]
    return [float(values)]


def parse_keypoints(annotation: Mapping[str, Any], name: str) -> NDArray[np.float64]:
    """(K, 3) x, y, visibility.

    Raises:
        DataError: they are not triples of numbers.
    """
    flat = parse_numbers(annotation.get("keypoints"), "keypoints", name)
    if flat.size % 3:
        raise DataError(
            f"annotation {name} has {flat.size} numbers in `keypoints`, not a multiple of 3",
            "give x, y and visibility for each joint",
        )
    return flat.reshape(-1, 3)


def is_crowd(annotation: Mapping[str, Any]) -> bool:
    """Whether the annotation marks a group (COCO's `iscrowd`)."""
    return str(annotation.get("iscrowd", 0)).strip().lower() in ("1", "1.0", "true")


def is_negative(annotation: Mapping[str, Any]) -> bool:
    """Whether the annotation is a box that is known to contain no person (`absent` of `data
    label`)."""
    absent = parse_numbers(annotation.get("absent"), "absent", str(annotation.get("id")))
    return bool(absent.size and absent.all())


def parse_box(annotation: Mapping[str, Any], labelled_xy: NDArray[np.float64], name: str) -> Box:
    """Of the annotation; round its joints where it has none."""
    given = parse_numbers(annotation.get("bbox"), "bbox", name)
    # CVAT gives a single point a box of no size, others a line one of no width.
    empty = given.size == 4 and not given[2:].all() and len(labelled_xy) > 0
    if empty:
        return make_box_around(labelled_xy)
    if given.size == 4:
        return given
    if given.size:
        raise DataError(f"annotation {name} has a `bbox` of {given.size} numbers", "use 4 or none")
    if "center" in annotation and "scale" in annotation:
        side = float(parse_numbers(annotation["scale"], "scale", name).max()) * _PIXEL_STD
        centre = parse_numbers(annotation["center"], "center", name)[:2]
        return np.concatenate([centre - side / 2, [side, side]])
    if not len(labelled_xy):
        raise DataError(f"annotation {name} has neither `bbox` nor labelled joints", "remove it")
    box = box_around(labelled_xy)
    return box if box[2:].all() else make_box_around(labelled_xy)


def make_box_around(xy: NDArray[np.float64]) -> Box:
    """Their extent, at least as large as a person that can be seen."""
    extent = box_around(xy)
    size = np.maximum(extent[2:], _MIN_PERSON_PX)
    return np.concatenate([extent[:2] - (size - extent[2:]) / 2, size])


def parse_area(annotation: Mapping[str, Any], found: Box, name: str) -> float:
    """Of the annotation; a share of the box's where it says none, or 0 as some tools do."""
    given = parse_numbers(annotation.get("area"), "area", name)
    if given.size == 1 and np.isfinite(given[0]) and given[0] > 0:
        return float(given[0])
    return float(found[2] * found[3]) * PERSON_BOX_AREA_RATIO


def parse_absent(
    annotation: Mapping[str, Any], labelled_K: NDArray[np.bool_], name: str
) -> NDArray[np.bool_] | None:
    """`absent`, a key of `okdhp-edge data label`: COCO itself does not tell joints that are not
    there from those that nobody labelled."""
    if annotation.get("absent") is None:
        return None
    flags = parse_numbers(annotation["absent"], "absent", name)
    if len(flags) != len(labelled_K):
        raise DataError(
            f"annotation {name}: `absent` must have {len(labelled_K)} numbers",
            "give one per joint, or omit the key",
        )
    return (flags > 0) & ~labelled_K


def parse_spread(
    annotation: Mapping[str, Any], joints: int, name: str
) -> NDArray[np.float32] | None:
    """`keypoint_spreads`, a key of `okdhp-edge data label`: how uncertain each position is."""
    if annotation.get("keypoint_spreads") is None:
        return None
    spread = parse_numbers(annotation["keypoint_spreads"], "keypoint_spreads", name)
    if len(spread) != joints or not (spread >= 0).all():
        raise DataError(
            f"annotation {name}: `keypoint_spreads` must have {joints} numbers from 0",
            "give one per joint, or omit the key",
        )
    return spread.astype(np.float32)


def parse_outline(annotation: Mapping[str, Any], name: str) -> PolygonMask | None:
    """Polygons; run-length masks, which COCO keeps for crowds, count as none."""
    segmentation = annotation.get("segmentation")
    if not isinstance(segmentation, list):
        return None
    if segmentation and not isinstance(segmentation[0], list):
        segmentation = [segmentation]
    polygons = [parse_numbers(p, "segmentation", name) for p in segmentation]
    whole = [p.reshape(-1, 2) for p in polygons if p.size >= 6 and p.size % 2 == 0]
    return PolygonMask(tuple(whole)) if whole else None


def parse_head_size(annotation: Mapping[str, Any], name: str) -> float | None:
    """The head's size in pixels where the annotation gives it (`data crops` does) or a head box,
    else None."""
    if (size := parse_numbers(annotation.get("head_size"), "head_size", name)).size == 1:
        return float(size[0])
    found = parse_numbers(annotation.get("bbox_head"), "bbox_head", name)
    if found.size != 4:
        return None
    return float(np.hypot(found[2], found[3])) * _HEAD_BOX_SIZE_RATIO
