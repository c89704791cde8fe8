"""OpenVINO on the CPU."""

import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from okdhp_edge.backends.base import (
    Backend,
    BackendConfig,
    BackendInfo,
    LayerTime,
    TimedHeatmaps,
)
from okdhp_edge.backends.compiled_models import compile_model
from okdhp_edge.errors import BackendError
from okdhp_edge.pose.heatmap import Heatmaps
from okdhp_edge.system.hardware import detect_int8_units
from okdhp_edge.system.telemetry import block_telemetry

with block_telemetry():
    import openvino as ov

# The bindings make their table of types at its first use, and import NumPy's types with it: two
# threads that do so at the same time wait for each other for ever (seen with 2026.4.1).
ov.Type.f32.to_dtype()

_DEVICE = "CPU"
# The CPU plugin's default is bf16 where the CPU has it, which would hide behind "fp32".
PRECISION_HINTS = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}
"""The plugin's inference precision for each requested precision."""
_BATCH_SIZES = (8, 4, 2, 1)
_MAX_QUEUED_REQUESTS = 2
_PROFILED_RUNS = 30
_NON_COMPUTE_LAYERS = {"Input", "Output", "Const", "Reorder", "Reshape", "Convert"}


class OpenVinoBackend(Backend):
    """Runs the INT8 IR, or the float ONNX in fp32 or bf16."""

    name = "openvino"

    def __init__(self, request: BackendConfig) -> None:
        super().__init__(request)
        self._asked = request.precision
        self._config = make_settings(request.precision, request.threads)
        self._file, self._cache = request.model_file, request.cache
        self._compiled = self._compile(None)
        self._requests: dict[int | None, Any] = {
            request.card.batch: self._compiled.create_infer_request()
        }
        # Two, so that one waits in the plugin's queue while the other runs.
        self._queued: deque[Any] = deque()
        self._refuse_other_precision(request.precision)

    def _refuse_other_precision(self, asked: str) -> None:
        counts = self._count_runtime_precisions()
        missing = (asked == "int8" and not counts["int8"]) or (
            asked == "bf16" and not counts["bf16"]
        )
        if missing:
            raise BackendError(
                f"openvino ran no layer in {asked} on this CPU (it ran {dict(counts)})",
                "use --precision fp32",
            )

    def _infer(self, images_BHWC: NDArray[np.uint8]) -> Heatmaps:
        request = self._get_request(len(images_BHWC))
        kept = _set_input(request, images_BHWC)  # until the network has read them
        request.infer()
        del kept
        return np.array(request.get_output_tensor(0).data, dtype=np.float32)

    def _infer_async(self, images_BHWC: NDArray[np.uint8]) -> Callable[[], TimedHeatmaps]:
        if len(self._queued) < _MAX_QUEUED_REQUESTS:
            self._queued.append(self._compiled.create_infer_request())
        self._queued.rotate()
        request = self._queued[0]
        kept = _set_input(request, images_BHWC)
        queued_ns = time.perf_counter_ns()
        request.start_async()

        def wait(alive: NDArray[np.uint8] = kept) -> TimedHeatmaps:  # noqa: ARG001
            request.wait()
            # From the call on, waiting in the plugin's queue included.
            done_ns = queued_ns + round(request.latency * 1e6)
            return TimedHeatmaps(
                np.array(request.get_output_tensor(0).data, dtype=np.float32), done_ns
            )

        return wait

    def _batch_for(self, waiting: int) -> int:
        """The largest of a few sizes that is full: each costs a compilation when first met."""
        if self.card.batch != 1:
            return super()._batch_for(waiting)
        return max(size for size in _BATCH_SIZES if size <= waiting)

    def _get_request(self, batch: int) -> Any:
        """A model for one crop is compiled again for others; dynamic shapes would be slower."""
        key = None if self.card.batch is None else batch
        if key not in self._requests:
            self._requests[key] = self._compile(batch).create_infer_request()
        return self._requests[key]

    def _compile(self, batch: int | None) -> Any:
        try:
            return compile_model(
                get_shared_core(), self._file, self.card, batch, self._config, cache=self._cache
            )
        except RuntimeError as error:
            if self._asked == "int8" and detect_int8_units() == "NEON":
                raise BackendError(
                    "openvino does not support INT8 on this CPU (NEON without dot product)",
                    "use --backend onnxruntime (pip install okdhp-edge[onnxruntime])",
                ) from error
            raise BackendError(
                f"openvino cannot run {self._file.name} ({str(error)[:160]})",
                "export the model again, or see `okdhp-edge doctor`",
            ) from error

    def describe(self) -> BackendInfo:
        """The runtime, version, device, precision and threads that really run."""
        counts = self._count_runtime_precisions()
        total = sum(counts.values())
        parts = ", ".join(f"{n} of {total} layers {p}" for p, n in counts.most_common())
        device = ", ".join(self._compiled.get_property("EXECUTION_DEVICES"))
        threads = int(self._compiled.get_property("INFERENCE_NUM_THREADS"))
        return BackendInfo(self.name, ov.__version__, device, f"{self._asked} ({parts})", threads)

    def _count_runtime_precisions(self) -> Counter[str]:
        """Layers by the precision the plugin really chose for them."""
        names = {"u8": "int8", "i8": "int8", "f32": "fp32", "bf16": "bf16", "f16": "fp16"}
        counts: Counter[str] = Counter()
        for op in self._compiled.get_runtime_model().get_ops():
            info = op.get_rt_info()
            kind = str(info["layerType"].astype(str)) if "layerType" in info else ""
            if kind in _NON_COMPUTE_LAYERS or "runtimePrecision" not in info:
                continue
            precision = str(info["runtimePrecision"].astype(str))
            counts[names.get(precision, precision)] += 1
        return counts

    @classmethod
    def layer_times(cls, config: BackendConfig, crop_1HWC: NDArray[np.uint8]) -> list[LayerTime]:
        """See `Backend.layer_times`; by the plugin's counters."""
        core = get_shared_core()
        properties = make_settings(config.precision, config.threads) | {"PERF_COUNT": True}
        compiled = core.compile_model(core.read_model(str(config.model_file)), _DEVICE, properties)
        asked = compiled.create_infer_request()
        times: dict[tuple[str, str], float] = defaultdict(float)
        for _ in range(_PROFILED_RUNS):
            asked.infer([crop_1HWC])
            for info in asked.get_profiling_info():
                kind = f"{info.node_type} {info.exec_type}"
                times[info.node_name, kind] += info.real_time.total_seconds() * 1e6 / _PROFILED_RUNS
        return [LayerTime(name, kind, us) for (name, kind), us in times.items() if us > 0]

    @classmethod
    def describe_devices(cls) -> tuple[str, str]:
        """See `Backend.describe_devices`."""
        core = get_shared_core()
        named = [f"{device} ({core.get_property(device, 'FULL_DEVICE_NAME').strip()})"
                 for device in core.available_devices]  # fmt: skip
        return ", ".join(named), "okdhp-edge uses its CPU device only"

    def close(self) -> None:
        """Release the compiled model and its requests."""
        super().close()
        self._requests.clear()
        self._queued.clear()
        self._compiled = None


