"""Our models and what people would pick instead, on the same persons in the same boxes.

    python benchmarks/accuracy/peers.py --lspet PATH --coco PATH --movenet FILE.tflite \
        --thunder FILE.onnx [--tinypose FILE.onnx ...] [--nobody coco:FILE ...] [--models NAMES]

Needs `pip install ai-edge-litert` for Lightning, and next to each ONNX file its description
(`models/people/thunder.toml`, `models/people/tinypose.toml`). Our float rows are exported from the
shipped weights for the occasion. Everything runs in this process, on the same images and with crops
made by the same code; latency is measured at batch 1 in turns, with as many threads for each.

COCO's average precision is that of its own evaluator over all 17 joints, in the annotated boxes.
The other metrics are on the 12 joints that LSPET knows too, matched by name, in boxes that are the
extent of the labelled joints; a contender pads them as it was made to. `test` of LSPET decides
nothing here: it is only reported.

Scores are evaluated as answers to two questions, by the area under the ROC curve: is the joint
there (COCO's labelled joints against the others of the same persons), and is somebody in the box
(COCO's persons against boxes beside them that nobody's labelled box reaches into, and the sets of
`--nobody`; by the mean of the upper half of the joints' scores).
The result goes to `results/peers.json` and `results/peers.png`. With `--keep-latency` the times of
the file's earlier run stay, with the machine of that run: for new weights of unchanged networks.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from okdhp_edge.artifacts import model_store
from okdhp_edge.artifacts.card import read_card
from okdhp_edge.backends.base import BackendConfig
from okdhp_edge.backends.registry import open_backend
from okdhp_edge.data.load import load
from okdhp_edge.data.sample import PoseDataset, Sample, list_kinds
from okdhp_edge.evaluation.average_precision import (
    average_precision,
    average_precision_score,
    to_coco_results,
)
from okdhp_edge.evaluation.evaluate import score
from okdhp_edge.evaluation.paired import compute_gain, count_hits
from okdhp_edge.export.export_branch import ExportOptions, export_branch
from okdhp_edge.inference.external_pose_model import ExternalPoseModel
from okdhp_edge.inference.onnx_model import open_onnx_model
from okdhp_edge.inference.pose_estimator import PoseEstimator
from okdhp_edge.inference.top_down import crop_person, to_image
from okdhp_edge.label.negatives import sample_negative_boxes
from okdhp_edge.pose.crop import Box, box_around
from okdhp_edge.pose.metrics import auroc
from okdhp_edge.pose.preprocess import Image
from okdhp_edge.pose.result import Pose
from okdhp_edge.pose.skeleton import COCO17, LSP14, Skeleton
from okdhp_edge.system.files import write_text
from okdhp_edge.system.hardware import describe_machine
from okdhp_edge.system.latency import LatencyStats, StageClock

RESULTS = Path(__file__).parent.parent / "results"
COMMON = Skeleton("common12", tuple(j for j in COCO17.joints if j in LSP14.joints))
MOVENET_SIDE, PADDING = 192, 1.25
FEWEST_JOINTS = 4
AUC_STEPS = [round(0.01 * step, 2) for step in range(1, 51)]
ROUNDS, BLOCK, WARMUP = 40, 10, 5


class Found(NamedTuple):
    """Of one box: (12, 2) joints in frame pixels, (12,) scores, and whether somebody is there."""

    xy: NDArray[np.float32]
    score: NDArray[np.float32]
    somebody: float


class Contender(Protocol):
    """Finds one person's joints in a box."""

    name: str
    megabytes: float

    def estimate(self, frame: Image, box: Box) -> Pose:
        """All joints that it knows, in frame pixels."""
        ...

    def infer(self) -> None:
        """The network alone, on whatever it saw last."""
        ...


class MoveNet:
    """MoveNet SinglePose (Google), a square round the person, 17 joints as shares of it."""

    def __init__(self, path: Path, threads: int) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self.name, self.megabytes = "MoveNet Lightning INT8", path.stat().st_size / 1e6
        self._net = Interpreter(str(path), num_threads=threads)
        self._net.allocate_tensors()
        self._in = self._net.get_input_details()[0]["index"]
        self._out = self._net.get_output_details()[0]["index"]

    def estimate(self, frame: Image, box: Box) -> Pose:
        size = (MOVENET_SIDE, MOVENET_SIDE)
        crop, transform = crop_person(frame, box, size, PADDING, (0, 0, 0))
        self._net.set_tensor(self._in, cv2.cvtColor(crop, cv2.COLOR_BGR2RGB)[None])
        self._net.invoke()
        rows = self._net.get_tensor(self._out)[0, 0]
        xy = to_image(transform, rows[:, 1::-1] * MOVENET_SIDE - 0.5)
        return Pose(COCO17, xy.astype(np.float32), rows[:, 2].astype(np.float32))

    def infer(self) -> None:
        self._net.invoke()


