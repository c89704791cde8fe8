"""Measure the metric of a quantized model on the gate's data."""

from pathlib import Path

from okdhp_edge.artifacts.card import MetricResult, read_card
from okdhp_edge.backends.base import BackendConfig, predict_with
from okdhp_edge.backends.registry import open_backend
from okdhp_edge.data.sample import PoseDataset, list_kinds
from okdhp_edge.evaluation.evaluate import evaluate
from okdhp_edge.inference.flip_test import Predict
from okdhp_edge.pose.metrics import Score
from okdhp_edge.quantize.search.inputs import QuantizationInputs
from okdhp_edge.system.hardware import detect_int8_units


def verify(folder: Path, runtime: str, inputs: QuantizationInputs) -> MetricResult:
    """The metric of the artifact in `folder`, measured in `runtime`."""
    card = read_card(folder)
    config = BackendConfig(folder, card, card.precision, cache=False)
    with open_backend(runtime, config) as loaded:
        found = evaluate_metric(predict_with(loaded), inputs)
    return MetricResult(
        metric=inputs.metric, data=list_kinds(inputs.gate.source), split=inputs.gate.split,
        persons=found.persons, value=found.value, low=found.low, high=found.high,
        cpu=detect_int8_units(),
    )  # fmt: skip


def evaluate_metric(
    predict: Predict, inputs: QuantizationInputs, data: PoseDataset | None = None
) -> Score:
    """The metric of a predict function on the gate's data, or on a part of it."""
    card = inputs.card
    poses = inputs.gate if data is None else data
    return evaluate(poses, card.input, card.decoder, predict, inputs.metric)["model"]
