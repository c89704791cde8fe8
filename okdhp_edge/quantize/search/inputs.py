"""Quantization inputs: the float model, its calibration statistics, and the data of the gate."""

from dataclasses import dataclass, field
from pathlib import Path

from okdhp_edge.artifacts.card import ModelCard
from okdhp_edge.data.sample import PoseDataset
from okdhp_edge.quantize.ranges.calibration import CalibrationSet
from okdhp_edge.quantize.ranges.calibrators import Range
from okdhp_edge.quantize.ranges.observe import StatisticsByTensor


@dataclass(frozen=True, kw_only=True)
class QuantizationInputs:
    """What every INT8 artifact of a model is made from.

    Attributes:
        float_model: the float ONNX file.
        card: its card.
        learned: whether `fixed_ranges` holds ranges that training with quantization has found.
        fixed_ranges: ranges that no calibrator needs to find: the image's, and learned ones.
        gate: the images that decide, by `metric`.
        float_metric: the metric of the float file on them, in points of 100.
        max_drop: points that may be lost.
        reference_sha256: of the float file that `float_metric` was measured of.
        command: what the person typed, for the card.
    """

    float_model: Path
    card: ModelCard
    crops: CalibrationSet
    statistics: StatisticsByTensor
    learned: bool = False
    fixed_ranges: dict[str, Range] = field(default_factory=dict)
    gate: PoseDataset
    metric: str
    float_metric: float
    max_drop: float
    reference_sha256: str
    command: str = ""
