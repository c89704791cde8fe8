"""Static Q/DQ quantization of ONNX files by onnxruntime, for two targets that want opposites.

The CPU wants unsigned, asymmetric activations (u8s8: twice float's speed with VNNI, where s8s8 is
slower than float). TensorRT refuses any zero-point but 0 and any int32 bias.
"""

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)

# The mean over samples of each sample's extremes: a single outlier does not set the range, and
# no activation has to be kept. On the shipped model it loses half of what plain min-max does.
METHOD = "minmax-moving-average"
_QUANTIZED_OPS = ["Conv", "Add", "MaxPool", "Resize", "Concat", "Relu", "Clip"]
_INPUT_OPS = ["Conv", "ConvTranspose", "MatMul", "Gemm"]


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    """onnxruntime's way to ask for the next crop."""

    def __init__(self, source: Path, crops: Iterable[NDArray[np.uint8]]) -> None:
        graph = onnx.load(str(source), load_external_data=False).graph
        self._input = graph.input[0].name
        self._crops: Iterator[NDArray[np.uint8]] = iter(crops)

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        crop = next(self._crops, None)
        return None if crop is None else {self._input: crop}


def quantize_for_cpu(source: Path, target: Path, crops: Iterable[NDArray[np.uint8]]) -> None:
    """u8 activations, s8 weights per channel; `reduce_range` where the CPU lacks VNNI."""
    _quantize(
        source, target, crops,
        op_types_to_quantize=_QUANTIZED_OPS,
        activation_type=QuantType.QUInt8,
        reduce_range=not _has_vnni(),
        extra_options={"CalibMovingAverage": True},
    )  # fmt: skip


def quantize_for_tensorrt(source: Path, target: Path, crops: Iterable[NDArray[np.uint8]]) -> None:
    """s8 both, zero-point 0, float bias, only the inputs of convolutions and of residual adds."""
    _quantize(
        source, target, crops,
        op_types_to_quantize=["Conv", "ConvTranspose", "MatMul", "Gemm", "Add"],
        activation_type=QuantType.QInt8,
        reduce_range=False,
        extra_options={
            "CalibMovingAverage": True,
            "QuantizeBias": False,
            "ActivationSymmetric": True,
            "WeightSymmetric": True,
            "OpTypesToExcludeOutputQuantization": [*_INPUT_OPS, "Add", "Clip", "Relu"],
            "QDQOpTypePerChannelSupportToAxis": {"Conv": 0, "ConvTranspose": 1},
        },
    )  # fmt: skip


def _quantize(
    source: Path, target: Path, crops: Iterable[NDArray[np.uint8]], **options: Any
) -> None:
    # Its advice to pre-process does not apply: the export has folded and simplified already.
    logging.getLogger().addFilter(_no_preprocessing_advice)
    try:
        quantize_static(
            str(source), str(target), _Reader(source, crops), quant_format=QuantFormat.QDQ,
            per_channel=True, weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax, nodes_to_exclude=[_head(source)], **options,
        )  # fmt: skip
    finally:
        logging.getLogger().removeFilter(_no_preprocessing_advice)


def _head(source: Path) -> str:
    """The convolution that gives the heatmaps: its coarse steps would move the peaks."""
    graph = onnx.load(str(source), load_external_data=False).graph
    return next(str(n.name) for n in reversed(graph.node) if n.op_type == "Conv")


def _no_preprocessing_advice(record: logging.LogRecord) -> bool:
    return "pre-processing" not in record.getMessage()


def _has_vnni() -> bool:
    from okdhp_edge.hardware import cpu_flags

    return bool(cpu_flags() & {"avx512_vnni", "avx_vnni", "amx_int8"})
