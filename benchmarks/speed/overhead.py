"""What a frame costs outside the network: crop, decode, track, draw.

    python benchmarks/speed/overhead.py

The network is replaced by prepared heatmaps of 14 joints, everything else is the code of `run`:
a 1280x720 frame, a 256x256 crop, 64x64 heatmaps of a drawn person, one OpenCV thread.
"""

import json
import sys
from pathlib import Path

import cv2
import numpy as np

from okdhp_edge.artifacts.card import DecoderSpec, InputSpec, ModelCard, SkeletonSpec
from okdhp_edge.backends.base import Backend, BackendConfig, BackendInfo
from okdhp_edge.data.synthetic import SyntheticScene
from okdhp_edge.inference.pose_estimator import PoseEstimator
from okdhp_edge.inference.tracking.single_person import SinglePersonTracker
from okdhp_edge.pose.crop import apply, box_around, compose, crop_from_frame, heatmap_from_crop
from okdhp_edge.pose.heatmap import HeatmapKind, gaussians
from okdhp_edge.pose.result import MIN_JOINT_SCORE
from okdhp_edge.pose.skeleton import LSP14
from okdhp_edge.run.loop import draw_overlay
from okdhp_edge.system.files import write_text
from okdhp_edge.system.hardware import describe_machine
from okdhp_edge.system.latency import StageClock, StageLog

FRAMES, WARMUP = 2000, 50
KINDS = (HeatmapKind.GAUSSIAN, HeatmapKind.LOGITS)
SIZE, STRIDE, SIGMA = 256, 4, 2.0
RESULT = Path(__file__).parent.parent / "results" / "overhead.json"


class PreparedBackend(Backend):
    """Answers at once with the same heatmaps."""

    name = "prepared"

    def __init__(self, card: ModelCard, heatmaps: np.ndarray) -> None:
        super().__init__(BackendConfig(Path(), card, "fp32"))
        self._heatmaps = heatmaps

    def _infer(self, images_BHWC: np.ndarray) -> np.ndarray:  # noqa: ARG002
        return self._heatmaps.copy()

    def describe(self) -> BackendInfo:
        return BackendInfo(self.name, "-", "-", "-", 1)


def card(kind: HeatmapKind) -> ModelCard:
    spec = InputSpec(width=SIZE, height=SIZE, mean=(127,) * 3, std=(128,) * 3)
    return ModelCard(
        name="prepared", format="onnx", profile="float", precision="fp32", input=spec,
        decoder=DecoderSpec(kind=kind, sigma=SIGMA, stride=STRIDE),
        skeleton=SkeletonSpec.of(LSP14), files={"model.onnx": "0" * 64},
        model_file="model.onnx", branch=0,
        parent_sha256="-", training_data="-", terms="-", command="-", version="-",
    )  # fmt: skip


def measure(kind: HeatmapKind) -> dict[str, dict[str, float]]:
    frame, xy = SyntheticScene((1280, 720)).frame(0.0)
    transform = crop_from_frame(box_around(xy), (SIZE, SIZE), 1.25)
    to_heatmap = compose(heatmap_from_crop(STRIDE), transform)
    heatmaps = gaussians(apply(to_heatmap, xy), (SIZE // STRIDE, SIZE // STRIDE), SIGMA)[None]
    if kind is HeatmapKind.LOGITS:
        heatmaps = np.log(np.maximum(heatmaps, 1e-4))
    clock, log = StageClock(), StageLog()
    tracker = SinglePersonTracker(PoseEstimator(PreparedBackend(card(kind), heatmaps), clock))
    for number in range(WARMUP + FRAMES):
        # What is neither stage is the tracker's own work: timed with it, then subtracted below.
        with clock.stage("find"):
            poses = tracker.update(frame)
        with clock.stage("draw"):
            draw_overlay(frame, poses, MIN_JOINT_SCORE)
        stages = clock.take()
        if number >= WARMUP:
            log.add(stages)
    stats = {name: s.stats().to_dict() for name, s in log.series.items()}
    stats["outside_infer_without_draw"] = {
        q: round(stats["find"][q] - stats["infer"]["p50"], 4) for q in ("mean", "p50", "p90", "p99")
    }
    return stats


def main() -> None:
    cv2.setNumThreads(1)
    stages_ms = {kind.value: measure(kind) for kind in KINDS}
    result = {
        "command": f"python benchmarks/speed/{Path(sys.argv[0]).name}",
        "frames": FRAMES, "machine": describe_machine(),
        "stages_ms": stages_ms,
    }  # fmt: skip
    write_text(RESULT, json.dumps(result, indent=2) + "\n")
    for kind, stages in stages_ms.items():
        for name, s in stages.items():
            print(f"{kind:9} {name:27} p50 {s['p50']:.3f} ms  p99 {s['p99']:.3f} ms")


if __name__ == "__main__":
    main()
