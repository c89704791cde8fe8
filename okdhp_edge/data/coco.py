"""COCO person keypoints, and every set in its format: the joints are the category's own."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from okdhp_edge.data.mask import Outlines
from okdhp_edge.data.reading import SPLITS, read_json, split_by_name
from okdhp_edge.data.sample import PictureFile, PoseSet, Sample
from okdhp_edge.errors import DataError
from okdhp_edge.pose.crop import Box, box_around
from okdhp_edge.pose.skeleton import Skeleton, skeleton_from_names

_PIXEL_STD = 200.0
# COCO's persons fill about this share of their box (Ruggero Ronchi and Perona, ICCV 2017, use
# the annotated area where there is one); sets without `area` get the box's.
AREA_OF_BOX = 0.53
# A category without keypoint names (MPII-TRB and others) cannot be matched by name.
_UNNAMED = "point_{}"


def load_coco(path: Path, split: str) -> PoseSet:
    """Read a keypoints JSON, or a folder with `annotations/*keypoints*<split>*.json`.

    A file named by itself, or alone in its folder and of no split by its name, is divided 80/10/10
    by picture name, unless `splits/<split>.txt` beside it lists file names. Crowds and persons
    without labelled joints are left out.

    Raises:
        DataError: a file is missing or not what the format says.
    """
    file, whole = _annotation_file(path, split)
    content = read_json(file)
    if not isinstance(content, dict) or not {"images", "annotations"} <= content.keys():
        raise DataError(f"{file} is not in COCO format", "it needs `images` and `annotations`")
    annotations = [a for a in content["annotations"] if _is_person_with_joints(a)]
    if not annotations:
        raise DataError(f"{file} has no person with labelled keypoints", "check the file")
    skeleton = _skeleton(file, content.get("categories", []), annotations[0])
    pictures = {i["id"]: i for i in content["images"]}
    root = _picture_folder(file, next(iter(pictures.values()))["file_name"])
    samples = [_sample(root, pictures, a, len(skeleton)) for a in annotations]
    if whole and split != "all":
        samples = _chosen(file, samples, split)
    return PoseSet(f"coco:{path}", split, skeleton, samples, "oks")


def _annotation_file(path: Path, split: str) -> tuple[Path, bool]:
    if path.is_file():
        return path, True
    folders = [d for d in (path / "annotations", path) if d.is_dir()]
    found = [f for d in folders for f in sorted(d.glob("*.json")) if "_det_" not in f.name]
    # COCO's own folder holds captions and outlines of things beside the joints.
    files = [f for f in found if "keypoints" in f.stem] or found
    for file in files:
        if split != "all" and split in file.stem:
            return file, False
    if len(files) == 1 and (split == "all" or not _names_a_split(files[0])):
        return files[0], True
    raise DataError(
        f"no *{split}*.json under {path}" if files else f"no annotation file under {path}",
        "point coco: at the JSON file or at a folder with annotations/",
    )


def _names_a_split(file: Path) -> bool:
    return any(split in file.stem for split in SPLITS if split != "all")


def _is_person_with_joints(annotation: dict[str, Any]) -> bool:
    keypoints = annotation.get("keypoints") or []
    known = any(v > 0 for v in keypoints[2::3]) or any(annotation.get("absent") or ())
    return not annotation.get("iscrowd", 0) and known


def _skeleton(file: Path, categories: list[dict[str, Any]], first: dict[str, Any]) -> Skeleton:
    category = next((c for c in categories if c["id"] == first.get("category_id", c["id"])), {})
    count = len(first["keypoints"]) // 3
    names = category.get("keypoints") or [_UNNAMED.format(i) for i in range(count)]
    if len(names) != count:
        raise DataError(f"{file} names {len(names)} keypoints but has {count}", "mend categories")
    limbs = [(int(a) - 1, int(b) - 1) for a, b in category.get("skeleton") or []]
    limbs = [limb for limb in limbs if all(0 <= end < count for end in limb)]
    return skeleton_from_names(file.stem, names, limbs)


def _picture_folder(file: Path, first_name: str) -> Path:
    candidates = [
        *(file.parent.parent / d for d in (file.stem.split("_")[-1], "images", "")),
        *(file.parent / d for d in ("images", "")),
    ]
    # `annotations/val/x.json` style: climb until the first picture is found.
    candidates += [p for parent in file.parents[:4] for p in (parent, parent / "images")]
    found = next((c for c in candidates if (c / first_name).is_file()), None)
    return found or file.parent / "images"


def _sample(
    root: Path, pictures: dict[Any, dict[str, Any]], annotation: dict[str, Any], joints: int
) -> Sample:
    picture = pictures.get(annotation["image_id"])
    if picture is None:
        raise DataError(f"annotation {annotation['id']} names no picture", "mend `image_id`")
    points = np.array(annotation["keypoints"], dtype=np.float64)
    if points.size != joints * 3:
        raise DataError(
            f"annotation {annotation['id']} has {points.size // 3} joints, not {joints}",
            "give all persons the same joints",
        )
    points = points.reshape(joints, 3)
    labelled = points[:, 2] > 0
    box = _box(annotation, points[labelled, :2])
    area = annotation.get("area") or float(box[2] * box[3]) * AREA_OF_BOX
    return Sample(
        id=f"{picture['file_name']}#{annotation['id']}",
        picture=PictureFile(root / picture["file_name"]),
        box=box,
        xy=points[:, :2].astype(np.float32),
        labelled=labelled,
        absent=_absent(annotation, labelled),
        head_size=_head_size(annotation),
        area=float(area),
        outline=_outline(annotation),
    )


def _absent(annotation: dict[str, Any], labelled_K: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
    """`absent`, a key of `okdhp-edge data label`: COCO itself does not tell joints that are not
    there from those that nobody labelled."""
    absent = annotation.get("absent")
    if absent is None:
        return None
    if not isinstance(absent, list) or len(absent) != len(labelled_K):
        raise DataError(
            f"annotation {annotation['id']} has no `absent` of {len(labelled_K)} numbers",
            "give one for each joint, or leave the key out",
        )
    return np.array(absent, dtype=np.bool_) & ~labelled_K


def _outline(annotation: dict[str, Any]) -> Outlines | None:
    """Polygons; run-length masks, which COCO keeps for crowds, count as none."""
    segmentation = annotation.get("segmentation")
    if not isinstance(segmentation, list):
        return None
    polygons = [np.array(p, dtype=np.float64).reshape(-1, 2) for p in segmentation if len(p) >= 6]
    return Outlines(tuple(polygons)) if polygons else None


def _box(annotation: dict[str, Any], labelled_xy: NDArray[np.float64]) -> Box:
    if "bbox" in annotation:
        return np.array(annotation["bbox"], dtype=np.float64)
    if "center" in annotation and "scale" in annotation:
        side = float(np.max(annotation["scale"])) * _PIXEL_STD
        centre = np.array(annotation["center"], dtype=np.float64)
        return np.concatenate([centre - side / 2, [side, side]])
    return box_around(labelled_xy)


def _head_size(annotation: dict[str, Any]) -> float | None:
    box = annotation.get("bbox_head")
    return float(np.hypot(box[2], box[3])) * 0.6 if box else None


def _chosen(file: Path, samples: list[Sample], split: str) -> list[Sample]:
    listing = file.parent / "splits" / f"{split}.txt"
    if not listing.is_file():
        return split_by_name(samples, split, key=_picture_name)
    wanted = set(listing.read_text(encoding="utf-8").split())
    return [s for s in samples if _picture_name(s) in wanted]


def _picture_name(sample: Sample) -> str:
    return sample.id.rsplit("#", 1)[0]
