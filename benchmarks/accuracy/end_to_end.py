"""Whole images in, everybody's joints out: COCO AP and milliseconds an image, beside rivals.

    python benchmarks/accuracy/end_to_end.py --coco PATH [--yolo FOLDER] [--detectors FILE.onnx ...]
        [--models lite full large] [--threads 2]

Every contender finds the persons itself. Ours: each model with the shipped detector and, for
comparison, with each of `--detectors` (ONNX files of others). `--yolo` is a folder with a
YOLOv8-pose export in OpenVINO's format. AP is COCO's, on all images of the set; the models see each
box of a score from 0.05 on there. Times are of the thresholds that are used in practice (ours 0.25,
YOLOv8's 0.25), in one process and in turns, on images of about one, three and ten labelled persons;
medians. The shares are of persons at least 60 px high whose labelled box a detector's overlaps by
half, with false boxes per image at the same threshold.
The result goes to `results/end_to_end.json` and `results/end_to_end.png`.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from okdhp_edge.artifacts.model_store import SHIPPED_DETECTOR, SHIPPED_FLOAT_MODELS, SHIPPED_MODELS
from okdhp_edge.backends.openvino import make_settings
from okdhp_edge.backends.selection import load_backend
from okdhp_edge.data.coco_layout import get_file_name
from okdhp_edge.data.coco_truth import read_coco_truth
from okdhp_edge.data.detection import DetectionSample, load_detection
from okdhp_edge.data.load import load
from okdhp_edge.data.sample import PoseDataset
from okdhp_edge.evaluation.average_precision import (
    average_precision,
    find_images_without_persons,
    resolve_annotation_file,
)
from okdhp_edge.inference.open_detector import Detector, open_detector
from okdhp_edge.inference.person_detector import Detection
from okdhp_edge.inference.pose_estimator import PoseEstimator
from okdhp_edge.inference.refine_boxes import estimate_twice
from okdhp_edge.pose.crop import box_iou
from okdhp_edge.pose.preprocess import Image
from okdhp_edge.pose.result import score_joints
from okdhp_edge.system.files import write_text
from okdhp_edge.system.hardware import describe_machine
from okdhp_edge.system.latency import StageClock

RESULTS = Path(__file__).parent.parent / "results"
AP_SCORE, YOLO_SCORE, YOLO_SIDE = 0.05, 0.25, 640
MIN_HEIGHT_PX, MIN_IOU = 60, 0.5
ROUNDS, WARMUP = 30, 3
# Labelled persons of the images that stand for one, three and ten.
CROWDS = {"one": (1, 1), "three": (2, 4), "ten": (7, 99)}


class Person(NamedTuple):
    """(17, 3) x, y, score in pixels of the image, and how sure it is."""

    keypoints: NDArray[np.floating]
    score: float


class Contender(NamedTuple):
    """What finds everybody: called with an image and whether unlikely persons count too."""

    name: str
    find: Callable[[Image, bool], list[Person]]
    detect: Callable[[Image], list[Detection]] | None = None


def make_ours(model: str, detector: str, threads: int) -> Contender:
    """A pose model of ours in the boxes of a detector."""
    precision = "fp32" if model in SHIPPED_FLOAT_MODELS else "int8"
    backend = load_backend(model, "openvino", precision, threads, lambda _: None).backend
    estimator = PoseEstimator(backend, StageClock())
    usual = open_detector(detector, backend="openvino", threads=threads)
    many = open_detector(detector, backend="openvino", threads=threads, min_score=AP_SCORE)

    def find(image: Image, unlikely: bool) -> list[Person]:
        found = (many if unlikely else usual)(image)
        poses = estimate_twice(estimator, image, [d.box for d in found])
        people = []
        for detection, pose in zip(found, poses, strict=True):
            points = np.column_stack([pose.xy, pose.score])
            people.append(Person(points, score_joints(pose.score) * detection.score))
        return people

    shown = {"fp32": "f32", "int8": "INT8"}[precision]
    return Contender(f"{model} {shown}, {Path(detector).stem}", find, usual)


def make_yolo(folder: Path, threads: int) -> Contender:
    """A YOLOv8-pose export in OpenVINO: 640x640, gray borders, RGB 0..1, output (1, 56, 8400)."""
    import openvino as ov

    core = ov.Core()
    settings = make_settings("int8", threads)  # those of our own models
    compiled = core.compile_model(next(folder.glob("*.xml")), "CPU", settings)

    def find(image: Image, unlikely: bool) -> list[Person]:
        height, width = image.shape[:2]
        scale = min(YOLO_SIDE / width, YOLO_SIDE / height)
        size = round(width * scale), round(height * scale)
        left, top = (YOLO_SIDE - size[0]) // 2, (YOLO_SIDE - size[1]) // 2
        square = np.full((YOLO_SIDE, YOLO_SIDE, 3), 114, np.uint8)
        square[top : top + size[1], left : left + size[0]] = cv2.resize(image, size)
        blob = np.ascontiguousarray(square[..., ::-1].transpose(2, 0, 1)[None], np.float32) / 255
        rows = next(iter(compiled(blob).values()))[0].T
        limit = AP_SCORE if unlikely else YOLO_SCORE
        rows = rows[rows[:, 4] >= limit]
        corner = rows[:, :2] - rows[:, 2:4] / 2
        boxes = np.hstack([corner, rows[:, 2:4]]).tolist()
        kept = cv2.dnn.NMSBoxes(boxes, rows[:, 4].tolist(), limit, 0.65)
        people = []
        for row in rows[np.ravel(kept).astype(int)]:
            points = row[5:].reshape(17, 3).copy()
            points[:, :2] = (points[:, :2] - [left, top]) / scale
            people.append(Person(points, float(row[4])))
        return people

    return Contender("YOLOv8n-pose INT8, 640x640", find)


def measure_ap(contender: Contender, poses: PoseDataset) -> dict[str, float]:
    """COCO's numbers over all images."""
    truth = read_coco_truth(resolve_annotation_file(poses))
    ids = {get_file_name(image): image["id"] for image in truth["images"]}
    images = {s.image_name: s.image for s in poses.samples} | find_images_without_persons(poses)
    results = [
        {"image_id": ids[name], "category_id": truth["categories"][0]["id"],
         "score": person.score,
         "keypoints": [round(float(v), 3) for v in person.keypoints.ravel()]}
        for name, image in images.items()
        for person in contender.find(image.read(), True)
    ]  # fmt: skip
    return average_precision(poses, results)


