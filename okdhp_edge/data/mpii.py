"""MPII Human Pose (Andriluka et al., CVPR 2014) in the JSON that HRNet's code made common."""

from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from okdhp_edge.data.annotation_files import read_json, split_by_name
from okdhp_edge.data.image_file import ImageFile
from okdhp_edge.data.matlab import read_matlab
from okdhp_edge.data.sample import PoseDataset, Sample, make_source
from okdhp_edge.errors import DataError, describe_first_fault
from okdhp_edge.pose.crop import Box
from okdhp_edge.pose.metrics import HEAD_BIAS
from okdhp_edge.pose.skeleton import MPII16

_PIXEL_STD = 200.0
# The annotation's centre sits on the torso; HRNet's code lowers it so that the feet stay inside.
_CENTRE_SHIFT_PX = 15.0
# Coordinates in the file count pixels from 1.
_MATLAB_ORIGIN = 1.0
_SPLIT_FILES = {"train": "train.json", "val": "valid.json", "test": "test.json"}


def load_mpii(path: Path, split: str) -> PoseDataset:
    """Read a `test_mpii.json`-like file, or a folder with train/valid/test.json.

    Head sizes come from `headboxes_src` in a `.mat` file of the same name (as `valid.mat`) or
    `gt_<name>.mat` next to the JSON; without it the distance upper neck to head top stands in.

    Raises:
        DataError: a file is missing or not what the format says.
    """
    file, whole = _find_annotation_file(path, split)
    records = _read_records(file)
    heads, note = _read_head_sizes(file, records)
    images = next((d for d in (file.parent / "images", file.parent.parent / "images")
                   if d.is_dir()), file.parent)  # fmt: skip
    samples = [_make_sample(images, n, r, heads[n]) for n, r in enumerate(records)]
    if whole and split != "all":
        samples = split_by_name(samples, split, key=lambda s: s.id.split("#")[0])
    return PoseDataset(make_source("mpii", path), split, MPII16, samples, "pckh@0.5", (note,))


class _Record(BaseModel):
    """One person of the list."""

    model_config = ConfigDict(allow_inf_nan=False)

    image: str
    joints: Annotated[list[tuple[float, float]], Field(min_length=16, max_length=16)]
    joints_vis: Annotated[list[float], Field(min_length=16, max_length=16)]
    center: tuple[float, float]
    scale: Annotated[float, Field(gt=0, lt=1e4)]


def _read_records(file: Path) -> list[_Record]:
    content = read_json(file)
    if not isinstance(content, list):
        raise DataError(f"{file} is not an MPII person list", "use the HRNet-style JSON file")
    records = []
    for number, entry in enumerate(content):
        try:
            records.append(_Record.model_validate(entry))
        except ValidationError as error:
            raise DataError(
                f"person {number} of {file} is not in MPII format ({describe_first_fault(error)})",
                "use the HRNet-style JSON file",
            ) from error
    return records


def _find_annotation_file(path: Path, split: str) -> tuple[Path, bool]:
    """The JSON to read, and whether it holds all splits."""
    if path.is_file():
        return path, True
    if split not in _SPLIT_FILES:
        raise DataError(
            f"{path} has one file per split and cannot be read as a whole",
            "name a split, mpii:PATH@train or @val, or point mpii: to one JSON file",
        )
    name = _SPLIT_FILES[split]
    for candidate in (path / name, path / "annot" / name):
        if candidate.is_file():
            return candidate, False
    raise DataError(f"no {name} in {path}", "point mpii: to the JSON file or its folder")


def _read_head_sizes(file: Path, records: list[_Record]) -> tuple[list[float | None], str]:
    for candidate in (file.with_suffix(".mat"), file.with_name(f"gt_{file.stem}.mat")):
        if candidate.is_file():
            return _sizes_from_mat(candidate, len(records)), f"head boxes from {candidate.name}"
    return [
        _measure_neck_to_top(r) for r in records
    ], "no head boxes: head size is upper neck to head top"


def _sizes_from_mat(file: Path, count: int) -> list[float | None]:
    boxes = read_matlab(file, "headboxes_src")
    if boxes.shape != (2, 2, count):
        raise DataError(
            f"{file} has head boxes {boxes.shape}, but the JSON has {count} persons",
            "use the .mat that belongs to this JSON",
        )
    return list(compute_head_sizes(boxes.transpose(2, 0, 1)))


def compute_head_sizes(boxes_N22: NDArray[np.floating]) -> NDArray[np.float64]:
    """(N,) 0.6 of the head box's diagonal, from (N, 2 corners, xy)."""
    diagonal = np.linalg.norm(boxes_N22[:, 1] - boxes_N22[:, 0], axis=-1)
    return np.asarray(HEAD_BIAS * diagonal, dtype=np.float64)


def _measure_neck_to_top(record: _Record) -> float | None:
    neck, top = MPII16.joints.index("upper_neck"), MPII16.joints.index("head_top")
    joints, visible = np.array(record.joints, dtype=np.float64), record.joints_vis
    if not (visible[neck] and visible[top]):
        return None
    return float(np.linalg.norm(joints[neck] - joints[top])) or None


def _make_sample(images: Path, number: int, record: _Record, head: float | None) -> Sample:
    xy = np.array(record.joints, dtype=np.float64)
    labelled = np.array(record.joints_vis, dtype=np.float64) > 0
    return Sample(
        id=f"{record.image}#{number}",
        image=ImageFile(images / record.image),
        box=_make_box(np.array(record.center, dtype=np.float64), record.scale),
        xy=(xy - _MATLAB_ORIGIN).astype(np.float32),
        labelled=labelled,
        head_size=head,
    )


def _make_box(centre: NDArray[np.float64], scale: float) -> Box:
    side = scale * _PIXEL_STD
    lowered = centre - _MATLAB_ORIGIN + np.array([0.0, _CENTRE_SHIFT_PX * scale])
    return np.concatenate([lowered - side / 2, [side, side]])
