"""INT8 IR for OpenVINO: our Q/DQ file converted, or NNCF's accuracy control.

Its plugin runs every convolution of our u8s8 file in INT8. NNCF's own quantization gives depthwise
convolutions one activation scale a channel, and those then run in f32 (seen with 2026.4.1 and NNCF
3.4 on AVX512-VNNI).
"""

import contextlib
import logging
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from okdhp_edge.errors import DataError
from okdhp_edge.inference.flip_test import Predict
from okdhp_edge.pose.heatmap import Heatmaps
from okdhp_edge.quantize.ranges.observe import fill_batch
from okdhp_edge.quantize.search.inputs import QuantizationInputs
from okdhp_edge.quantize.search.verify import evaluate_metric
from okdhp_edge.system.telemetry import block_telemetry


def convert(source: Path, target: Path) -> None:
    """A Q/DQ ONNX file to IR (.xml, with its .bin next to it)."""
    _save(_get_core().read_model(str(source)), target)


def _get_core() -> Any:
    from okdhp_edge.backends.openvino import get_shared_core

    return get_shared_core()


def _save(model: Any, target: Path) -> None:
    with block_telemetry():
        import openvino as ov

    model.set_rt_info("okdhp-edge", ["model_info", "made_by"])
    ov.save_model(model, str(target), compress_to_fp16=False)


def quantize_with_accuracy_control(
    inputs: QuantizationInputs, target: Path, max_drop: float
) -> None:
    """NNCF's accuracy control: layers go back to float, worst first, until the metric holds.

    Args:
        max_drop: points of the metric that may be lost.
    """
    with block_telemetry():
        import nncf

    logging.getLogger("nncf").setLevel(logging.ERROR)
    # NNCF draws its progress on stdout, which belongs to the command's JSON line.
    with contextlib.redirect_stdout(sys.stderr):
        quantized = nncf.quantize_with_accuracy_control(
            _get_core().read_model(str(inputs.float_model)),
            calibration_dataset=nncf.Dataset(
                [fill_batch(crop, inputs.card.batch) for crop in inputs.crops]
            ),
            validation_dataset=nncf.Dataset(range(len(inputs.gate))),
            validation_fn=_ValidationMetric(inputs),
            max_drop=max_drop / 100,
            subset_size=len(inputs.crops),
        )
    _save(quantized, target)


class _ValidationMetric:
    """Metric of a compiled model on samples given by number, between 0 and 1."""

    def __init__(self, inputs: QuantizationInputs) -> None:
        self._inputs = inputs

    def __call__(self, compiled: Any, numbers: Iterable[int]) -> tuple[float, None]:
        gate = self._inputs.gate
        # The brackets: other images of the set are not to be found in it.
        chosen = replace(gate, samples=[gate.samples[n] for n in numbers], split=f"{gate.split}[:]")
        predict = _predict(compiled, self._inputs.card.batch)
        try:
            return evaluate_metric(predict, self._inputs, chosen).value / 100, None
        except DataError:  # NNCF also asks for single samples, and one alone may count for nothing
            return 0.0, None


def _predict(compiled: Any, batch: int | None) -> Predict:
    def predict(images_BHWC: NDArray[np.uint8]) -> dict[str, Heatmaps]:
        crops = (fill_batch(image[None], batch) for image in images_BHWC)
        return {"model": np.concatenate([compiled(crop)[0][:1] for crop in crops])}

    return predict
