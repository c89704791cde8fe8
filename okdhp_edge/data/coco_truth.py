"""A COCO file as COCO's evaluator needs it: one category, and every key in every annotation."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from okdhp_edge.data import coco_annotation as read
from okdhp_edge.data.coco import iterate_persons, read_content, select_category, to_key
from okdhp_edge.errors import DataError

_UNNAMED_CATEGORY_ID = 1


def read_coco_truth(file: Path) -> dict[str, Any]:
    """Images, annotations and the one category that `coco:FILE` takes, with its own id.

    Annotations of other categories with the same joints count as that category, as they do when the
    file is loaded; what labelling tools leave out is filled in, and their spellings of numbers and
    ids are made one.

    Raises:
        DataError: the file is not in COCO format, or its joints have no names.
    """
    content = read_content(file)
    persons = list(iterate_persons(content.annotations, Counter()))
    category, _ = select_category(content.categories, persons, Counter())
    names = category.get("keypoints")
    if not names:
        raise DataError(f"{file} has no joint names", "add `categories` with `keypoints`")
    same = {to_key(c.get("id")) for c in content.categories if c.get("keypoints") == names}
    category_id = category.get("id", _UNNAMED_CATEGORY_ID)
    listed = {to_key(c.get("id")) for c in content.categories}
    images = [_normalize_image(image) for image in content.images if "id" in image]
    image_ids = {to_key(image["id"]): image["id"] for image in images}
    annotations = [
        _normalize(annotation, number, len(names)) | {
            "category_id": category_id, "image_id": image_ids[to_key(annotation.get("image_id"))],
        }
        for number, annotation in enumerate(content.annotations, 1)
        if to_key(annotation.get("image_id")) in image_ids
        and not read.is_negative(annotation)  # a pose found there is a false one
        and (
            (key := to_key(annotation.get("category_id"))) in same
            or (len(content.categories) == 1 and key not in listed)
        )
    ]  # fmt: skip
    return {
        "images": images, "annotations": annotations,
        "categories": [category | {"id": category_id}],
    }  # fmt: skip


def _normalize_image(image: dict[str, Any]) -> dict[str, Any]:
    if image.get("crowdIndex") is None:
        return image
    index = read.parse_numbers(image["crowdIndex"], "crowdIndex", f"of image {image['id']}")
    return image | {"crowdIndex": float(index[0]) if index.size == 1 else None}


def _normalize(annotation: dict[str, Any], number: int, joints: int) -> dict[str, Any]:
    name = str(annotation.get("id", f"number {number}"))
    points = read.parse_keypoints(annotation, name)
    if len(points) != joints:
        points = np.zeros((joints, 3))
    labelled = points[:, 2] > 0
    points[~labelled] = 0
    has_box = read.parse_numbers(annotation.get("bbox"), "bbox", name).size == 4
    box = (
        read.parse_box(annotation, points[labelled, :2], name)
        if has_box or labelled.any()
        else np.zeros(4)
    )
    return annotation | {
        # 0 stands for "no match" in the evaluator.
        "id": number, "keypoints": points.ravel().tolist(), "num_keypoints": int(labelled.sum()),
        "bbox": box.tolist(), "iscrowd": int(read.is_crowd(annotation)),
        "area": read.parse_area(annotation, box, name),
    }  # fmt: skip
