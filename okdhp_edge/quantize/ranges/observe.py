"""Collect statistics of every tensor of a float network on real crops.

One pass, memory flat in the number of crops: extremes, a histogram that widens as it must, and the
mean of each channel. Every calibrator reads its ranges from these (see `calibrators.py`).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from okdhp_edge.errors import ModelError

NUM_BINS = 8192
# Of each tensor of each crop; extremes and channel means are taken over all of it.
_SAMPLES_PER_TENSOR = 1 << 15
_MAX_GROUP_BYTES = 1 << 28
_FLOAT_TYPE = onnx.TensorProto.FLOAT


# All values below count as zero: the bins' width would be no number of single precision.
_MIN_LIMIT = 1e-30


@dataclass
class Histogram:
    """Counts in uniform bins from -limit to limit; the limit doubles when a value exceeds it."""

    limit: float = 0.0
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(NUM_BINS, dtype=np.int64))

    def add(self, values: NDArray[np.float32]) -> None:
        """Count finite values of any shape."""
        largest = float(np.abs(values).max(initial=0.0))
        if not self.limit and largest > _MIN_LIMIT:
            self.limit = largest
        if not self.limit:
            self.counts[NUM_BINS // 2] += values.size
            return
        while largest > self.limit:
            self._widen()
        place = (values.ravel() + np.float32(self.limit)) * np.float32(NUM_BINS / (2 * self.limit))
        index = np.minimum(place.astype(np.int64), NUM_BINS - 1)
        self.counts += np.bincount(index, minlength=NUM_BINS)

    def _widen(self) -> None:
        inner = self.counts.reshape(-1, 2).sum(axis=1)
        self.counts = np.zeros(NUM_BINS, dtype=np.int64)
        self.counts[NUM_BINS // 4 : 3 * NUM_BINS // 4] = inner
        self.limit *= 2

    @property
    def centres(self) -> NDArray[np.float64]:
        """(BINS,) the middle of each bin."""
        width = 2 * self.limit / NUM_BINS
        return np.linspace(
            -self.limit + width / 2, self.limit - width / 2, NUM_BINS, dtype=np.float64
        )


@dataclass
class TensorStatistics:
    """One tensor over all crops.

    Attributes:
        low, high: the extremes.
        mean_low, mean_high: means over crops of each crop's extremes.
        channel_mean: (C,) where the tensor has channels, else (1,).
    """

    low: float = np.inf
    high: float = -np.inf
    mean_low: float = 0.0
    mean_high: float = 0.0
    channel_mean: NDArray[np.float64] = field(default_factory=lambda: np.zeros(1))
    histogram: Histogram = field(default_factory=Histogram)
    crops: int = 0

    def add(self, value_1CHW: NDArray[np.float32]) -> None:
        """Take one crop's tensor in."""
        low, high = float(value_1CHW.min()), float(value_1CHW.max())
        self.crops += 1
        share = 1 / self.crops
        self.low, self.high = min(self.low, low), max(self.high, high)
        self.mean_low += share * (low - self.mean_low)
        self.mean_high += share * (high - self.mean_high)
        axes = (0, 2, 3) if value_1CHW.ndim == 4 else tuple(range(value_1CHW.ndim))
        mean = np.atleast_1d(value_1CHW.mean(axis=axes, dtype=np.float64))
        self.channel_mean = self.channel_mean + share * (mean - self.channel_mean)
        # An odd step does not fall into step with rows or channels.
        step = max(1, value_1CHW.size // _SAMPLES_PER_TENSOR) | 1
        self.histogram.add(value_1CHW.reshape(-1)[::step])


StatisticsByTensor = dict[str, TensorStatistics]
"""By tensor name."""


def observe(model: Path, crops: Iterable[NDArray[np.uint8]]) -> StatisticsByTensor:
    """Statistics of every float tensor between a network's nodes.

    Args:
        model: a float ONNX file with one uint8 input.
        crops: (1, H, W, 3) each; iterated once per group of tensors that memory has room for.

    Raises:
        ModelError: the file is quantized already, or a tensor is not finite.
    """
    loaded = onnx.load(str(model))
    if any(n.op_type in ("QuantizeLinear", "DequantizeLinear") for n in loaded.graph.node):
        raise ModelError(f"{model} is already quantized", "use the fp32 export")
    found: StatisticsByTensor = {}
    for names in _group_tensors(loaded):
        found |= _collect_statistics(loaded, names, crops)
    return found


def _collect_statistics(
    model: onnx.ModelProto, names: list[str], crops: Iterable[NDArray[np.uint8]]
) -> StatisticsByTensor:
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    del watched.graph.output[:]
    watched.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, _FLOAT_TYPE, None) for name in names
    )
    session = ort.InferenceSession(watched.SerializeToString(), providers=["CPUExecutionProvider"])
    source = session.get_inputs()[0]
    found = {name: TensorStatistics() for name in names}
    for crop in crops:
        batch = fill_batch(crop, source.shape[0])
        for name, value in zip(names, session.run(names, {source.name: batch}), strict=True):
            if not np.isfinite(value).all():
                raise ModelError(
                    f"tensor '{name}' is not finite on a calibration image",
                    "retrain with a lower learning rate or optimizer.clip_norm",
                )
            found[name].add(value[:1] if len(batch) > 1 else value)
    return found


def fill_batch(crop_1HWC: NDArray[np.uint8], size: int | str | None) -> NDArray[np.uint8]:
    """The crop as often as a file of a fixed batch takes: all of its rows are the same.

    Args:
        size: of the input's first axis; a name or None where any number will do.
    """
    return np.repeat(crop_1HWC, size, axis=0) if isinstance(size, int) else crop_1HWC


def _group_tensors(model: onnx.ModelProto) -> Iterator[list[str]]:
    """Names of the float tensors, so many at a time as fit."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    known = [*graph.value_info, *graph.output]
    group: list[str] = []
    size = 0
    for info in known:
        tensor = info.type.tensor_type
        if tensor.elem_type != _FLOAT_TYPE:
            continue
        bytes_ = 4 * int(np.prod([max(1, d.dim_value) for d in tensor.shape.dim]))
        if group and size + bytes_ > _MAX_GROUP_BYTES:
            yield group
            group, size = [], 0
        group.append(info.name)
        size += bytes_
    if group:
        yield group
