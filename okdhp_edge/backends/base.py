"""The interface of every runtime."""

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from okdhp_edge.artifacts.card import ModelCard
from okdhp_edge.errors import BackendError
from okdhp_edge.pose.heatmap import Heatmaps


@dataclass(frozen=True)
class BackendInfo:
    """What actually runs, as reported by the runtime, not as requested."""

    backend: str
    version: str
    device: str
    precision: str
    threads: int | None

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON-ready values."""
        return asdict(self)


class TimedHeatmaps(NamedTuple):
    """The result of a queued batch.

    Attributes:
        heatmaps: (B, K, h, w) float32.
        done_ns: when they were there, by `time.perf_counter_ns`; they may be asked for later.
    """

    heatmaps: Heatmaps
    done_ns: int


class LayerTime(NamedTuple):
    """One layer: mean microseconds a run, and how it ran (kernel or operator with its types)."""

    name: str
    kind: str
    us: float


@dataclass(frozen=True)
class BackendConfig:
    """What a backend is asked to load.

    Attributes:
        folder: holds the model file and its card, already verified.
        precision: fp32, bf16, fp16 or int8; a backend that cannot run it refuses.
        threads: CPU threads, None for the runtime's default.
        engine: a TensorRT engine to load instead of building one.
        trust_engine: load it even without a matching sidecar.
        cache: whether to keep what is compiled for the next process; not worth it for a trial.
    """

    folder: Path
    card: ModelCard
    precision: str
    threads: int | None = None
    engine: Path | None = None
    trust_engine: bool = False
    cache: bool = True

    @property
    def model_file(self) -> Path:
        """The model file that the card names."""
        return self.folder / self.card.model_file


def _pad_batch(crops_BHWC: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """At least `size` of them, empty ones at the end."""
    short = size - len(crops_BHWC)
    if short <= 0:
        return np.ascontiguousarray(crops_BHWC)
    empty = np.zeros((short, *crops_BHWC.shape[1:]), dtype=np.uint8)
    return np.concatenate([crops_BHWC, empty])


class Backend(ABC):
    """A loaded model. Use as a context manager, from one thread at a time.

    Attributes:
        threads: CPU threads that were asked for; None: the runtime's default.
        warm_batch_size: the largest batch of those run for warm-up.
    """

    name: str
    threads: int | None = None
    warm_batch_size: int = 0

    def __init__(self, request: BackendConfig) -> None:
        """Load the model.

        Raises:
            BackendError: the runtime, device or precision is not to be had.
        """
        self.card = request.card
        self.threads = request.threads
        self._open = True
        self._busy = threading.Lock()
        self._worker: ThreadPoolExecutor | None = None

    def infer(self, images_BHWC: NDArray[np.uint8]) -> Heatmaps:
        """Run one batch; returns when the result is in host memory.

        Args:
            images_BHWC: uint8 BGR crops of the card's input size.

        Returns:
            (B, K, h, w) float32, owned by the caller: later calls do not overwrite it.

        Raises:
            BackendError: closed, or an input of another shape or type.
        """
        self._check(images_BHWC, self.card.batch)
        return self._infer_exclusively(np.ascontiguousarray(images_BHWC))

    def infer_async(self, images_BHWC: NDArray[np.uint8]) -> Callable[[], TimedHeatmaps]:
        """Queue one batch; the function returned waits for its result, which is `infer_all`'s.

        Two may be queued or under way, and their results are waited for in the order of the calls;
        `infer` may be called meanwhile. The images are not to be changed before the result is
        there.

        Raises:
            BackendError: as `infer`, or more than one batch.
        """
        count = len(images_BHWC)
        self._check(images_BHWC, None)
        if count > (self.card.batch or count):
            raise BackendError(
                f"{count} crops exceed the model's batch size of {self.card.batch}",
                "submit one batch at a time",
            )
        wait = self._infer_async(_pad_batch(images_BHWC, self._batch_for(count)))

        def wait_for_count() -> TimedHeatmaps:
            heatmaps, done_ns = wait()
            return TimedHeatmaps(heatmaps[:count], done_ns)

        return wait_for_count

    def _infer_async(self, images_BHWC: NDArray[np.uint8]) -> Callable[[], TimedHeatmaps]:
        """In a thread; runtimes with requests of their own override it."""
        if self._worker is None:
            self._worker = ThreadPoolExecutor(1, f"{self.name}-request")

        def infer() -> TimedHeatmaps:
            return TimedHeatmaps(self._infer_exclusively(images_BHWC), time.perf_counter_ns())

        return self._worker.submit(infer).result

    def _infer_exclusively(self, images_BHWC: NDArray[np.uint8]) -> Heatmaps:
        with self._busy:
            return self._infer(images_BHWC)

    def infer_all(self, images_BHWC: NDArray[np.uint8]) -> Heatmaps:
        """Run any number of crops, at least one, in batches that the model takes.

        Raises:
            BackendError: as `infer`.
        """
        self._check(images_BHWC, None)
        parts, start = [], 0
        while start < len(images_BHWC):
            size = self._batch_for(len(images_BHWC) - start)
            part = images_BHWC[start : start + size]
            parts.append(self._infer_exclusively(_pad_batch(part, size))[: len(part)])
            start += size
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _batch_for(self, waiting: int) -> int:
        """Size of the next batch; the last one is filled up with empty crops."""
        return self.card.batch or waiting

    def _check(self, images_BHWC: NDArray[np.uint8], batch: int | None) -> None:
        if not self._open:
            raise BackendError(f"the {self.name} backend is closed", "load the model again")
        spec = self.card.input
        fits = (
            images_BHWC.dtype == np.uint8
            and images_BHWC.ndim == 4
            and images_BHWC.shape[1:] == (spec.height, spec.width, 3)
            and len(images_BHWC) > 0
            and batch in (None, len(images_BHWC))
        )
        if not fits:
            raise BackendError(
                f"input is {images_BHWC.dtype} {images_BHWC.shape}, but the model takes uint8 "
                f"({batch or 'any'}, {spec.height}, {spec.width}, 3)",
                "crop to the input size in the card",
            )

    @abstractmethod
    def _infer(self, images_BHWC: NDArray[np.uint8]) -> Heatmaps:
        """`infer` without the checks."""

    @abstractmethod
    def describe(self) -> BackendInfo:
        """What really runs."""

    @classmethod
    def layer_times(cls, config: BackendConfig, crop_1HWC: NDArray[np.uint8]) -> list[LayerTime]:
        """How long each layer of a model takes; empty where the runtime does not tell."""
        del config, crop_1HWC
        return []

    @classmethod
    def describe_devices(cls) -> tuple[str, str]:
        """What the runtime's library says of its devices, and what to do where it finds none.

        Asked in a process of its own: a broken library may end it.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Release the model; safe to call twice."""
        self._open = False
        if self._worker is not None:
            self._worker.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def predict_with(backend: Backend) -> Callable[[NDArray[np.uint8]], dict[str, Heatmaps]]:
    """`backend` as evaluate's predict function: any number of crops, one named output."""
    return lambda images_BHWC: {"model": backend.infer_all(images_BHWC)}