class External:
    """An ONNX network in float, in OpenVINO, fed and read as its description says."""

    def __init__(self, name: str, path: Path, threads: int) -> None:
        self._model = ExternalPoseModel(path, threads)
        width, height = self._model.size
        self.name, self.megabytes = f"{name}, {width}x{height}", path.stat().st_size / 1e6
        self._net = open_onnx_model(path, threads, self._model.spec.output)
        self._input = self._model.spec.to_input(np.zeros((height, width, 3), np.uint8))

    def estimate(self, frame: Image, box: Box) -> Pose:
        xy, score = self._model.predict_view(frame, box)
        return Pose(self._model.skeleton, xy.astype(np.float32), score.astype(np.float32))

    def infer(self) -> None:
        self._net(self._input)


def find_joints(contender: Contender, frame: Image, box: Box) -> Found:
    """The joints that all data sets know."""
    pose = contender.estimate(frame, box)
    columns = COMMON.find_columns(pose.skeleton)
    return Found(pose.xy[columns], pose.score[columns], pose.presence_score)


def measure_ap(contender: Contender, coco: PoseDataset) -> dict[str, Any]:
    """COCO's numbers over all joints, in annotated boxes."""
    poses = [contender.estimate(s.image.read(), s.box) for s in coco.samples]
    columns = coco.skeleton.find_columns(poses[0].skeleton)
    xy, score = np.stack([p.xy for p in poses]), np.stack([p.score for p in poses])
    xy, score = xy[:, columns], score[:, columns]
    found = average_precision(coco, to_coco_results(coco, xy, score))
    interval = average_precision_score(coco, xy, score)
    return {name: round(found[name], 2) for name in ("AP50", "AP75", "AP-M", "AP-L")} | {
        "AP": [round(v, 2) for v in (interval.value, interval.low, interval.high)]
    }


class Ours:
    """One of our artifacts, by the code that `run` uses."""

    def __init__(
        self, name: str, runtime: str, precision: str, folder: Path, threads: int,
        closing: ExitStack,
    ) -> None:  # fmt: skip
        card = read_card(folder)
        self.name = f"{name} {precision.upper()}, {runtime}"
        self.megabytes = sum(p.stat().st_size for p in folder.glob("model.*")) / 1e6
        self._backend = closing.enter_context(
            open_backend(runtime, BackendConfig(folder, card, precision, threads))
        )
        self._estimator = PoseEstimator(self._backend, StageClock())
        self._crop = np.zeros((1, card.input.height, card.input.width, 3), np.uint8)

    def estimate(self, frame: Image, box: Box) -> Pose:
        return self._estimator.estimate(frame, box)

    def infer(self) -> None:
        self._backend.infer(self._crop)


def persons(source: str, split: str) -> PoseDataset:
    """With the common joints, in boxes round whatever joints are labelled."""
    poses = load(source, split)
    common = poses.with_skeleton(COMMON)
    enough = {s.id for s in common.samples if s.labelled.sum() >= FEWEST_JOINTS}
    shown = [_boxed(s) for s in poses.samples if s.id in enough]
    return replace(poses, samples=shown).with_skeleton(COMMON)


def _boxed(sample: Sample) -> Sample:
    return replace(sample, box=box_around(sample.xy[sample.labelled]))


def beside(poses: PoseDataset) -> list[tuple[Image, Box]]:
    """Boxes that nobody's labelled box reaches into, one a picture."""
    people: dict[str, list[Sample]] = {}
    for sample in poses.samples:
        people.setdefault(sample.image_name, []).append(sample)
    rng = np.random.default_rng(0)
    found = []
    for group in people.values():
        frame = group[0].image.read()
        boxes = [s.box for s in group]
        found += [(frame, box) for box in sample_negative_boxes(boxes, frame.shape[1::-1], 1, rng)]
    return found


