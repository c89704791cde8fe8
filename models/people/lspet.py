"""Step 3 of the everyday-people training set: LSPET's labels, put right by a teacher.

    python models/people/lspet.py --lspet PATH --teacher TEACHER.onnx --out people/lspet.json

LSPET's labels were made by paid non-experts; the teacher has never seen them. Joint by joint of
COCO's 17: where both are near each other, their middle; where the teacher is sure of another
place, nothing; where it is not sure, the label; where nothing is labelled (the face always), the
teacher if it is sure. Left and right are exchanged first where that is what the teacher saw. Only
`train` is touched: what is evaluated on stays as its makers have it.
"""

import argparse
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import local

import numpy as np
from numpy.typing import NDArray

from okdhp_edge.data.image_file import ImageFile
from okdhp_edge.data.load import load
from okdhp_edge.data.sample import Sample
from okdhp_edge.inference.external_pose_model import ExternalPoseModel, PosePrediction
from okdhp_edge.label.consensus import ConsensusRules, Label, merge_predictions
from okdhp_edge.label.relabel import find_label_errors
from okdhp_edge.pose.skeleton import COCO17
from okdhp_edge.system.files import write_text

NEAR = 0.08
"""Share of the person's longer side within which label and teacher mean the same place."""
FEWEST = 4


class Fused:
    """One teacher a thread."""

    def __init__(self, teacher: Path, rules: ConsensusRules, precision: str) -> None:
        self.path, self.rules, self.precision = teacher, rules, precision
        self.local = local()

    def __call__(self, sample: Sample) -> tuple[list[PosePrediction], Label]:
        if not hasattr(self.local, "teacher"):
            self.local.teacher = ExternalPoseModel(self.path, 1, self.precision)
        teacher: ExternalPoseModel = self.local.teacher
        looks = teacher.predict(sample.image.read(), sample.box)
        side = float(sample.box[2:].max())
        return looks, merge_predictions([(teacher.skeleton, looks)], COCO17, side, self.rules)


def fuse(
    xy_K2: NDArray[np.floating], labelled_K: NDArray[np.bool_], said: Label, side: float
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The joints of one person and which of them are labelled, by the rules above."""
    near = np.linalg.norm(xy_K2 - said.xy, axis=1) < NEAR * side
    both = labelled_K & said.labelled
    middle = (xy_K2 + said.xy) / 2
    xy = np.where((both & near)[:, None], middle, np.where(labelled_K[:, None], xy_K2, said.xy))
    return xy, (labelled_K & ~said.labelled) | (both & near) | (said.labelled & ~labelled_K)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lspet", required=True)
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--precision", default="fp32")
    options = parser.parse_args()
    poses = load(f"lspet:{options.lspet}", "train").with_skeleton(COCO17)
    ask = Fused(options.teacher, ConsensusRules(), options.precision)
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(ask, poses.samples))
    side = np.array([s.box[2:].max() for s in poses.samples])
    truth = np.stack([s.xy for s in poses.samples])
    labelled = np.stack([s.labelled for s in poses.samples])
    straight, mirrored = (np.stack([looks[i].xy for looks, _ in answers]) for i in (0, 1))
    swapped = find_label_errors(straight, mirrored, truth, labelled, side, COCO17).swapped
    truth[swapped], labelled[swapped] = (
        values[swapped][:, COCO17.flip_index] for values in (truth, labelled)
    )
    images, annotations = [], []
    moved = dropped = added = 0
    for number, sample in enumerate(poses.samples):
        said = answers[number][1]
        xy, known = fuse(truth[number], labelled[number], said, side[number])
        moved += int((known & labelled[number] & said.labelled).sum())
        dropped += int((labelled[number] & ~known).sum())
        added += int((known & ~labelled[number]).sum())
        if known.sum() < FEWEST:
            continue
        assert isinstance(sample.image, ImageFile)
        images.append({"id": len(images) + 1, "file_name": str(sample.image.path.resolve())})
        points = np.column_stack([np.round(xy, 1), np.full(len(xy), 2)]) * known[:, None]
        annotations.append({
            "id": len(images), "image_id": len(images), "category_id": 1, "iscrowd": 0,
            "bbox": np.round(sample.box, 1).tolist(), "num_keypoints": int(known.sum()),
            "keypoints": points.ravel().tolist(),
            "absent": (said.absent & ~known).astype(int).tolist(),
        })  # fmt: skip
    category = {
        "id": 1, "name": "person", "keypoints": list(COCO17.joints),
        "skeleton": (COCO17.limb_index + 1).tolist(),
    }  # fmt: skip
    write_text(options.out, json.dumps(
        {"images": images, "annotations": annotations, "categories": [category]}
    ))  # fmt: skip
    print(
        f"{len(images)} of {len(poses)} persons, sides exchanged in {swapped.sum()}; "
        f"{moved} joints in the middle, {dropped} unlabelled, {added} added",
        file=sys.stderr,
    )


if __name__ == "__main__":
    main()