def measure_recall(detect: Callable[[Image], list[Detection]], images: Sequence[Any]) -> Any:
    """Share of the labelled persons that are found, and false boxes per image."""
    wanted = hit = false = 0
    for sample in images:
        image = sample.image.read()
        found = [d.box for d in detect(image)]
        tall = [box for box in sample.persons if box[3] >= MIN_HEIGHT_PX]
        wanted += len(tall)
        hit += sum(any(box_iou(box, f) >= MIN_IOU for f in found) for box in tall)
        known = [*sample.persons, *sample.ignored]
        false += sum(not any(_overlaps(f, box) for box in known) for f in found)
    return {"persons": wanted, "found": round(hit / max(wanted, 1), 3),
            "false_per_image": round(false / len(images), 3)}  # fmt: skip


def _overlaps(found: NDArray[np.float64], known: NDArray[np.float64]) -> bool:
    low = np.maximum(found[:2], known[:2])
    high = np.minimum(found[:2] + found[2:], known[:2] + known[2:])
    shared = float(np.prod(np.clip(high - low, 0, None)))
    return shared >= 0.3 * float(np.prod(found[2:]))


def time_contenders(
    contenders: Sequence[Contender], images: dict[str, list[Image]]
) -> dict[str, dict[str, float]]:
    """Median milliseconds an image, by contender and kind of image."""
    times: dict[str, dict[str, list[float]]] = {c.name: {k: [] for k in images} for c in contenders}
    for turn in range(-WARMUP, ROUNDS):
        for kind, some in images.items():
            image = some[turn % len(some)]
            for contender in contenders:
                start = time.perf_counter()
                contender.find(image, False)
                if turn >= 0:
                    times[contender.name][kind].append((time.perf_counter() - start) * 1e3)
    return {
        n: {k: round(statistics.median(v), 2) for k, v in by.items()} for n, by in times.items()
    }


