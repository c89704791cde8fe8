"""Ids of people who cross: the product's tracker beside ByteTrack, OC-SORT and SORT.

    pip install trackers motmetrics
    python benchmarks/accuracy/tracking.py --coco PATH [--scenes 12] [--videos FILE=PEOPLE ...]

A scene is made of people cut out of COCO's images along their labelled outlines. They walk over a
blurred image in both directions, the nearer in front of the farther, so every id is known. All
trackers use the shipped detector; the others are asked in every frame and take its low scores too,
which is what ByteTrack is built on. A person less than a quarter visible is left out on both sides.
MOTA and IDF1 are `motmetrics`', at an IoU of 0.5, over all scenes. `--videos` counts the ids that a
real video's people get; PEOPLE is how many there are.
The result goes to `results/tracking.json`.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from okdhp_edge.artifacts.model_store import SHIPPED_DETECTOR
from okdhp_edge.backends.selection import load_backend
from okdhp_edge.inference.open_detector import open_detector
from okdhp_edge.inference.pose_estimator import PoseEstimator
from okdhp_edge.inference.tracking.detection_scheduler import DetectionScheduler
from okdhp_edge.inference.tracking.multi_person import (
    DETECTION_INTERVAL_FRAMES,
    MultiPersonTracker,
)
from okdhp_edge.pose.crop import Box, box_iou
from okdhp_edge.pose.preprocess import Image
from okdhp_edge.system.files import write_text
from okdhp_edge.system.hardware import describe_machine
from okdhp_edge.system.latency import StageClock

RESULTS = Path(__file__).parent.parent / "results"
FRAME_WIDTH, FRAME_HEIGHT, FRAMES = 960, 540, 90
MIN_PERSON_HEIGHT_PX, MIN_KEYPOINTS = 120, 12
MIN_VISIBLE_SHARE, MIN_IOU = 0.25, 0.5
LOW_SCORE, USUAL_SCORE = 0.1, 0.35


class Walker(NamedTuple):
    """A cut-out person and its way: BGR pixels, a mask 0..1, and where it is in each frame."""

    pixels: NDArray[np.uint8]
    mask: NDArray[np.float32]
    corners: NDArray[np.int64]


class Scene(NamedTuple):
    """Frames, and in each the boxes of people by id with the share of each that is visible."""

    frames: list[Image]
    people: list[dict[int, tuple[Box, float]]]


class Tracked(NamedTuple):
    """A tracker's answer in one frame."""

    id: int
    box: Box


Update = Callable[[Image], list[Tracked]]


def read_cutouts(folder: Path) -> list[tuple[Image, NDArray[np.float32]]]:
    """People whose whole body is labelled, each with its outline."""
    from pycocotools.coco import COCO

    coco = COCO(str(next(folder.glob("*.json"))))
    cutouts = []
    for annotation in coco.loadAnns(coco.getAnnIds(iscrowd=False)):
        x, y, width, height = (round(v) for v in annotation["bbox"])
        if annotation["num_keypoints"] < MIN_KEYPOINTS or height < MIN_PERSON_HEIGHT_PX:
            continue
        name = coco.loadImgs(annotation["image_id"])[0]["file_name"]
        image = cv2.imread(str(folder / "images" / name))
        assert image is not None, name
        part = slice(y, y + height), slice(x, x + width)
        mask = np.asarray(coco.annToMask(annotation)[part], np.float32)
        cutouts.append((np.asarray(image[part], np.uint8), mask))
    return cutouts


def make_scene(
    cutouts: Sequence[tuple[Image, NDArray[np.float32]]], rng: np.random.Generator
) -> Scene:
    """Three to six people who walk through one another's way."""
    chosen = rng.choice(len(cutouts), int(rng.integers(3, 7)), replace=False)
    walkers = [_send_walking(cutouts[i], k % 2 == 0, rng) for k, i in enumerate(chosen)]
    walkers.sort(key=lambda w: w.corners[0, 1] + len(w.mask))
    ground = cv2.resize(cutouts[int(rng.integers(len(cutouts)))][0], (FRAME_WIDTH, FRAME_HEIGHT))
    ground = np.asarray(cv2.GaussianBlur(ground, (0, 0), 40), np.uint8)
    frames: list[Image] = []
    people = []
    for index in range(FRAMES):
        frame = np.array(ground, np.uint8)
        owner = np.full((FRAME_HEIGHT, FRAME_WIDTH), -1)
        for number, walker in enumerate(walkers):
            _draw(walker, index, number, frame, owner)
        frames.append(frame)
        people.append(dict(_describe_people(walkers, index, owner)))
    return Scene(frames, people)


