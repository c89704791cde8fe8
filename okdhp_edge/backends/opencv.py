"""OpenCV DNN: needs no additional package, and is the slowest runtime."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from okdhp_edge.backends.base import Backend, BackendConfig, BackendInfo, LayerTime
from okdhp_edge.errors import BackendError
from okdhp_edge.pose.heatmap import Heatmaps

_MIN_MAJOR_VERSION = 5
"""OpenCV 4 cannot read files whose input is uint8."""
_PROFILED_RUNS = 10


class OpenCvBackend(Backend):
    """Runs the float ONNX file in cv2.dnn. INT8 files it computes in float, so it takes none."""

    name = "opencv"

    def __init__(self, config: BackendConfig) -> None:
        super().__init__(config)
        self._net: Any = _read(config)

    def _infer(self, images_BHWC: NDArray[np.uint8]) -> Heatmaps:
        if self.threads:
            cv2.setNumThreads(self.threads)  # of the process, which others may have set since
        self._net.setInput(images_BHWC)
        return np.array(self._net.forward(), dtype=np.float32)

    def close(self) -> None:
        """Release the network."""
        super().close()
        self._net = None

    def describe(self) -> BackendInfo:
        """The runtime, version, device, precision and threads that really run."""
        return BackendInfo(self.name, cv2.__version__, "CPU", "fp32", cv2.getNumThreads())

    @classmethod
    def layer_times(cls, config: BackendConfig, crop_1HWC: NDArray[np.uint8]) -> list[LayerTime]:
        """See `Backend.layer_times`; by OpenCV's counters."""
        net = _read(config)
        total = np.zeros(0)
        for _ in range(_PROFILED_RUNS):
            net.setInput(crop_1HWC)
            net.forward()
            ticks = np.asarray(net.getPerfProfile()[1], dtype=np.float64).ravel()
            total = ticks if not total.size else total + ticks
        names = net.getLayerNames()[-len(total) :]
        us = total / cv2.getTickFrequency() * 1e6 / _PROFILED_RUNS
        return [
            LayerTime(name, net.getLayer(name).type, float(t))
            for name, t in zip(names, us, strict=False)
            if t > 0
        ]


def _read(config: BackendConfig) -> cv2.dnn.Net:
    if int(cv2.__version__.split(".")[0]) < _MIN_MAJOR_VERSION:
        raise BackendError(
            f"OpenCV {cv2.__version__} cannot read this project's ONNX files",
            "pip install 'opencv-python-headless>=5', or use another --backend",
        )
    try:
        return cv2.dnn.readNetFromONNX(str(config.model_file))
    except cv2.error as error:
        raise BackendError(
            f"opencv cannot read {config.model_file.name} ({error.err})", "export the model again"
        ) from error
