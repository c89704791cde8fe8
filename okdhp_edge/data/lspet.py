"""Leeds Sports Pose Extended (Johnson and Everingham, CVPR 2011): MATLAB joints, 14 per person."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from okdhp_edge.data.annotation_files import SPLITS_FOLDER, split_by_name
from okdhp_edge.data.image_file import ImageFile
from okdhp_edge.data.matlab import read_matlab
from okdhp_edge.data.sample import PoseDataset, Sample, make_source
from okdhp_edge.errors import DataError
from okdhp_edge.pose.crop import box_around
from okdhp_edge.pose.skeleton import LSP14
from okdhp_edge.system.reading import is_count, read_text

# The coordinates were written by MATLAB, which counts pixels from 1.
_MATLAB_ORIGIN = 1.0
_MIN_LABELLED_JOINTS = 2


def load_lspet(path: Path, split: str) -> PoseDataset:
    """Read `joints.mat`, `images/` and `splits/<split>.txt` under `path`.

    Without `splits/`, which is not part of LSPET, it is divided 80/10/10 by image name.

    In LSPET the third value is 1 where a joint is labelled; elsewhere its coordinates mean
    nothing. The person box is the labelled joints' extent.

    Raises:
        DataError: a file is missing or not what the format says.
    """
    mat = path / "joints.mat"
    if not mat.is_file():
        raise DataError(f"{mat} does not exist", "point lspet: to the folder with joints.mat")
    joints = read_matlab(mat, "joints")
    if joints.ndim != 3 or joints.shape[:2] != (len(LSP14), 3):
        raise DataError(f"{mat} holds joints {joints.shape}, not (14, 3, N)", "download it again")
    names = _read_names(path, split, joints.shape[2])
    samples = [_make_sample(path, name, joints[:, :, int(name[2:]) - 1]) for name in names]
    return PoseDataset(make_source("lspet", path), split, LSP14, samples, "pck@0.2")


def _read_names(path: Path, split: str, count: int) -> list[str]:
    every = [f"im{number:05d}" for number in range(1, count + 1)]
    if split == "all":
        return every
    listing = path / SPLITS_FOLDER / f"{split}.txt"
    if not listing.parent.is_dir():
        return split_by_name(every, split, key=str)
    if not listing.is_file():
        raise DataError(f"{listing} does not exist", "write one image name per line: im00001")
    try:
        names = read_text(listing).split()
    except (OSError, ValueError) as error:
        raise DataError(f"{listing} cannot be read ({error})", "save it as UTF-8") from error
    for name in names:
        if not is_count(name[2:]) or not 1 <= int(name[2:]) <= count:
            raise DataError(f"{listing} names '{name}', which joints.mat lacks", "fix the list")
    return names


def _make_sample(path: Path, name: str, joints_K3: NDArray[np.float64]) -> Sample:
    labelled = joints_K3[:, 2] > 0
    xy = np.where(labelled[:, None], joints_K3[:, :2] - _MATLAB_ORIGIN, 0)
    box = (
        box_around(xy[labelled])
        if labelled.sum() >= _MIN_LABELLED_JOINTS
        else np.zeros(4, dtype=np.float64)
    )
    image = ImageFile(path / "images" / f"{name}.jpg")
    return Sample(name, image, box, xy.astype(np.float32), labelled)
