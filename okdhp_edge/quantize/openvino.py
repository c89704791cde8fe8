"""INT8 IR for OpenVINO, by NNCF."""

import contextlib
import logging
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

METHOD = "nncf-performance"


def quantize_for_openvino(
    source: Path, target: Path, crops: Iterable[NDArray[np.uint8]], count: int
) -> None:
    """Write `target` (.xml, with its .bin beside it) from a float ONNX file.

    The preset is `performance`: symmetric activations, which NNCF keeps unsigned after a ReLU.
    """
    import nncf
    import openvino as ov

    from okdhp_edge.backends.openvino import shared_core

    logging.getLogger("nncf").setLevel(logging.ERROR)
    model = shared_core().read_model(str(source))
    dataset = nncf.Dataset(crops)
    # NNCF draws its progress on stdout, which belongs to the command's JSON line.
    with contextlib.redirect_stdout(sys.stderr):
        quantized = nncf.quantize(
            model, dataset, preset=nncf.QuantizationPreset.PERFORMANCE, subset_size=count
        )
    quantized.set_rt_info("okdhp-edge", ["model_info", "made_by"])
    ov.save_model(quantized, str(target), compress_to_fp16=False)
