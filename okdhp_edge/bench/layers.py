"""Where a model's time goes, layer by layer, as its own runtime tells."""

import json
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from okdhp_edge.backends.base import BackendConfig

_RUNS = 30


class LayerTime(NamedTuple):
    """One layer: mean microseconds a run, and how it ran (kernel or operator with its types)."""

    name: str
    kind: str
    us: float


def slowest(
    backend: str, request: BackendConfig, crop_1HWC: NDArray[np.uint8], most: int
) -> list[LayerTime]:
    """The layers that take longest; empty for runtimes that do not tell."""
    measure = {"openvino": _openvino, "onnxruntime": _onnxruntime}.get(backend)
    layers = measure(request, crop_1HWC) if measure else []
    return sorted(layers, key=lambda layer: -layer.us)[:most]


def _openvino(request: BackendConfig, crop_1HWC: NDArray[np.uint8]) -> list[LayerTime]:
    from okdhp_edge.backends.openvino import HINTS, shared_core

    core = shared_core()
    config: dict[str, Any] = {
        "PERF_COUNT": True, "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": HINTS[request.precision],
    }  # fmt: skip
    if request.threads:
        config["INFERENCE_NUM_THREADS"] = request.threads
    compiled = core.compile_model(core.read_model(str(request.model_file)), "CPU", config)
    asked = compiled.create_infer_request()
    times: dict[tuple[str, str], float] = defaultdict(float)
    for _ in range(_RUNS):
        asked.infer([crop_1HWC])
        for info in asked.get_profiling_info():
            kind = f"{info.node_type} {info.exec_type}"
            times[info.node_name, kind] += info.real_time.total_seconds() * 1e6 / _RUNS
    return [LayerTime(name, kind, us) for (name, kind), us in times.items() if us > 0]


def _onnxruntime(request: BackendConfig, crop_1HWC: NDArray[np.uint8]) -> list[LayerTime]:
    import onnxruntime as ort

    with tempfile.TemporaryDirectory() as folder:
        options = ort.SessionOptions()
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        if request.threads:
            options.intra_op_num_threads = request.threads
        session = ort.InferenceSession(
            str(request.model_file), options, providers=["CPUExecutionProvider"]
        )
        source = session.get_inputs()[0].name
        for _ in range(_RUNS):
            session.run(None, {source: crop_1HWC})
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    times: dict[tuple[str, str], float] = defaultdict(float)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            kind = event["args"].get("op_name", "")
            times[event["name"].removesuffix("_kernel_time"), kind] += event["dur"] / _RUNS
    return [LayerTime(name, kind, us) for (name, kind), us in times.items()]
