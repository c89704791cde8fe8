"""Where a model fails: accuracy by pose, size, light, sharpness, occlusion and joint.

    python benchmarks/accuracy/slices.py --model lite --data lspet:PATH [--failures sheet.jpg]
    python benchmarks/accuracy/slices.py --model lite --data coco:PATH@all

The INT8 artifact as it is deployed, on `test`, by the set's own metric. Slices are told from labels
and pictures alone: half body (neither knees nor ankles), seated (knees less than half a torso below
the hips), cut off (the box meets the picture's border), near others (boxes that overlap), face
visible (nose and an eye), no face;
upside down (shoulders below the hips), lying (torso nearer to level than to upright), small (least
fifth by the box's longer side), dark and blurred (least fifth by mean brightness and by the
Laplacian's variance of the crop), occluded (fewer than 12 of 14 joints labelled). Intervals are
95 % bootstraps over persons. The result goes to `results/slices-MODEL.json`; `--failures` writes
the persons with the largest errors, a picture that belongs nowhere where theirs may not be.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from okdhp_edge.artifacts import model_store
from okdhp_edge.artifacts.card import InputSpec, read_card
from okdhp_edge.backends.base import BackendConfig, predict_with
from okdhp_edge.backends.registry import open_backend
from okdhp_edge.data.load import load
from okdhp_edge.data.sample import PoseDataset, Sample, list_kinds
from okdhp_edge.evaluation.evaluate import make_inference_crop, predict_joints, score
from okdhp_edge.pose.crop import box_iou
from okdhp_edge.pose.draw import draw_skeleton
from okdhp_edge.pose.preprocess import Image
from okdhp_edge.pose.skeleton import Skeleton
from okdhp_edge.system.files import write_text
from okdhp_edge.system.hardware import describe_machine

RESULTS = Path(__file__).parent.parent / "results"
FIFTH, WELL_LABELLED = 0.2, 12
NEAR, BORDER_PX, SEATED = 0.05, 2.0, 0.5
FEWEST = 10
SHEET, TILE = (8, 5), 160


def middle(sample: Sample, skeleton: Skeleton, part: str) -> NDArray[np.float64] | None:
    """The labelled ones of `left_part` and `right_part`, their mean."""
    index = [skeleton.joints.index(f"{side}_{part}") for side in ("left", "right")]
    known = [i for i in index if sample.labelled[i]]
    return sample.xy[known].mean(axis=0).astype(float) if known else None


def torso(sample: Sample, skeleton: Skeleton) -> NDArray[np.float64] | None:
    """From the hips to the shoulders; y grows downwards."""
    top, bottom = (middle(sample, skeleton, part) for part in ("shoulder", "hip"))
    return None if top is None or bottom is None else top - bottom


def slices(poses: PoseDataset, spec: InputSpec) -> dict[str, NDArray[np.bool_]]:
    crops = [make_inference_crop(s, spec, 4).image for s in poses.samples]
    grey = [cv2.cvtColor(c, cv2.COLOR_BGR2GRAY) for c in crops]
    light = np.array([g.mean() for g in grey])
    sharp = np.array([cv2.Laplacian(g, cv2.CV_64F).var() for g in grey])
    size = np.array([s.box[2:].max() for s in poses.samples])
    torsos = [torso(s, poses.skeleton) for s in poses.samples]
    return {
        "all": np.ones(len(poses), dtype=bool),
        **everyday(poses),
        "upright": np.array([t is not None and -t[1] > abs(t[0]) for t in torsos]),
        "lying": np.array([t is not None and abs(t[0]) >= abs(t[1]) for t in torsos]),
        "upside down": np.array([t is not None and t[1] > abs(t[0]) for t in torsos]),
        "small": size <= np.quantile(size, FIFTH),
        "dark": light <= np.quantile(light, FIFTH),
        "blurred": sharp <= np.quantile(sharp, FIFTH),
        "occluded": np.array([s.labelled.sum() < WELL_LABELLED for s in poses.samples]),
    }


def everyday(poses: PoseDataset) -> dict[str, NDArray[np.bool_]]:
    """What persons of everyday pictures differ in; empty slices are left out by the caller."""
    legs = [poses.skeleton.joints.index(f"{side}_{part}") for side in ("left", "right")
            for part in ("knee", "ankle")]  # fmt: skip
    face = [poses.skeleton.index(joint) for joint in ("nose", "left_eye", "right_eye")]
    seen = np.array([bool(s.labelled[face[0]] and (s.labelled[face[1]] or s.labelled[face[2]]))
                     for s in poses.samples]) if None not in face else None  # fmt: skip
    found = {
        "half body": np.array([not s.labelled[legs].any() for s in poses.samples]),
        "seated": np.array([is_seated(s, poses.skeleton) for s in poses.samples]),
        "cut off": np.array([meets_border(s) for s in poses.samples]),
        "near others": np.array([has_neighbour(s, poses.samples) for s in poses.samples]),
    }
    return found if seen is None else found | {"face visible": seen, "no face": ~seen}


def is_seated(sample: Sample, skeleton: Skeleton) -> bool:
    parts = [middle(sample, skeleton, part) for part in ("shoulder", "hip", "knee")]
    if any(part is None for part in parts):
        return False
    shoulder, hip, knee = (float(part[1]) for part in parts if part is not None)
    return hip > shoulder and knee - hip < SEATED * (hip - shoulder)


def meets_border(sample: Sample) -> bool:
    height, width = sample.image.read().shape[:2]
    low, high = sample.box[:2], sample.box[:2] + sample.box[2:]
    return bool((low <= BORDER_PX).any() or (high >= np.array([width, height]) - BORDER_PX).any())


def has_neighbour(sample: Sample, others: Sequence[Sample]) -> bool:
    picture = sample.image_name
    return any(
        other.id != sample.id and other.image_name == picture
        and box_iou(sample.box, other.box) > NEAR
        for other in others
    )  # fmt: skip


def failures(poses: PoseDataset, xy_NK2: NDArray[np.float32], path: Path) -> None:
    """The persons with the largest errors as shares of their size, labels left, joints right."""
    columns, rows = SHEET
    side = np.array([s.box[2:].max() for s in poses.samples])
    truth, labelled = (np.stack([getattr(s, k) for s in poses.samples]) for k in ("xy", "labelled"))
    error = np.linalg.norm(xy_NK2 - truth, axis=-1) / side[:, None]
    worst = np.argsort(-np.where(labelled, error, 0).sum(axis=1) / labelled.sum(axis=1))
    tiles = [
        _pair(poses.samples[i], xy_NK2[i], poses.skeleton) for i in worst[: columns * rows // 2]
    ]
    lines = [np.hstack(tiles[i : i + columns // 2]) for i in range(0, len(tiles), columns // 2)]
    cv2.imwrite(str(path), np.vstack(lines))


def _pair(sample: Sample, xy: NDArray[np.float32], skeleton: Skeleton) -> Image:
    shown = []
    x, y, w, h = sample.box
    side = 1.4 * max(w, h)
    scale = TILE / side
    move = np.array([[scale, 0, TILE / 2 - scale * (x + w / 2)],
                     [0, scale, TILE / 2 - scale * (y + h / 2)]])  # fmt: skip
    for joints, seen in ((sample.xy, sample.labelled), (xy, np.ones(len(skeleton), dtype=bool))):
        tile = cv2.warpAffine(sample.image.read(), move, (TILE, TILE)).astype(np.uint8)
        draw_skeleton(tile, skeleton, joints @ move[:, :2].T + move[:, 2], seen, 1)
        shown.append(tile)
    return np.hstack(shown)


def main() -> None:
    parser = argparse.ArgumentParser(description="Accuracy by slice.")
    parser.add_argument("--model", default="lite")
    parser.add_argument("--data", required=True)
    parser.add_argument("--backend", default="openvino")
    parser.add_argument("--failures", type=Path)
    asked = parser.parse_args()
    folder = model_store.find_artifact(
        model_store.resolve_model(asked.model), asked.backend, "int8"
    )
    card = read_card(folder)
    poses = load(asked.data, "test").with_skeleton(card.skeleton.skeleton())
    metric = poses.metric
    with open_backend(asked.backend, BackendConfig(folder, card, "int8", 2)) as backend:
        xy = predict_joints(poses, card.input, card.decoder, predict_with(backend))["model"]
    rows = {}
    for name, chosen in slices(poses, card.input).items():
        part = replace(poses, samples=[s for s, c in zip(poses.samples, chosen, strict=True) if c])
        if len(part) < FEWEST:
            continue
        found = score(part, xy[chosen], metric)
        rows[name] = {
            "persons": found.persons,
            metric: [round(v, 1) for v in (found.value, found.low, found.high)],
        }
        print(f"{name}: {found.value:.1f} ({found.low:.1f}..{found.high:.1f}), {found.persons}")
    whole = score(poses, xy, metric)
    by_joint = dict(
        zip(
            poses.skeleton.joints, np.round(np.nan_to_num(whole.per_joint), 1).tolist(), strict=True
        )
    )
    record = {
        "command": f"python benchmarks/accuracy/slices.py --model {asked.model} --data "
        f"{list_kinds(poses.source)}:PATH@{poses.split}",
        "model": f"{card.name} {card.files[card.model_file][:12]}", "machine": describe_machine(),
        "slices": rows, "by_joint": by_joint,
    }  # fmt: skip
    name = f"{Path(asked.model).name}-{list_kinds(poses.source)}"
    write_text(RESULTS / f"slices-{name}.json", json.dumps(record, indent=2) + "\n")
    if asked.failures:
        failures(poses, xy, asked.failures)


if __name__ == "__main__":
    main()
