"""What a run measured, with the facts without which the numbers mean nothing."""

from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np

from okdhp_edge import __version__
from okdhp_edge.backends.base import Description
from okdhp_edge.card import ModelCard
from okdhp_edge.hardware import describe_machine
from okdhp_edge.latency import LatencyStats


@dataclass(frozen=True, kw_only=True)
class RunReport:
    """Latency of every stage and of the whole, and what it was measured on.

    Attributes:
        frames: frames shown, warm-up included.
        found: frames in which a person was found.
        dropped: frames a live source gave that were never looked at.
        fps: counted frames / wall seconds between the first and the last of them.
        frame_age: capture to result, per frame; None when no frame was counted.
        warmup: frames left out of every statistic.
    """

    source: str
    live: bool
    frames: int
    found: int
    captured: int
    dropped: int
    warmup: int
    seconds: float
    fps: float
    stages: dict[str, LatencyStats]
    frame_age: LatencyStats | None
    backend: Description
    precision_asked: str
    model: str
    model_sha256: str

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, with machine and software facts."""
        record = {k: v for k, v in asdict(self).items() if k not in ("stages", "frame_age")}
        record["seconds"], record["fps"] = round(self.seconds, 4), round(self.fps, 2)
        record["stages_ms"] = {name: s.to_dict() for name, s in self.stages.items()}
        record["frame_age_ms"] = self.frame_age.to_dict() if self.frame_age else None
        record["machine"] = describe_machine()
        record["software"] = {
            "okdhp-edge": __version__, "opencv": cv2.__version__, "numpy": np.__version__,
            "opencv_threads": cv2.getNumThreads(),
        }  # fmt: skip
        return record


def model_facts(card: ModelCard) -> dict[str, str]:
    """Name and hash of the file that ran."""
    name = f"{card.name} branch {card.branch} {card.profile} {card.precision}"
    return {"model": name, "model_sha256": card.files[card.model_file]}
