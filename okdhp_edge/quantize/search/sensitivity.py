"""Layer sensitivity to INT8: each layer quantized alone, the rest in float."""

import json
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from okdhp_edge.backends.base import BackendConfig, predict_with
from okdhp_edge.backends.int8_profile import Int8Profile
from okdhp_edge.backends.onnxruntime import OnnxRuntimeBackend
from okdhp_edge.quantize.graph.onnx_qdq import (
    find_convolutions,
    find_with_activation,
    write_qdq,
)
from okdhp_edge.quantize.ranges.calibrators import Ranges
from okdhp_edge.quantize.ranges.observe import fill_batch
from okdhp_edge.quantize.search.inputs import QuantizationInputs
from okdhp_edge.quantize.search.verify import evaluate_metric
from okdhp_edge.system.files import write_text
from okdhp_edge.system.progress import Report

_NUM_CROPS = 32
_MAX_EVALUATED_LAYERS = 12


@dataclass(frozen=True)
class LayerSensitivity:
    """One convolution quantized alone.

    Attributes:
        sqnr_db: signal to quantization noise of the heatmaps, in decibels.
        drop: points of the metric lost; None for layers too harmless to be evaluated.
    """

    name: str
    sqnr_db: float
    drop: float | None = None


def measure_sensitivity(
    inputs: QuantizationInputs, profile: Int8Profile, ranges: Ranges, report: Report
) -> list[LayerSensitivity]:
    """Every convolution but the head, worst first; the worst twelve with the metric they cost."""
    crops = [crop for crop, _ in zip(inputs.crops, range(_NUM_CROPS), strict=False)]
    reference = _predict_heatmaps(inputs.float_model, crops)
    names = find_convolutions(inputs.float_model)
    found = []
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "model.onnx"
        for number, name in enumerate(names):
            report("sensitivity", number, len(names), name)
            _write_with_only(name, inputs, file, ranges, profile)
            noisy = _predict_heatmaps(file, crops)
            found.append(LayerSensitivity(name, sqnr_db(reference, noisy)))
        found.sort(key=lambda layer: layer.sqnr_db)
        for number, layer in enumerate(found[:_MAX_EVALUATED_LAYERS]):
            report("sensitivity", number, _MAX_EVALUATED_LAYERS, f"metric of {layer.name}")
            _write_with_only(layer.name, inputs, file, ranges, profile)
            found[number] = LayerSensitivity(layer.name, layer.sqnr_db, _measure_drop(inputs, file))
    return found


def _write_with_only(
    name: str, inputs: QuantizationInputs, file: Path, ranges: Ranges, profile: Int8Profile
) -> None:
    only = find_with_activation(inputs.float_model, name)
    write_qdq(inputs.float_model, file, ranges, profile, only=only)


def sqnr_db(reference: NDArray[np.float32], noisy: NDArray[np.float32]) -> float:
    """10 log10 of the signal's power over the noise's; 200 where there is no noise."""
    signal = float(np.square(reference, dtype=np.float64).sum())
    noise = float(np.square(reference - noisy, dtype=np.float64).sum())
    return 10 * float(np.log10(signal / noise)) if noise > signal * 1e-20 else 200.0


def _predict_heatmaps(file: Path, crops: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
    session = ort.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    source = session.get_inputs()[0]
    batches = (fill_batch(crop, source.shape[0]) for crop in crops)
    return np.concatenate([session.run(None, {source.name: b})[0][:1] for b in batches])


def _measure_drop(inputs: QuantizationInputs, file: Path) -> float:
    card = inputs.card.model_copy(update={"model_file": file.name})
    with OnnxRuntimeBackend(BackendConfig(file.parent, card, "int8")) as loaded:
        return inputs.float_metric - evaluate_metric(predict_with(loaded), inputs).value


def write_sensitivity(layers: list[LayerSensitivity], folder: Path, profile: str) -> None:
    """`sensitivity.json` and `sensitivity.png` into `folder`."""
    from matplotlib.figure import Figure

    content = {"profile": profile, "layers": [asdict(layer) for layer in layers]}
    write_text(folder / "sensitivity.json", json.dumps(content, indent=1) + "\n")
    figure = Figure(figsize=(8, 0.9 + 0.16 * len(layers)), layout="constrained")
    axis = figure.subplots()
    axis.barh(range(len(layers)), [layer.sqnr_db for layer in layers], color="tab:blue")
    axis.set_yticks(range(len(layers)), [layer.name for layer in layers], fontsize=6)
    axis.invert_yaxis()
    axis.set_xlabel("SQNR of the heatmaps with only this layer in INT8, dB; lower: more sensitive")
    axis.set_title(profile, fontsize=10)
    for place, layer in enumerate(layers):
        if layer.drop is not None:
            axis.annotate(f" -{layer.drop:.2f}", (layer.sqnr_db, place), fontsize=6, va="center")
    figure.savefig(folder / "sensitivity.png", dpi=110)
