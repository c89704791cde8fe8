"""Counters and timings of one source during a run."""

from okdhp_edge.run.pipeline import FrameResult
from okdhp_edge.system.latency import Series, StageLog

WARMUP_FRAMES = 5
"""Frames left out of the statistics: first runs allocate and compile."""
STAGES_AFTER_POSES = ("handoff", "draw", "output")
"""The stages from a frame's poses to the last sink."""


class RunStatistics:
    """Frames and people of one source; statistics from the end of warm-up on.

    Attributes:
        people_counts: of each frame in the statistics.
    """

    def __init__(self) -> None:
        self.frames = self.found = self.people = self.unshown = 0
        self.stages = StageLog()
        self.age, self.shown = Series(), Series()
        self.people_counts: list[int] = []
        self.first_age_ns = 0
        self._started_ns = self._ended_ns = 0

    def add(self, result: FrameResult, after: dict[str, int], now_ns: int) -> None:
        """A frame whose last sink is done.

        Args:
            after: nanoseconds of the stages of `STAGES_AFTER_POSES`.
            now_ns: on the monotonic clock.
        """
        age = result.done_ns - result.frame.captured_ns
        if self.frames >= WARMUP_FRAMES:
            self.stages.add(result.stages | after)
            self.age.add(age)
            self.shown.add(now_ns - result.frame.captured_ns)
            self.people_counts.append(len(result.poses))
            self._ended_ns = now_ns
        else:
            self._started_ns = now_ns  # the wall clock of the statistics starts with the last
        self.first_age_ns = self.first_age_ns or age
        self.frames += 1
        self.found += bool(result.poses)
        self.people = max(self.people, len(result.poses))

    @property
    def seconds(self) -> float:
        """Wall time of the frames in the statistics."""
        return max(self._ended_ns - self._started_ns, 0) / 1e9

    @property
    def fps(self) -> float:
        """Frames in the statistics by wall time: one over the mean interval."""
        return self.stages.frames / self.seconds if self.seconds else 0.0