def time_detectors(detectors: dict[str, Detector], image: Image) -> dict[str, float]:
    """Median milliseconds of a detection, in turns."""
    times: dict[str, list[float]] = {name: [] for name in detectors}
    for turn in range(-WARMUP, 2 * ROUNDS):
        for name, detect in detectors.items():
            start = time.perf_counter()
            detect(image)
            if turn >= 0:
                times[name].append((time.perf_counter() - start) * 1e3)
    return {name: round(statistics.median(values), 2) for name, values in times.items()}


def choose_images(samples: Sequence[DetectionSample]) -> dict[str, list[Image]]:
    """Images by the number of persons in them."""
    return {
        kind: [s.image.read() for s in samples if low <= len(s.persons) <= high][:8]
        for kind, (low, high) in CROWDS.items()
    }


def plot(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """AP against the time of an image with three persons: a colour each pose network, a marker each
    detector."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axis = figure.subplots()
    colors: dict[str, str] = {}
    markers: dict[str, str] = {}
    for row in rows:
        model, _, detector = row["name"].partition(", ")
        axis.scatter(
            row["ms"]["three"], row["ap"]["AP"], s=60, zorder=3,
            color=colors.setdefault(model, f"C{len(colors)}"),
            marker=markers.setdefault(detector, "os^DvP"[len(markers)]),
            edgecolors="black" if detector == SHIPPED_DETECTOR else "none", label=row["name"],
        )  # fmt: skip
    axis.set_title("Everybody's joints, end to end")
    axis.set(xscale="log", xlabel="ms an image with about three persons")
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 4, 5, 6, 8)))
    axis.xaxis.set_major_formatter(ScalarFormatter())
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.set_ylabel("COCO keypoint AP, whole images")
    axis.margins(0.1)
    axis.grid(alpha=0.3, which="major")
    figure.legend(loc="outside right center", fontsize=8)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--coco", type=Path, required=True)
    parser.add_argument("--yolo", type=Path)
    parser.add_argument("--detectors", type=Path, nargs="*", default=[])
    parser.add_argument("--models", nargs="*", default=SHIPPED_MODELS)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    cv2.setNumThreads(options.threads)
    poses = load(f"coco:{options.coco}", "all")
    everybody = load_detection(f"coco:{options.coco}", "all").samples
    samples = [s for s in everybody if isinstance(s, DetectionSample)]
    named = [SHIPPED_DETECTOR, *map(str, options.detectors)]
    contenders = [make_ours(m, d, options.threads) for d in named for m in options.models]
    contenders += [make_yolo(options.yolo, options.threads)] if options.yolo else []
    times = time_contenders(contenders, choose_images(samples))
    rows = []
    for contender in contenders:
        rows.append({"name": contender.name, "ap": measure_ap(contender, poses),
                     "ms": times[contender.name]})  # fmt: skip
        print(json.dumps(rows[-1]))
    detectors = {Path(d).stem: open_detector(d, backend="openvino", threads=options.threads)
                 for d in named}  # fmt: skip
    detections = time_detectors(detectors, samples[0].image.read())
    found = {
        name: {"ms": detections[name]} | measure_recall(detect, samples)
        for name, detect in detectors.items()
    }
    words = ["PATH" if "/" in word else word for word in sys.argv[1:]]
    content = {"command": " ".join(["python", "benchmarks/accuracy/end_to_end.py", *words]),
               "machine": describe_machine(), "threads": options.threads,
               "images": len(samples), "persons": len(poses), "rows": rows,
               "detectors": found}  # fmt: skip
    write_text(RESULTS / "end_to_end.json", json.dumps(content, indent=1) + "\n")
    plot(rows, RESULTS / "end_to_end.png")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
