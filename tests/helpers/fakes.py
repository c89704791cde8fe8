"""A clock that ticks as told, a backend that answers as told, a camera that films as told."""

import numpy as np

from okdhp_edge.artifacts.card import DecoderSpec, InputSpec, ModelCard, SkeletonSpec
from okdhp_edge.backends.base import Backend, BackendConfig, BackendInfo
from okdhp_edge.pose.heatmap import HeatmapKind, gaussians
from okdhp_edge.pose.skeleton import LSP14
from okdhp_edge.run.sources.base import Source

_SPREAD_JOINTS_PX = np.random.default_rng(4).permutation(
    np.stack(np.meshgrid([2.17, 12.83], np.linspace(2.17, 12.83, 7)), -1).reshape(-1, 2)
)


class FakeClock:
    """Nanoseconds that pass only when told to."""

    def __init__(self) -> None:
        self.ns = 0

    def __call__(self) -> int:
        return self.ns

    def advance_ms(self, ms: float) -> None:
        self.ns += round(ms * 1e6)


def fake_card(**changes: object) -> ModelCard:
    spec = {"width": 64, "height": 64, "mean": (127.0,) * 3, "std": (128.0,) * 3}
    facts: dict[str, object] = {
        "name": "fake", "format": "onnx", "profile": "float", "precision": "fp32",
        "input": InputSpec.model_validate(spec),
        "decoder": DecoderSpec(kind=HeatmapKind.GAUSSIAN, sigma=1.0, stride=4),
        "skeleton": SkeletonSpec.of(LSP14), "files": {"model.onnx": "0" * 64},
        "model_file": "model.onnx", "branch": 0, "parent_sha256": "0" * 64,
        "training_data": "none", "terms": "none", "command": "none", "version": "0",
    }  # fmt: skip
    return ModelCard.model_validate({**facts, **changes})


class FakeBackend(Backend):
    """Puts every joint where `xy` (heatmap pixels) says, with peak `score`."""

    name = "fake"

    def __init__(
        self, score: float = 0.9, xy: np.ndarray | None = None, card: ModelCard | None = None
    ) -> None:
        from pathlib import Path

        super().__init__(BackendConfig(Path(), card or fake_card(), "fp32"))
        self.score = score
        # As wide as a box a fifth larger than they, padded by 1.25, leaves it, so that following it
        # keeps the box's size.
        self.xy = _SPREAD_JOINTS_PX if xy is None else xy
        self.calls = 0
        self.fail_at: int | None = None

    def _infer(self, images_BHWC: np.ndarray) -> np.ndarray:
        self.calls += 1
        if self.calls == self.fail_at:
            raise RuntimeError("device lost")
        return np.asarray(gaussians(self.xy, (16, 16), 1.0)[None] * self.score)

    def describe(self) -> BackendInfo:
        return BackendInfo(self.name, "0", "none", "fp32", 1)


class ScriptedSource(Source):
    """Frames of one colour; `live` and `error_after` as wanted."""

    name = "scripted"
    fps = 30.0

    def __init__(self, frames: int, *, live: bool = False, error: Exception | None = None) -> None:
        super().__init__()
        self.live = live
        self._frames, self._error = frames, error
        self.closed = False

    def _next(self) -> np.ndarray | None:
        if self._number >= self._frames:
            if self._error:
                raise self._error
            return None
        return np.full((96, 128, 3), self._number % 256, dtype=np.uint8)

    def _release(self) -> None:
        self.closed = True
