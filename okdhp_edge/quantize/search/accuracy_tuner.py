"""The tuner: try quantization settings, starting with plain PTQ, until the gate passes.

plain PTQ, other calibrators, bias correction, the fewest layers kept float, NNCF's accuracy control
(OpenVINO). What no trial saves needs quantization-aware training.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from okdhp_edge.artifacts.card import MetricResult
from okdhp_edge.backends.int8_profile import Int8Profile
from okdhp_edge.backends.registry import has_package
from okdhp_edge.quantize.ranges.calibrators import METHODS
from okdhp_edge.quantize.search.inputs import QuantizationInputs
from okdhp_edge.quantize.search.plan import LEARNED_CALIBRATOR, Plan
from okdhp_edge.quantize.search.sensitivity import measure_sensitivity, write_sensitivity
from okdhp_edge.quantize.search.verify import verify
from okdhp_edge.quantize.search.write import write_artifact
from okdhp_edge.system.files import write_text
from okdhp_edge.system.progress import Report

AUTO_CALIBRATOR = "auto"
# More float layers than this are no INT8 network any more.
_MAX_FLOAT_SHARE = 0.25


@dataclass(frozen=True)
class Trial:
    """One artifact: how it was made, what it measured, where it lies."""

    plan: Plan
    measured: MetricResult
    folder: Path


class AccuracyTuner:
    """Climbs for one profile; the artifacts of all attempts lie below `scratch`."""

    def __init__(
        self, profile: Int8Profile, inputs: QuantizationInputs, scratch: Path, report: Report
    ) -> None:
        self.attempts: list[Trial] = []
        self._profile = profile
        self._inputs = inputs
        self._scratch = scratch
        self._report = report
        self._asked: tuple[str, ...] = ()

    def tune(
        self, calibrators: Sequence[str], keep_float: tuple[str, ...], *, search: bool
    ) -> None:
        """Go up until the gate holds, or there is no further trial.

        Args:
            calibrators: in the order of trying.
            keep_float: nodes that are float from the first trial on.
            search: try all calibrators and go on with the best, even if the first is good enough.
        """
        self._asked = keep_float
        for calibrator in calibrators:
            self.run_trial(Plan(calibrator, keep_float=keep_float))
            if self.holds and not search:
                return
        for trial in (self._correct_biases, self._keep_float, self._control_accuracy):
            if self.holds:
                return
            trial()

    @property
    def holds(self) -> bool:
        """Whether any attempt passes the gate."""
        return any(self._passes(a) for a in self.attempts)

    @property
    def best(self) -> Trial:
        """Of the attempts that pass, the one with the fewest float layers, then the highest metric;
        without any, the highest metric."""
        passing = [a for a in self.attempts if self._passes(a)]
        return max(
            passing or self.attempts,
            key=lambda a: (-len(a.plan.keep_float) if passing else 0, a.measured.value),
        )

    def _passes(self, attempt: Trial) -> bool:
        return self._inputs.float_metric - attempt.measured.value <= self._inputs.max_drop

    def run_trial(self, plan: Plan) -> Trial:
        """Make one artifact and measure it."""
        self._report(self._profile.name, len(self.attempts), len(self.attempts) + 1, str(plan))
        folder = self._scratch / f"{self._profile.name}-{len(self.attempts)}"
        write_artifact(plan, self._profile, self._inputs, folder)
        measured = verify(folder, self._profile.runtime, self._inputs)
        attempt = Trial(plan, measured, folder)
        self.attempts.append(attempt)
        return attempt

    def _correct_biases(self) -> None:
        self.run_trial(replace(self.best.plan, bias_correction=True))

    def _keep_float(self) -> None:
        """Double the number of float layers until the gate holds, then halve the step back."""
        plan = self.best.plan
        ranges = plan.ranges(self._inputs, signed=self._profile.signed)
        layers = measure_sensitivity(self._inputs, self._profile, ranges, self._report)
        write_sensitivity(layers, self._scratch, self._profile.name)
        names = [layer.name for layer in layers if layer.name not in plan.keep_float]

        def passes(count: int) -> bool:
            return self._passes(
                self.run_trial(replace(plan, keep_float=(*plan.keep_float, *names[:count])))
            )

        most = max(1, int(_MAX_FLOAT_SHARE * len(names)))
        too_few, enough = 0, 1
        while not passes(enough):
            if enough == most:
                return
            too_few, enough = enough, min(2 * enough, most)
        while enough - too_few > 1:
            middle = (enough + too_few) // 2
            enough, too_few = (middle, too_few) if passes(middle) else (enough, middle)

    def _control_accuracy(self) -> None:
        # NNCF chooses layers by itself, so it cannot be asked to keep certain ones.
        if self._profile.accuracy_control and not self._asked and has_package("nncf"):
            self.run_trial(Plan("nncf", method="accuracy-control"))

    def describe_attempts(self) -> list[dict[str, object]]:
        """Every attempt, for people and for `trials.json`."""
        before = self._inputs.float_metric
        return [
            {
                "trial": str(a.plan), "value": round(a.measured.value, 3),
                "drop": round(before - a.measured.value, 3), "passes": self._passes(a),
                "keep_float": list(a.plan.keep_float),
            }
            for a in self.attempts
        ]  # fmt: skip


def write_trials(tuner: AccuracyTuner, folder: Path) -> None:
    """`trials.json` next to the artifact it led to."""
    write_text(folder / "trials.json", json.dumps(tuner.describe_attempts(), indent=1) + "\n")


def choose_calibrators(name: str, inputs: QuantizationInputs) -> tuple[Sequence[str], bool]:
    """The calibrators to try, in order, and whether all must be: learned ranges need none."""
    if inputs.learned:
        return (LEARNED_CALIBRATOR,), False
    if name == AUTO_CALIBRATOR:
        return tuple(METHODS), True
    return (name, *(m for m in METHODS if m != name)), False
