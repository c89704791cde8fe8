"""Plan: one way to quantize a model, from ranges to layers that stay float."""

from dataclasses import dataclass
from typing import Literal

from okdhp_edge.quantize.ranges.calibrators import METHODS, Range, compute_ranges
from okdhp_edge.quantize.search.inputs import QuantizationInputs

LEARNED_CALIBRATOR = "learned"
"""The calibrator's name where the ranges were learned in training."""


@dataclass(frozen=True)
class Plan:
    """One way to make a file INT8.

    Attributes:
        calibrator: one of `METHODS`, or `LEARNED_CALIBRATOR`.
        bias_correction: whether biases make up for what rounding the weights shifts.
        keep_float: names of nodes that are not quantized.
        method: `qdq` is ours; `accuracy-control` is NNCF's, which finds its own ranges.
    """

    calibrator: str
    bias_correction: bool = False
    keep_float: tuple[str, ...] = ()
    method: Literal["qdq", "accuracy-control"] = "qdq"

    def ranges(self, inputs: QuantizationInputs, *, signed: bool) -> dict[str, Range]:
        """Of every tensor; where learned ones are silent, the first calibrator speaks."""
        method = self.calibrator if self.calibrator in METHODS else next(iter(METHODS))
        return compute_ranges(inputs.statistics, method, signed=signed) | inputs.fixed_ranges

    def __str__(self) -> str:
        if self.method == "accuracy-control":
            return "NNCF accuracy control"
        parts = [self.calibrator]
        parts += ["bias correction"] if self.bias_correction else []
        parts += [f"{len(self.keep_float)} layers float"] if self.keep_float else []
        return ", ".join(parts)
