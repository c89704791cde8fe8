"""Write the COCO file of a labelling run, without near-duplicates."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from okdhp_edge import __version__
from okdhp_edge.data.coco import read_content
from okdhp_edge.data.coco_annotation import PERSON_BOX_AREA_RATIO, make_category
from okdhp_edge.data.coco_layout import ImageLocator, get_file_name, make_portable_name
from okdhp_edge.data.image_file import ImageFile
from okdhp_edge.errors import DataError
from okdhp_edge.inference.external_pose_model import fingerprint
from okdhp_edge.label.images import (
    DuplicateFilter,
    ImageItem,
    difference_hash,
    get_frame_path,
    list_items,
    read_images,
)
from okdhp_edge.label.options import DEFAULT_DUPLICATE_BITS, LabelOptions
from okdhp_edge.label.progress_log import Record
from okdhp_edge.pose.skeleton import Skeleton
from okdhp_edge.system.files import write_text


@dataclass(frozen=True)
class LabelResult:
    """What a run gave."""

    file: Path
    images: int
    persons: int
    negatives: int
    left_out: dict[str, int]


def assemble(
    options: LabelOptions,
    skeleton: Skeleton,
    records: Sequence[tuple[ImageItem, Record]],
    excluded: DuplicateFilter,
) -> LabelResult:
    """The COCO file of what is left once images that are alike have been dropped."""
    left_out: Counter[str] = Counter()
    seen = DuplicateFilter(options.duplicates or 0)
    images: list[Record] = []
    annotations: list[Record] = []
    negatives = 0
    for item, record in records:
        left_out["small"] += record.get("small", 0)
        left_out["unsure"] += record.get("unsure", 0)
        if "error" in record:
            left_out["unreadable images"] += 1
        elif not record["persons"] and not record["empty"]:
            left_out["images without people"] += 1
        elif excluded.like(record["hash"]) or (
            options.duplicates is not None and seen.like(record["hash"])
        ):
            left_out["near-duplicate images"] += 1
        else:
            seen.add(record["hash"])
            images.append(_make_image_record(options.out, item, record, len(images) + 1))
            negatives += len(record["empty"])
            for person in _make_annotations(record, len(skeleton)):
                ids = {"id": len(annotations) + 1, "image_id": len(images), "category_id": 1}
                annotations.append(ids | person)
    if not annotations:
        raise DataError(
            f"no people were found in {len(records)} images"
            + "".join(f"; {count} {what}" for what, count in left_out.items() if count),
            "check the images, give boxes, or find people with --detector person --boxes none",
        )
    write_text(options.out, json.dumps(_make_coco(skeleton, images, annotations, options)) + "\n")
    persons = len(annotations) - negatives
    return LabelResult(options.out, len(images), persons, negatives, +left_out)


def _make_image_record(out: Path, item: ImageItem, record: Record, number: int) -> Record:
    file = item.path if item.frame is None else get_frame_path(out, item)
    return {
        "id": number, "file_name": make_portable_name(out, file), "width": record["width"],
        "height": record["height"], "dhash": f"{record['hash']:016x}",
    }  # fmt: skip


def _make_annotations(record: Record, joints: int) -> Iterator[Record]:
    for person in record["persons"]:
        visible = [2 * v for v in person["labelled"]]
        points = [
            value
            for (x, y), v in zip(person["xy"], visible, strict=True)
            for value in ((x, y, v) if v else (0, 0, 0))
        ]
        found = _make_annotation(person["box"], points, person["score"], person["absent"])
        yield found | {"keypoint_spreads": person["spread"]}
    for box in record["empty"]:
        yield _make_annotation(box, [0] * 3 * joints, [0] * joints, [1] * joints)


def _make_annotation(
    box: Sequence[float], points: Sequence[float], scores: Sequence[float], absent: Sequence[int]
) -> Record:
    return {
        "bbox": box, "area": round(box[2] * box[3] * PERSON_BOX_AREA_RATIO, 1), "iscrowd": 0,
        "keypoints": points, "num_keypoints": sum(v > 0 for v in points[2::3]),
        "keypoint_scores": scores,
        "absent": absent,
    }  # fmt: skip


def _make_coco(
    skeleton: Skeleton, images: list[Record], annotations: list[Record], options: LabelOptions
) -> Record:
    teachers = [f"{path.name} {fingerprint(path)[:12]}" for path in options.teachers]
    return {
        "info": {
            "description": "persons labelled by teachers with okdhp-edge data label",
            "teachers": teachers, "rules": options.rules.model_dump(), "version": __version__,
        },
        "images": images,
        "annotations": annotations,
        "categories": [make_category(skeleton)],
    }  # fmt: skip


def read_excluded(options: LabelOptions) -> DuplicateFilter:
    """What images that are to be judged on look like: they stay out, however many duplicates may
    stay in.

    Raises:
        DataError: a folder or file does not exist, or is not what it should be.
    """
    bits = DEFAULT_DUPLICATE_BITS if options.duplicates is None else options.duplicates
    excluded = DuplicateFilter(bits)
    for path in options.exclude:
        for value in _read_hashes(path):
            excluded.add(value)
    return excluded


def _read_hashes(path: Path) -> Iterator[int]:
    """Of the images in a folder, or of a COCO file."""
    if path.suffix == ".json":
        content = read_content(path)
        place = ImageLocator(path, path, content.images)
        for image in content.images:
            if "dhash" in image:  # written by `label`
                yield int(str(image["dhash"]), 16)
            elif (name := get_file_name(image)) is not None:
                yield difference_hash(ImageFile(place.of(name)).read())
        return
    for _, pixels in read_images(list_items([path], every=1)):
        if not isinstance(pixels, DataError):
            yield difference_hash(pixels)