def scores(
    contender: Contender,
    coco: PoseDataset,
    found: Sequence[Found],
    nobody: Sequence[tuple[Image, Box]],
) -> dict[str, float]:
    """Both questions of the head of this file."""
    labelled = np.stack([s.labelled for s in coco.samples])
    there = np.stack([f.score for f in found])
    empty = [find_joints(contender, frame, box).somebody for frame, box in nobody]
    return {
        "joint_auroc": round(auroc(there[labelled], there[~labelled]), 3),
        "somebody_auroc": round(auroc(np.array([f.somebody for f in found]), np.array(empty)), 3),
    }


def evaluated(poses: PoseDataset, xy: NDArray[np.float32], *, with_oks: bool) -> dict[str, Any]:
    record: dict[str, Any] = {}
    for metric in ("pck@0.1", "pck@0.2", "pck@0.5") + (("oks",) if with_oks else ()):
        found = score(poses, xy, metric)
        record[metric] = [round(v, 2) for v in (found.value, found.low, found.high)]
        record["persons"] = found.persons
        if metric == "pck@0.2":
            record["by_joint"] = dict(
                zip(COMMON.joints, np.round(found.per_joint, 1).tolist(), strict=True)
            )
    curve = [score(poses, xy, f"pck@{step}").value for step in AUC_STEPS]
    record["auc"] = round(float(np.mean(curve)), 2)
    return record


class Timing(NamedTuple):
    """Latency by contender, of the network (`infer`) and of a person from picture to joints."""

    latency_ms: dict[str, dict[str, Any]]
    machine: dict[str, Any]


def read_timing() -> Timing:
    """That of the earlier run."""
    record = json.loads((RESULTS / "peers.json").read_text(encoding="utf-8"))
    latency_ms = {row["name"]: row["latency_ms"] for row in record["rows"]}
    return Timing(latency_ms, record["latency_machine"])


def timed(contenders: Sequence[Contender], poses: PoseDataset) -> Timing:
    """The network alone, and a person from picture to joints, in turns of ten."""
    frames = [(s.image.read(), s.box) for s in poses.samples[: ROUNDS * BLOCK]]
    times: dict[str, dict[str, list[int]]] = {
        c.name: {"infer": [], "person": []} for c in contenders
    }
    for number in range(ROUNDS):
        block = frames[number * BLOCK : (number + 1) * BLOCK]
        for contender in contenders:
            for frame, box in block[:WARMUP]:
                contender.estimate(frame, box)
            for frame, box in block:
                started = time.perf_counter_ns()
                contender.estimate(frame, box)
                middle = time.perf_counter_ns()
                contender.infer()
                times[contender.name]["person"].append(middle - started)
                times[contender.name]["infer"].append(time.perf_counter_ns() - middle)
    latency_ms = {
        name: {what: LatencyStats.of(ns).to_dict() for what, ns in both.items()}
        for name, both in times.items()
    }
    return Timing(latency_ms, describe_machine())


