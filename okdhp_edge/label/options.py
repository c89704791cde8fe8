"""Options of a labelling run."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from okdhp_edge import __version__
from okdhp_edge.errors import DataError
from okdhp_edge.inference.external_pose_model import VIEWS, fingerprint
from okdhp_edge.inference.open_detector import identify_detector
from okdhp_edge.label.boxes import BoxFinder
from okdhp_edge.label.consensus import ConsensusRules

DEFAULT_DUPLICATE_BITS = 5
"""Bits in which the hashes of near-duplicates may differ."""


@dataclass(frozen=True, kw_only=True)
class LabelOptions:
    """What is labelled, by whom, and into which file.

    Attributes:
        sources: images, folders, videos.
        out: the COCO JSON; frames of videos go into a folder of its name next to it.
        teachers: ONNX files, each with its TOML.
        find: boxes that are there already; None where there are none.
        boxes: where `find` has them from, for a run that is resumed.
        detector: name or ONNX file of a detector for images that have no boxes; None for none.
        every: of a video one frame in so many.
        max_negatives: maximum number of negative boxes per image.
        min_box_height: persons whose box is lower than this many pixels are left out.
        duplicates: images whose hashes differ in no more bits than this are one; None keeps all.
        exclude: images and label files whose images, and near-duplicates of them, are excluded.
        no_people: the images contain no people, whatever a detector finds.
        views: crops of each person that a teacher sees, a key of `VIEWS`.
        workers: images processed in parallel, one process each; 1: in this process.
        cluster: address of a Ray cluster whose nodes do the work, or `local`; None for none.
        report: called with stage, done, total and a note.
        warn: called with one line for each item that was left out, and why.
    """

    sources: Sequence[Path]
    out: Path
    teachers: Sequence[Path]
    find: BoxFinder | None = None
    boxes: str = ""
    detector: str | Path | None = None
    rules: ConsensusRules = field(default_factory=ConsensusRules)
    every: int = 10
    max_negatives: int = 0
    min_box_height: float = 32.0
    duplicates: int | None = DEFAULT_DUPLICATE_BITS
    exclude: Sequence[Path] = ()
    no_people: bool = False
    views: int = 2
    precision: str = "fp32"
    workers: int = 1
    cluster: str | None = None
    seed: int = 0
    report: Callable[[str, int, int, str], None] = lambda *_: None
    warn: Callable[[str], None] = lambda _: None

    def __post_init__(self) -> None:
        if self.views not in VIEWS:
            raise DataError(f"no set of {self.views} views", f"use {', '.join(map(str, VIEWS))}")
        if not self.sources:
            raise DataError("nothing to label", "pass images, folders or videos")
        if self.no_people and not self.max_negatives:
            raise DataError("without people there are only negative boxes, and none are requested",
                            "add --negatives 1")  # fmt: skip

    def collect_settings(self) -> dict[str, Any]:
        """What the lines of a stopped run depend on."""
        return {
            "teachers": [fingerprint(path) for path in self.teachers],
            "rules": self.rules.model_dump(),
            "boxes": self.boxes if self.find is not None else None,
            "detector": self._describe_detector(),
            "max_negatives": self.max_negatives,
            "min_box_height": self.min_box_height,
            "no_people": self.no_people,
            "views": self.views,
            "precision": self.precision,
            "seed": self.seed,
            "version": __version__,
        }

    def _describe_detector(self) -> str | None:
        if self.detector is None:
            return None
        return identify_detector(str(self.detector))
