"""Person boxes of whole pictures, for training a detector: labels and a detector put together.

    python models/person/boxes.py PICTURES OUT.json --detector DETECTOR.onnx [--labels LABELS.json]
        [--sidecars CLASS]

LABELS is a file of `okdhp-edge data label`: its pictures are taken, and its persons, whose joints a
pose teacher confirmed, are boxes to be found. `--sidecars` takes boxes that people drew, from the
files beside the pictures. What the detector alone finds is a box to be found from a score of
CONFIDENT on; below it an ignored region (`iscrowd`), neither person nor background. Without
LABELS every picture is taken.
"""

import argparse
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import local

import cv2
import numpy as np

from okdhp_edge.data.image_file import read_image
from okdhp_edge.errors import DataError
from okdhp_edge.inference.person_detector import PersonDetector
from okdhp_edge.label.boxes import compute_coverage, make_sidecar_reader
from okdhp_edge.pose.crop import Box, box_iou

CONFIDENT, LOWEST_SCORE = 0.55, 0.2
# A detection that overlaps a known person this much is that person.
SAME_IOU, SAME_COVERAGE = 0.45, 0.8
# A person lower than this share of the picture's longer side is an ignored region.
MIN_HEIGHT_RATIO = 0.04
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}

_of_thread = local()


def main() -> None:
    """Read the command line, write OUT."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pictures", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--labels", type=Path)
    parser.add_argument("--detector", type=Path, required=True)
    parser.add_argument("--sidecars", metavar="CLASS")
    parser.add_argument("--lowest-score", type=float, default=LOWEST_SCORE,
                        help="of an ignored region; higher for sets with few people")  # fmt: skip
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    labelled = read_labels(args.labels) if args.labels else {}
    files = sorted(labelled) if args.labels else list_pictures(args.pictures)
    read_boxes = make_sidecar_reader(args.sidecars) if args.sidecars else None

    def annotate(name: str) -> tuple[tuple[int, int], list[dict[str, object]]] | None:
        path = args.pictures / name
        try:
            picture = read_image(path)
        except DataError:
            return None
        drawn = read_boxes(path, picture) if read_boxes else None
        known = drawn if drawn is not None else labelled.get(name, [])
        found = get_detector(args.detector, args.lowest_score)(picture)
        return (picture.shape[1], picture.shape[0]), merge(known, found, max(picture.shape))

    images, annotations = [], []
    cv2.setNumThreads(1)
    with ThreadPoolExecutor(args.workers) as pool:
        for done, (name, result) in enumerate(zip(files, pool.map(annotate, files), strict=True)):
            if result is None:
                continue
            (width, height), boxes = result
            place = str((args.pictures / name).resolve())
            images.append(
                {"id": len(images) + 1, "file_name": place, "width": width, "height": height}
            )
            for box in boxes:
                entry = {"id": len(annotations) + 1, "image_id": len(images), "category_id": 1}
                annotations.append(entry | box)
            if done % 500 == 0:
                print(f"{args.out.name}: {done} of {len(files)}", flush=True)
    content = {"images": images, "annotations": annotations,
               "categories": [{"id": 1, "name": "person"}]}  # fmt: skip
    args.out.write_text(json.dumps(content))
    crowds = sum(a["iscrowd"] for a in annotations)
    print(f"{args.out.name}: {len(images)} pictures, {len(annotations) - crowds} persons, "
          f"{crowds} ignored regions", flush=True)  # fmt: skip


def read_labels(file: Path) -> dict[str, list[Box]]:
    """The persons of each picture."""
    content = json.loads(file.read_text())
    names = {i["id"]: Path(i["file_name"]).name for i in content["images"]}
    found: dict[str, list[Box]] = {name: [] for name in names.values()}
    for annotation in content["annotations"]:
        if annotation["num_keypoints"]:
            box = np.array(annotation["bbox"], dtype=float)
            found[names[annotation["image_id"]]].append(box)
    return found


def list_pictures(folder: Path) -> list[str]:
    """The pictures in a folder, by name."""
    return sorted(p.name for p in folder.iterdir() if p.suffix.lower() in SUFFIXES)


def get_detector(path: Path, lowest_score: float) -> PersonDetector:
    """This thread's own."""
    if not hasattr(_of_thread, "detector"):
        detector = PersonDetector(path, threads=1)
        detector.spec = detector.spec.model_copy(update={"min_score": lowest_score})
        _of_thread.detector = detector
    return _of_thread.detector


def merge(known: list[Box], found: list, side: int) -> list[dict[str, object]]:
    """Annotations of one picture."""
    boxes = [make_entry(box, ignored=is_tiny(box, side)) for box in known]
    for detection in found:
        if not any(is_same(detection.box, box) for box in known):
            sure = detection.score >= CONFIDENT and not is_tiny(detection.box, side)
            boxes.append(make_entry(detection.box, ignored=not sure))
    return boxes


def is_tiny(box: Box, side: int) -> bool:
    """Whether the person is too small to be asked for."""
    return float(box[3]) < MIN_HEIGHT_RATIO * side


def is_same(box: Box, other: Box) -> bool:
    """Whether two boxes are one person's."""
    return box_iou(box, other) >= SAME_IOU or compute_coverage(box, other) >= SAME_COVERAGE


def make_entry(box: Box, *, ignored: bool) -> dict[str, object]:
    """A COCO annotation without its ids."""
    return {"bbox": [round(float(v), 1) for v in box], "iscrowd": int(ignored),
            "area": round(float(box[2] * box[3]), 1)}  # fmt: skip


if __name__ == "__main__":
    main()
