"""Small data sets made on the spot."""

import json
from pathlib import Path

import cv2
import numpy as np
from scipy.io import savemat


def picture(path: Path, size: tuple[int, int] = (120, 90)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((size[1], size[0], 3), 90, np.uint8))
    return path


def coco_file(folder: Path, **changes: object) -> Path:
    """Two persons of a three-joint skeleton; `changes` go into the first annotation."""
    picture(folder / "images" / "a.jpg")
    first = {
        "id": 1, "image_id": 7, "category_id": 1, "iscrowd": 0, "bbox": [10, 10, 40, 60],
        "keypoints": [12, 12, 2, 30, 40, 1, 0, 0, 0],
    }  # fmt: skip
    content = {
        "images": [{"id": 7, "file_name": "a.jpg"}],
        "categories": [
            {"id": 1, "keypoints": ["Tip", "L Fin", "R Fin"], "skeleton": [[1, 2], [1, 3]]}
        ],
        "annotations": [{**first, **changes}, {**first, "id": 2}],
    }
    file = folder / "fish.json"
    file.write_text(json.dumps(content), encoding="utf-8")
    return file


def lspet_folder(folder: Path, count: int = 4) -> Path:
    """An LSPET-like folder; joint 0 of person 0 is unlabelled rubbish."""
    rng = np.random.default_rng(0)
    joints = np.ones((14, 3, count))
    joints[:, :2] = rng.uniform(20, 80, (14, 2, count))
    joints[0, :, 0] = [-5000, -5000, 0]
    savemat(str(folder / "joints.mat"), {"joints": joints})
    (folder / "splits").mkdir()
    names = [f"im{i + 1:05d}" for i in range(count)]
    for name in names:
        picture(folder / "images" / f"{name}.jpg")
    (folder / "splits" / "train.txt").write_text("\n".join(names), encoding="utf-8")
    return folder
