"""MPII Human Pose (Andriluka et al., CVPR 2014) in the JSON that HRNet's code made common."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from okdhp_edge.data.reading import read_json, split_by_name
from okdhp_edge.data.sample import PictureFile, PoseSet, Sample
from okdhp_edge.errors import DataError
from okdhp_edge.pose.crop import Box
from okdhp_edge.pose.metrics import HEAD_BIAS
from okdhp_edge.pose.skeleton import MPII16

_PIXEL_STD = 200.0
# The annotation's centre sits on the torso; HRNet's code lowers it so that the feet stay inside.
_LOWER_BY = 15.0
# Coordinates in the file count pixels from 1.
_MATLAB_ORIGIN = 1.0
_SPLIT_FILES = {"train": "train.json", "val": "valid.json", "test": "test.json"}


def load_mpii(path: Path, split: str) -> PoseSet:
    """Read a `test_mpii.json`-like file, or a folder with train/valid/test.json.

    Head sizes come from `headboxes_src` in a `.mat` file of the same name (as `valid.mat`) or
    `gt_<name>.mat` beside the JSON; without it the distance upper neck to head top stands in.

    Raises:
        DataError: a file is missing or not what the format says.
    """
    file, whole = _annotation_file(path, split)
    records = read_json(file)
    if not isinstance(records, list) or not all("joints" in r and "scale" in r for r in records):
        raise DataError(f"{file} is not an MPII person list", "give the HRNet-style JSON file")
    heads, note = _head_sizes(file, records)
    images = next((d for d in (file.parent / "images", file.parent.parent / "images")
                   if d.is_dir()), file.parent)  # fmt: skip
    samples = [_sample(images, n, r, heads[n]) for n, r in enumerate(records)]
    if whole and split != "all":
        samples = split_by_name(samples, split, key=lambda s: s.id.split("#")[0])
    return PoseSet(f"mpii:{path}", split, MPII16, samples, "pckh@0.5", (note,))


def _annotation_file(path: Path, split: str) -> tuple[Path, bool]:
    """The JSON to read, and whether it holds all splits."""
    if path.is_file():
        return path, True
    if split not in _SPLIT_FILES:
        raise DataError(
            f"{path} is a folder of files by split, not a set that is read as a whole",
            "give --split train or val, or point mpii: at one JSON file",
        )
    name = _SPLIT_FILES[split]
    for candidate in (path / name, path / "annot" / name):
        if candidate.is_file():
            return candidate, False
    raise DataError(f"no {name} in {path}", "point mpii: at the JSON file or its folder")


def _head_sizes(file: Path, records: list[dict[str, Any]]) -> tuple[list[float | None], str]:
    for candidate in (file.with_suffix(".mat"), file.with_name(f"gt_{file.stem}.mat")):
        if candidate.is_file():
            return _sizes_from_mat(candidate, len(records)), f"head boxes from {candidate.name}"
    return [_neck_to_top(r) for r in records], "no head boxes: head size is upper neck to head top"


def _sizes_from_mat(file: Path, count: int) -> list[float | None]:
    from scipy.io import loadmat

    boxes = np.asarray(loadmat(str(file))["headboxes_src"], dtype=np.float64)
    if boxes.shape != (2, 2, count):
        raise DataError(
            f"{file} holds head boxes {boxes.shape}, the JSON {count} persons",
            "use the .mat that belongs to this JSON",
        )
    return list(head_sizes(boxes.transpose(2, 0, 1)))


def head_sizes(boxes_N22: NDArray[np.floating]) -> NDArray[np.float64]:
    """(N,) 0.6 of the head box's diagonal, from (N, 2 corners, xy)."""
    diagonal = np.linalg.norm(boxes_N22[:, 1] - boxes_N22[:, 0], axis=-1)
    return np.asarray(HEAD_BIAS * diagonal, dtype=np.float64)


def _neck_to_top(record: dict[str, Any]) -> float | None:
    neck, top = MPII16.joints.index("upper_neck"), MPII16.joints.index("head_top")
    joints, visible = np.array(record["joints"], dtype=np.float64), record["joints_vis"]
    if not (visible[neck] and visible[top]):
        return None
    return float(np.linalg.norm(joints[neck] - joints[top])) or None


def _sample(images: Path, number: int, record: dict[str, Any], head: float | None) -> Sample:
    xy = np.array(record["joints"], dtype=np.float64).reshape(-1, 2)
    if len(xy) != len(MPII16):
        raise DataError(f"person {number} has {len(xy)} joints, not 16", "give an MPII file")
    labelled = np.array(record["joints_vis"], dtype=np.float64) > 0
    return Sample(
        id=f"{record['image']}#{number}",
        picture=PictureFile(images / record["image"]),
        box=_box(np.array(record["center"], dtype=np.float64), float(record["scale"])),
        xy=(xy - _MATLAB_ORIGIN).astype(np.float32),
        labelled=labelled,
        head_size=head,
    )


def _box(centre: NDArray[np.float64], scale: float) -> Box:
    side = scale * _PIXEL_STD
    lowered = centre - _MATLAB_ORIGIN + np.array([0.0, _LOWER_BY * scale])
    return np.concatenate([lowered - side / 2, [side, side]])
