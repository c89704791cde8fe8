"""Tensor statistics of a network on a calibration set, cached between commands.

The key is a hash of the model file, of every crop's pixels after preprocessing, and of this
project's version: whatever changes, the key does, and no stale entry can be used.
"""

import contextlib
import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from okdhp_edge import __version__
from okdhp_edge.artifacts.model_store import get_cache_folder
from okdhp_edge.errors import OutputError
from okdhp_edge.quantize.ranges.calibrators import Range
from okdhp_edge.quantize.ranges.observe import (
    Histogram,
    StatisticsByTensor,
    TensorStatistics,
    observe,
)
from okdhp_edge.system.files import write_bytes
from okdhp_edge.system.progress import Report

_SCALAR_FIELDS = ("low", "high", "mean_low", "mean_high")
# With steps of exactly one OpenVINO takes the rounding of a image for no operation, drops it, and
# runs the first convolution in f32. A step this much wider still holds every pixel value.
_INPUT_RANGE_FACTOR = 1.0005


def get_statistics(
    model: Path, crops: Iterable[NDArray[np.uint8]], count: int, report: Report
) -> StatisticsByTensor:
    """From the cache, or observed now and put there."""
    path = get_cache_folder("calibration") / f"{_make_key(model, crops)}.npz"
    # One that is not there, or was cut short, by a full disk for one, is made anew.
    with contextlib.suppress(OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile,
                             zlib.error, IndexError, TypeError):  # fmt: skip
        return _read(path)
    found = observe(model, _Reported(crops, count, report))
    _write(found, path)
    return found


def observe_input_range(model: Path) -> dict[str, Range]:
    """The range of the first convolution's input: every image there can be, not those seen."""
    loaded = onnx.load(str(model), load_external_data=False).graph
    first = next(n for n in loaded.node if n.op_type == "Conv")
    shape = [max(1, d.dim_value) for d in loaded.input[0].type.tensor_type.shape.dim]
    black_and_white = [np.full((1, *shape[1:]), value, dtype=np.uint8) for value in (0, 255)]
    seen = observe(model, black_and_white)[first.input[0]]
    low, high = min(seen.low, 0.0) * _INPUT_RANGE_FACTOR, max(seen.high, 0.0) * _INPUT_RANGE_FACTOR
    return {first.input[0]: (low, high)}


class _Reported:
    """Crops that can be read again, with a progress bar."""

    def __init__(self, crops: Iterable[NDArray[np.uint8]], count: int, report: Report) -> None:
        self._crops = crops
        self._count = count
        self._report = report

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        for number, crop in enumerate(self._crops):
            self._report("calibrate", number + 1, self._count, "")
            yield crop


def _make_key(model: Path, crops: Iterable[NDArray[np.uint8]]) -> str:
    digest = hashlib.sha256(__version__.encode())
    digest.update(model.read_bytes())
    for crop in crops:
        digest.update(crop.tobytes())
    return digest.hexdigest()


def _write(statistics: StatisticsByTensor, path: Path) -> None:
    """Atomically. A cache that cannot be written is done without."""
    seen, content = list(statistics.values()), io.BytesIO()
    np.savez_compressed(
        content,
        names=np.array(json.dumps(list(statistics))),
        scalars=np.array([[getattr(s, name) for name in _SCALAR_FIELDS] for s in seen]),
        limits=np.array([s.histogram.limit for s in seen]),
        counts=np.stack([s.histogram.counts for s in seen]),
        channels=np.array([len(s.channel_mean) for s in seen]),
        means=np.concatenate([s.channel_mean for s in seen]),
    )
    with contextlib.suppress(OSError, OutputError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, content.getvalue())


def _read(path: Path) -> StatisticsByTensor:
    with np.load(path, allow_pickle=False) as file:
        names = json.loads(str(file["names"]))
        means = np.split(file["means"], np.cumsum(file["channels"])[:-1])
        columns = (file["scalars"], file["limits"], file["counts"], means)
        return {
            name: TensorStatistics(
                low=scalars[0], high=scalars[1], mean_low=scalars[2], mean_high=scalars[3],
                channel_mean=mean, histogram=Histogram(float(limit), counts),
            )
            for name, scalars, limit, counts, mean in zip(names, *columns, strict=True)
        }  # fmt: skip