def over_float(row: dict[str, Any], rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What an INT8 artifact gains or loses against the same network in float, in its runtime."""
    float_row = next((r for r in rows if r["name"] == row["name"].replace("INT8", "FP32")), row)
    if float_row is row:
        return {}
    return {"over_float": {
        f"{kind} {metric}": round(row[kind][metric][0] - float_row[kind][metric][0], 2)
        for kind, metric in (("coco", "AP"), ("coco", "oks"), ("lspet", "pck@0.2"))
    }}  # fmt: skip


def is_shipped(name: str) -> bool:
    """Whether a contender is what users get: of our models with INT8 that, not their float."""
    return "FP32" not in name or name.split(maxsplit=1)[0] in model_store.SHIPPED_FLOAT_MODELS


def plot(rows: Sequence[dict[str, Any]], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, both = plt.subplots(1, 2, figsize=(10, 4.6), layout="constrained")
    shown = (
        ("coco", "AP", "COCO AP, annotated boxes"),
        ("lspet", "pck@0.2", "PCK@0.2, LSPET test"),
    )
    for axes, (kind, metric, title) in zip(both, shown, strict=True):
        for row in rows:
            value, low, high = row[kind][metric]
            x = row["latency_ms"]["infer"]["p50"]
            errors = [[value - low], [high - value]]
            axes.errorbar(x, value, yerr=errors, fmt="o", capsize=4, label=row["name"])
        axes.set(xscale="log", xlabel="network, ms at batch 1 (median, same run)", title=title)
        axes.grid(alpha=0.3, which="both")
    figure.legend(*both[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description="Side by side with a peer.")
    parser.add_argument("--lspet", type=Path, required=True)
    parser.add_argument("--coco", type=Path, required=True)
    parser.add_argument("--movenet", type=Path, required=True)
    parser.add_argument("--thunder", type=Path, required=True)
    parser.add_argument("--tinypose", type=Path, nargs="*", default=[])
    parser.add_argument("--nobody", nargs="*", default=[], help="sets of boxes without anybody")
    parser.add_argument("--models", nargs="+", default=model_store.SHIPPED_MODELS)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--keep-latency", action="store_true", help="of the earlier run")
    asked = parser.parse_args()
    cv2.setNumThreads(1)
    sets = {
        "lspet": persons(f"lspet:{asked.lspet}", "test"),
        "coco": persons(f"coco:{asked.coco}", "all"),
    }
    with ExitStack() as closing:
        contenders: list[Contender] = [
            MoveNet(asked.movenet, asked.threads),
            External("MoveNet Thunder f32", asked.thunder, asked.threads),
            *(External("PP-TinyPose f32", path, asked.threads) for path in asked.tinypose),
        ]
        for name in asked.models:
            scratch = Path(closing.enter_context(tempfile.TemporaryDirectory()))
            in_float = export_branch(
                model_store.resolve_weights(name),
                ExportOptions(out=scratch / name, data=f"coco:{asked.coco}@all"),
            )
            for runtime in ("openvino", "onnxruntime"):
                contenders.append(Ours(name, runtime, "fp32", in_float, asked.threads, closing))
                if name in model_store.SHIPPED_FLOAT_MODELS:
                    continue
                int8 = model_store.find_artifact(model_store.resolve_model(name), runtime, "int8")
                contenders.append(Ours(name, runtime, "int8", int8, asked.threads, closing))
        found = {
            kind: {
                c.name: [find_joints(c, s.image.read(), s.box) for s in poses.samples]
                for c in contenders
            }
            for kind, poses in sets.items()
        }
        nobody = beside(load(f"coco:{asked.coco}", "all")) + [
            (s.image.read(), s.box) for name in asked.nobody for s in load(name, "all").samples
        ]
        precisions = {c.name: measure_ap(c, load(f"coco:{asked.coco}", "all")) for c in contenders}
        told = {c.name: scores(c, sets["coco"], found["coco"][c.name], nobody) for c in contenders}
        timing = read_timing() if asked.keep_latency else timed(contenders, sets["lspet"])
    latency = timing.latency_ms
    joints = {
        kind: {name: np.stack([f.xy for f in answers]) for name, answers in by.items()}
        for kind, by in found.items()
    }
    first = contenders[0].name
    peer = count_hits(sets["lspet"], joints["lspet"][first])
    rows = []
    for contender in contenders:
        name = contender.name
        rows.append({
            "name": name, "megabytes": round(contender.megabytes, 2),
            "lspet": evaluated(sets["lspet"], joints["lspet"][name], with_oks=False),
            "over_the_peer": str(
                compute_gain(count_hits(sets["lspet"], joints["lspet"][name]), peer)
            ),
            "coco": evaluated(sets["coco"], joints["coco"][name], with_oks=True) | precisions[name],
            "scores": told[name] | {"negative_boxes": len(nobody)},
            "latency_ms": latency[name],
            "latency_over_the_peers": round(
                latency[name]["infer"]["p50"] / latency[first]["infer"]["p50"], 3),
        })  # fmt: skip
    for row in rows:
        row.update(over_float(row, rows))
    plot([row for row in rows if is_shipped(row["name"])], RESULTS / "peers.png")
    record = {
        "command": "python benchmarks/accuracy/peers.py --lspet PATH --coco PATH "
        "--movenet FILE.tflite --thunder FILE.onnx --tinypose FILE.onnx FILE.onnx "
        "--nobody " + " ".join(map(list_kinds, asked.nobody)) + " "
        f"--models {' '.join(asked.models)}" + " --keep-latency" * asked.keep_latency,
        "threads": asked.threads, "joints": COMMON.joints, "machine": describe_machine(),
        "latency_machine": timing.machine, "rows": rows,
    }  # fmt: skip
    write_text(RESULTS / "peers.json", json.dumps(record, indent=2) + "\n")
    for row in rows:
        latency_ms = row["latency_ms"]["infer"]["p50"]
        print(row["name"], row["coco"]["AP"], row["lspet"]["pck@0.2"], row["scores"], latency_ms)


if __name__ == "__main__":
    main()