def _set_input(request: Any, images_BHWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Give images to a request without a copy; what is returned must outlive the inference.

    A tensor that is set costs 0.07 ms less than images handed to `infer`, which looks for the
    input's name and type in Python: one part in sixteen of a small network's time.
    """
    images = np.require(images_BHWC, requirements=["C", "W"])  # it shares no read-only memory
    request.set_input_tensor(ov.Tensor(images, shared_memory=True))
    return images


class _OnnxModel:
    """An ONNX file as it is."""

    def __init__(self, path: Path, threads: int | None, output: str | None, precision: str) -> None:
        model = get_shared_core().read_model(str(path))
        compiled = get_shared_core().compile_model(
            model, _DEVICE, make_settings(precision, threads)
        )
        self._output = model.output(output or 0)
        self._type = model.input(0).get_element_type().to_dtype()
        self.input_shape = _to_sizes(model.input(0))
        self.output_shape = _to_sizes(self._output)
        self._request = compiled.create_infer_request()

    def __call__(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        self._request.infer([values.astype(self._type, copy=False)], share_inputs=True)
        return np.array(self._request.get_tensor(self._output).data, dtype=np.float32)


def open_onnx(path: Path, threads: int | None, output: str | None, precision: str) -> _OnnxModel:
    """See `inference.onnx_model.OnnxModel`."""
    return _OnnxModel(path, threads, output, precision)


def _to_sizes(port: Any) -> tuple[int, ...]:
    return tuple(d.get_length() if d.is_static else -1 for d in port.partial_shape)


def make_settings(precision: str, threads: int | None) -> dict[str, Any]:
    """The plugin's settings: latency mode and the requested precision."""
    chosen: dict[str, Any] = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": PRECISION_HINTS[precision],
        # Pinned, its threads share their cores with whatever prepares the next frame there.
        "ENABLE_CPU_PINNING": False,
    }  # fmt: skip
    return chosen | ({"INFERENCE_NUM_THREADS": threads} if threads else {})


def get_shared_core() -> ov.Core:
    """One core for the process, whichever threads ask, never released.

    The CPU plugin of each core sets an alternate signal stack; two cores released in the order of
    their making leave one that points into freed memory, and the next Ctrl-C kills the process
    (seen with 2026.4.1).
    """
    with _CORE_LOCK:  # `cache` alone would call twice for two threads
        return _make_core()


_CORE_LOCK = Lock()
_make_core = cache(ov.Core)
