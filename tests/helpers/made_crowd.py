"""A small set in CrowdPose's format with results for it, the same on every machine."""

import json
import random

JOINTS = [
    "left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist",
    "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle", "head", "neck",
]  # fmt: skip


def crowd_files(folder):
    """`annotations.json` and `results.json` in `folder`; the standard library's random numbers."""
    rng = random.Random(5)
    images, annotations, results = [], [], []
    for picture in range(1, 13):
        images.append({
            "id": picture, "file_name": f"{picture}.jpg", "width": 400, "height": 300,
            "crowdIndex": round(picture / 12 - 0.02, 3),
        })  # fmt: skip
        for _ in range(rng.randint(1, 4)):
            x, y, w, h = rng.uniform(0, 200), rng.uniform(0, 100), 120.0, 180.0
            points, guess = [], []
            noise = rng.uniform(1, 14)
            for _ in JOINTS:
                px, py, v = x + rng.uniform(0, w), y + rng.uniform(0, h), rng.choice([0, 1, 2, 2])
                points += [round(px, 2), round(py, 2), v] if v else [0, 0, 0]
                guess += [
                    round(px + rng.gauss(0, noise), 2), round(py + rng.gauss(0, noise), 2), 1.0
                ]  # fmt: skip
            annotations.append({
                "id": len(annotations) + 1, "image_id": picture, "category_id": 1, "iscrowd": 0,
                "bbox": [round(v, 2) for v in (x, y, w, h)], "keypoints": points,
                "num_keypoints": points[2::3].count(2),
            })  # fmt: skip
            if rng.random() < 0.9:
                results.append({
                    "image_id": picture, "category_id": 1, "keypoints": guess,
                    "score": round(rng.random(), 4),
                })  # fmt: skip
    category = {"id": 1, "name": "person", "keypoints": JOINTS, "skeleton": []}
    content = {"images": images, "annotations": annotations, "categories": [category]}
    (folder / "annotations.json").write_text(json.dumps(content))
    (folder / "results.json").write_text(json.dumps(results))
    return folder / "annotations.json", folder / "results.json"
