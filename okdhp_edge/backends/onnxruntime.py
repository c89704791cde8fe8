"""ONNX Runtime on the CPU."""

import json
import os
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from okdhp_edge.backends.base import Backend, BackendConfig, BackendInfo, LayerTime
from okdhp_edge.errors import BackendError
from okdhp_edge.pose.heatmap import Heatmaps
from okdhp_edge.system.hardware import count_usable_cores, saturates_in_int8

_PROVIDER = "CPUExecutionProvider"
_ERROR_SEVERITY = 3
# Operators follow one another within tens of microseconds: a thread that waits so long is there for
# the next one, where one that sleeps at once has to be woken for each. One that spins for long, as
# ONNX Runtime has it by default, takes the core that crop and decode need.
_SPIN_US = 100
_NUM_PROFILED_RUNS = 30

NUMPY_DTYPES = {
    "tensor(int32)": np.int32, "tensor(uint8)": np.uint8, "tensor(int64)": np.int64,
    "tensor(float16)": np.float16, "tensor(double)": np.float64,
}  # fmt: skip
"""By the runtime's name of an input's type; float32 is not named."""


class OnnxRuntimeBackend(Backend):
    """Runs `model.onnx`, float or with Q/DQ."""

    name = "onnxruntime"

    def __init__(self, request: BackendConfig) -> None:
        super().__init__(request)
        options = _make_model_options(request)
        self._precision = request.precision
        try:
            self._session: Any = ort.InferenceSession(
                str(request.model_file), options, providers=[_PROVIDER]
            )
        except Exception as error:  # pybind raises its own kinds
            raise BackendError(
                f"onnxruntime cannot load {request.model_file.name} ({str(error)[:160]})",
                "export the model again",
            ) from error
        taken = self._session.get_inputs()[0]
        self._input = taken.name
        self._check_input(_to_sizes(taken.shape))

    def _check_input(self, shape: tuple[int, ...]) -> None:
        """Whether the file takes what its card says."""
        spec = self.card.input
        said = (self.card.batch or -1, spec.height, spec.width, 3)
        if shape != said:
            raise BackendError(
                f"the model takes {shape}, but its card says {said}", "export the model again"
            )

    def _infer(self, images_BHWC: NDArray[np.uint8]) -> Heatmaps:
        outputs = self._session.run(None, {self._input: images_BHWC})
        return np.asarray(outputs[0], dtype=np.float32)

    def close(self) -> None:
        """Release the session."""
        super().close()
        self._session = None

    def describe(self) -> BackendInfo:
        """The runtime, version, device, precision and threads that really run."""
        precision = "int8 (u8s8 or s8s8 Q/DQ), rest fp32" if self._precision == "int8" else "fp32"
        return BackendInfo(self.name, ort.__version__, "CPU", precision, self.threads)

    @classmethod
    def layer_times(cls, config: BackendConfig, crop_1HWC: NDArray[np.uint8]) -> list[LayerTime]:
        """See `Backend.layer_times`; by the session's profile."""
        with tempfile.TemporaryDirectory() as folder:
            options = _make_model_options(config)
            options.enable_profiling = True
            options.profile_file_prefix = str(Path(folder) / "profile")
            session = ort.InferenceSession(str(config.model_file), options, providers=[_PROVIDER])
            source = session.get_inputs()[0].name
            for _ in range(_NUM_PROFILED_RUNS):
                session.run(None, {source: crop_1HWC})
            events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
        times: dict[tuple[str, str], float] = defaultdict(float)
        for event in events:
            if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
                kind = event["args"].get("op_name", "")
                times[event["name"].removesuffix("_kernel_time"), kind] += (
                    event["dur"] / _NUM_PROFILED_RUNS
                )
        return [LayerTime(name, kind, us) for (name, kind), us in times.items()]


class _OnnxModel:
    """An ONNX file as it is."""

    def __init__(self, path: Path, threads: int | None, output: str | None) -> None:
        self._session = ort.InferenceSession(
            str(path), _make_options(threads), providers=[_PROVIDER]
        )
        taken = self._session.get_inputs()[0]
        self._input, self._type = taken.name, NUMPY_DTYPES.get(taken.type, np.float32)
        given = {port.name: port for port in self._session.get_outputs()}
        self._output = output or next(iter(given))
        self.input_shape = _to_sizes(taken.shape)
        self.output_shape = _to_sizes(given[self._output].shape)

    def __call__(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        fed = values.astype(self._type, copy=False)
        outputs = self._session.run([self._output], {self._input: fed})
        return np.asarray(outputs[0], dtype=np.float32)


def open_onnx(path: Path, threads: int | None, output: str | None, precision: str) -> _OnnxModel:
    """See `inference.onnx_model.OnnxModel`."""
    if precision != "fp32":
        raise BackendError(
            f"onnxruntime cannot run {path.name} in {precision}", "install openvino, or use fp32"
        )
    return _OnnxModel(path, threads, output)


def _to_sizes(shape: list[int | str | None]) -> tuple[int, ...]:
    return tuple(size if isinstance(size, int) else -1 for size in shape)


def _make_model_options(request: BackendConfig) -> ort.SessionOptions:
    options = _make_options(request.threads)
    if request.card.profile == "tensorrt":
        # Its FP16 scales are read wrongly once onnxruntime folds constants (seen with 1.31);
        # this file is run here to evaluate its accuracy, not for its speed.
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    if request.precision == "int8" and saturates_in_int8() and not request.card.saturation_free:
        # Slower by half, but as exact as with VNNI; files that cannot saturate need it not.
        options.add_session_config_entry("session.x64quantprecision", "1")
    return options


def _make_options(threads: int | None) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.spin_duration_us", str(_SPIN_US))
    options.log_severity_level = _ERROR_SEVERITY
    if threads or count_usable_cores() < (os.cpu_count() or 1):
        # Its own number are the machine's cores, though this process may use fewer.
        options.intra_op_num_threads = threads or count_usable_cores()
    return options