def _send_walking(
    cutout: tuple[Image, NDArray[np.float32]], to_right: bool, rng: np.random.Generator
) -> Walker:
    pixels, mask = cutout
    height = int(rng.integers(180, 340))
    size = max(round(pixels.shape[1] * height / len(pixels)), 8), height
    start, end = rng.uniform(0, 0.25), rng.uniform(0.75, 1)
    way = np.linspace(start, end, FRAMES) if to_right else np.linspace(end, start, FRAMES)
    x = way * (FRAME_WIDTH - size[0])
    sway = 4 * np.sin(np.arange(FRAMES) / rng.uniform(2, 5))
    y = np.clip(FRAME_HEIGHT - height - rng.uniform(5, 120) + sway, 0, FRAME_HEIGHT - height)
    corners = np.column_stack([x, y]).round().astype(np.int64)
    drawn = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
    return Walker(drawn, np.asarray(cv2.resize(mask, size), np.float32), corners)


def _draw(walker: Walker, index: int, number: int, frame: Image, owner: NDArray[np.int64]) -> None:
    (x, y), (height, width) = walker.corners[index], walker.mask.shape
    part = slice(y, y + height), slice(x, x + width)
    weight = walker.mask[..., None]
    frame[part] = (walker.pixels * weight + frame[part] * (1 - weight)).astype(np.uint8)
    owner[part][walker.mask > 0.5] = number


def _describe_people(
    walkers: Sequence[Walker], index: int, owner: NDArray[np.int64]
) -> Iterator[tuple[int, tuple[Box, float]]]:
    for number, walker in enumerate(walkers):
        height, width = walker.mask.shape
        box = np.array([*walker.corners[index], width, height], np.float64)
        visible = float((owner == number).sum() / max((walker.mask > 0.5).sum(), 1))
        yield number, (box, visible)


def make_ours(model: str, every: int, threads: int) -> Update:
    """The tracker of `run`: the detector every so many frames, joints in between."""
    backend = load_backend(model, "openvino", "int8", threads, lambda _: None).backend
    detector = open_detector(SHIPPED_DETECTOR, backend="openvino", threads=threads)
    scheduler = DetectionScheduler(detector, background=False)
    tracker = MultiPersonTracker(PoseEstimator(backend, StageClock()), scheduler, every)

    def update(frame: Image) -> list[Tracked]:
        return [
            Tracked(pose.id, pose.box)
            for pose in tracker.update(frame)
            if pose.id is not None and pose.box is not None
        ]

    return update


def make_library_tracker(kind: str, threads: int) -> Update:
    """A tracker of the package `trackers`, with the detector in every frame."""
    import supervision
    import trackers

    options = {
        "ByteTrack": {"track_activation_threshold": USUAL_SCORE, "high_conf_det_threshold": 0.35},
        "OCSORT": {"high_conf_det_threshold": USUAL_SCORE},
        "SORT": {"track_activation_threshold": USUAL_SCORE},
    }
    tracker = getattr(trackers, f"{kind}Tracker")(**options[kind])
    low = LOW_SCORE if kind == "ByteTrack" else USUAL_SCORE
    detect = open_detector(SHIPPED_DETECTOR, backend="openvino", threads=threads, min_score=low)

    def update(frame: Image) -> list[Tracked]:
        rows = [[*d.box[:2], *(d.box[:2] + d.box[2:]), d.score] for d in detect(frame)]
        table = np.array(rows, np.float64).reshape(-1, 5)
        given = supervision.Detections(
            xyxy=table[:, :4], confidence=table[:, 4], class_id=np.zeros(len(table), int)
        )
        answer = tracker.update(given)
        if answer.tracker_id is None:
            return []
        boxes = np.hstack([answer.xyxy[:, :2], answer.xyxy[:, 2:] - answer.xyxy[:, :2]])
        return [
            Tracked(int(i), box) for i, box in zip(answer.tracker_id, boxes, strict=True) if i >= 0
        ]

    return update


