"""What a labelling run is told."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from okdhp_edge import __version__
from okdhp_edge.inference.external_pose_model import fingerprint
from okdhp_edge.label.boxes import BoxFinder
from okdhp_edge.label.consensus import ConsensusRules


@dataclass(frozen=True, kw_only=True)
class LabelOptions:
    """What is labelled, by whom, and into which file.

    Attributes:
        sources: pictures, folders, videos.
        out: the COCO JSON; frames of videos go into a folder of its name beside it.
        teachers: ONNX files, each with its TOML.
        find: boxes that are there already; None where there are none.
        detector: ONNX file of a detector for the pictures that have no boxes; None for without.
        every: of a video one frame in so many.
        empty: at most so many boxes without anybody a picture.
        smallest: persons whose box is lower than this many pixels are left out.
        duplicates: pictures whose hashes differ in no more bits than this are one; None keeps all.
        unlike: pictures and label files whose pictures, and those like them, are left out.
        nobody: the pictures show nobody, whatever a detector would say.
        workers: pictures in work at the same time, one thread each.
        report: told stage, done, total and a note.
        warn: told what was left out and why, a line each.
    """

    sources: Sequence[Path]
    out: Path
    teachers: Sequence[Path]
    find: BoxFinder | None = None
    detector: Path | None = None
    rules: ConsensusRules = field(default_factory=ConsensusRules)
    every: int = 10
    empty: int = 0
    smallest: float = 32.0
    duplicates: int | None = 5
    unlike: Sequence[Path] = ()
    nobody: bool = False
    precision: str = "fp32"
    workers: int = 2
    seed: int = 0
    report: Callable[[str, int, int, str], None] = lambda *_: None
    warn: Callable[[str], None] = lambda _: None

    def collect_settings(self) -> dict[str, Any]:
        """What the lines of a stopped run depend on."""
        return {
            "teachers": [fingerprint(path) for path in self.teachers],
            "rules": self.rules.model_dump(),
            "boxes": self.find is not None,
            "detector": self.detector is not None,
            "empty": self.empty,
            "smallest": self.smallest,
            "nobody": self.nobody,
            "precision": self.precision,
            "seed": self.seed,
            "version": __version__,
        }
