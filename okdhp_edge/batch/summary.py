"""What a batch did, for the table at its end."""

from collections import Counter
from dataclasses import dataclass, field

from okdhp_edge.batch.worker import SegmentResult


@dataclass
class BatchSummary:
    """What a batch did.

    Attributes:
        skipped: sources that were done before.
        failed: one line for each source that failed, by its URL.
        work_s: seconds of all workers, from the start of a segment to its end.
        cpu_s: seconds of all cores in that time.
        busy_s: what they were busy with: decoder, network, storage; the first two overlap.
        frames_per_worker: by process id.
    """

    done: int = 0
    skipped: int = 0
    frames: int = 0
    persons: int = 0
    video_s: float = 0.0
    failed: dict[str, str] = field(default_factory=dict)
    work_s: float = 0.0
    cpu_s: float = 0.0
    busy_s: dict[str, float] = field(default_factory=dict)
    frames_per_worker: Counter[int] = field(default_factory=Counter)

    @property
    def limit(self) -> str:
        """What took most of the workers' time: decoder, network or storage; empty if nothing was
        done."""
        return max(self.busy_s, key=lambda what: self.busy_s[what], default="")

    def add(self, result: SegmentResult) -> None:
        """Count a segment."""
        self.frames += result.frames
        self.persons += result.persons
        self.video_s += result.video_s
        self.frames_per_worker[result.worker] += result.frames
        self.work_s += result.wall_s
        self.cpu_s += result.cpu_s
        spent = {"decoder": result.decode_s, "network": result.infer_s, "storage": result.storage_s}
        for what, seconds in spent.items():
            self.busy_s[what] = self.busy_s.get(what, 0.0) + seconds