def make_trackers(model: str, threads: int) -> dict[str, Callable[[], Update]]:
    """All of them, by name; a new one is made for each scene."""
    made: dict[str, Callable[[], Update]] = {}
    for every in (DETECTION_INTERVAL_FRAMES, 5, 1):
        made[f"ours, detector every {every} frames"] = partial(make_ours, model, every, threads)
    for kind in ("ByteTrack", "OCSORT", "SORT"):
        made[f"{kind}, detector every frame"] = partial(make_library_tracker, kind, threads)
    return made


def score_scene(scene: Scene, update: Update, accumulator: Any) -> list[float]:
    """Feed a scene's frames to a tracker and its answers to `motmetrics`; milliseconds a frame."""
    times = []
    for frame, people in zip(scene.frames, scene.people, strict=True):
        start = time.perf_counter()
        answers = update(frame)
        times.append((time.perf_counter() - start) * 1e3)
        clear = {i: box for i, (box, visible) in people.items() if visible >= MIN_VISIBLE_SHARE}
        hidden = [box for i, (box, _) in people.items() if i not in clear]
        kept = [a for a in answers if _belongs_to_clear(a.box, clear.values(), hidden)]
        distances = np.full((len(clear), len(kept)), np.nan)
        for row, box in enumerate(clear.values()):
            for column, answer in enumerate(kept):
                overlap = box_iou(box, answer.box)
                if overlap >= MIN_IOU:
                    distances[row, column] = 1 - overlap
        accumulator.update(list(clear), [a.id for a in kept], distances)
    return times


def _belongs_to_clear(box: Box, clear: Any, hidden: Sequence[Box]) -> bool:
    best_hidden = max((box_iou(box, other) for other in hidden), default=0.0)
    best_clear = max((box_iou(box, other) for other in clear), default=0.0)
    return best_hidden < MIN_IOU or best_clear >= best_hidden


def summarize(accumulators: Sequence[Any]) -> dict[str, float]:
    """MOTA, IDF1, id switches and lost persons over all scenes."""
    import motmetrics

    columns = ["mota", "idf1", "num_switches", "num_misses", "num_false_positives", "num_objects"]
    table = motmetrics.metrics.create().compute_many(
        list(accumulators), metrics=columns, generate_overall=True
    )
    last = table.loc["OVERALL"]
    return {"MOTA": round(100 * float(last["mota"]), 1),
            "IDF1": round(100 * float(last["idf1"]), 1),
            "id_switches": int(last["num_switches"]), "misses": int(last["num_misses"]),
            "false_positives": int(last["num_false_positives"]),
            "persons": int(last["num_objects"])}  # fmt: skip


def count_ids(video: Path, update: Update) -> int:
    """Different ids that a video's people get."""
    capture = cv2.VideoCapture(str(video))
    ids: set[int] = set()
    while True:
        ok, frame = capture.read()
        if not ok:
            return len(ids)
        ids |= {answer.id for answer in update(np.asarray(frame, np.uint8))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--coco", type=Path, required=True)
    parser.add_argument("--model", default="lite")
    parser.add_argument("--scenes", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--videos", nargs="*", default=[], metavar="FILE=PEOPLE")
    options = parser.parse_args()
    import motmetrics

    rng = np.random.default_rng(options.seed)
    cutouts = read_cutouts(options.coco)
    scenes = [make_scene(cutouts, rng) for _ in range(options.scenes)]
    rows = []
    for name, make in make_trackers(options.model, options.threads).items():
        accumulators, times = [], []
        for scene in scenes:
            accumulators.append(motmetrics.MOTAccumulator(auto_id=True))
            times += score_scene(scene, make(), accumulators[-1])
        ids = {}
        for given in options.videos:
            file, people = given.rsplit("=", 1)
            ids[f"{Path(file).name}, {people} people"] = count_ids(Path(file), make())
        row: dict[str, Any] = {"tracker": name} | summarize(accumulators)
        # The mean: most frames are without the detector, which a median would leave out.
        row |= {"ms_per_frame": round(float(np.mean(times)), 2), "ids": ids}
        rows.append(row)
        print(json.dumps(row))
    words = ["PATH" if "/" in word else word for word in sys.argv[1:]]
    content = {"command": " ".join(["python", "benchmarks/accuracy/tracking.py", *words]),
               "machine": describe_machine(), "threads": options.threads,
               "scenes": len(scenes), "frames": FRAMES, "rows": rows}  # fmt: skip
    write_text(RESULTS / "tracking.json", json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
