"""A model as a function: picture in, poses out."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from okdhp_edge.backends.choose import load_backend
from okdhp_edge.data.image_file import read_image, several_images_note
from okdhp_edge.errors import DataError
from okdhp_edge.pose.preprocess import Image
from okdhp_edge.pose.result import Pose
from okdhp_edge.pose.skeleton import Skeleton
from okdhp_edge.run.detect import PersonDetector
from okdhp_edge.run.estimate import Estimator
from okdhp_edge.run.single_person import SinglePersonTracker, is_person
from okdhp_edge.system.latency import StageClock

Picture = str | Path | NDArray[np.uint8] | Any
"""Besides: a PIL image, or a frame of PyAV."""


class PoseModel:
    """A loaded model. Call it with a picture; use it from one thread at a time.

    Args:
        model: name of a shipped or trained model, or a path; None takes what `run` would.
        backend: `auto` or a runtime's name.
        precision: `auto`, `int8`, `fp32` or `bf16`.
        threads: CPU threads; None for the runtime's default.
        detector: ONNX person detector, for pictures with several people.

    Raises:
        OkdhpError: no such model, runtime, device or precision.
    """

    def __init__(
        self,
        model: str | None = None,
        *,
        backend: str = "auto",
        precision: str = "auto",
        threads: int | None = None,
        detector: str | Path | None = None,
    ) -> None:
        self._backend, self.precision = load_backend(
            model, backend, precision, threads, lambda _: None
        )
        self._estimator = Estimator(self._backend, StageClock())
        self._search = SinglePersonTracker(self._estimator)
        self._detect = PersonDetector(Path(detector), threads) if detector else None

    @property
    def skeleton(self) -> Skeleton:
        """Names and order of the joints."""
        return self._backend.card.skeleton.skeleton()

    @property
    def backend(self) -> str:
        """The runtime that runs it."""
        return self._backend.name

    def __call__(self, picture: Picture, boxes: Sequence[ArrayLike] | None = None) -> list[Pose]:
        """The poses in a picture, in its pixels.

        Args:
            picture: a path, (H, W, 3) uint8 BGR as OpenCV reads it, a PIL image, or a frame of
                PyAV.
            boxes: x, y, width, height of each person in pixels, one pose each; without, the
                detector's persons, or without a detector the one person that is found.

        Raises:
            DataError: the picture or a box cannot be used.
        """
        frame = _frame(picture)
        if boxes is not None:
            return self._estimator.estimate_many(frame, [_box(b) for b in boxes])
        if self._detect is not None:
            found = [d.box for d in self._detect(frame)]
            return [p for p in self._estimator.estimate_many(frame, found) if is_person(p)]
        self._search.reset()
        return self._search.update(frame)

    def close(self) -> None:
        """Release the model; safe to call twice."""
        self._backend.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def load(
    model: str | None = None,
    *,
    backend: Literal["auto", "openvino", "onnxruntime", "tensorrt", "pytorch"] = "auto",
    precision: Literal["auto", "int8", "fp32", "bf16"] = "auto",
    threads: int | None = None,
    detector: str | Path | None = None,
) -> PoseModel:
    """Load a model: `poses = okdhp_edge.load("lite")("picture.jpg")`. See `PoseModel`."""
    return PoseModel(
        model, backend=backend, precision=precision, threads=threads, detector=detector
    )


def _frame(picture: Picture) -> Image:
    if isinstance(picture, str | Path):
        if note := several_images_note(Path(picture)):
            warnings.warn(note, stacklevel=3)
        return read_image(Path(picture))
    # By their modules, which are not imported for it: what they hold is RGB, not BGR.
    kind = type(picture)
    library = kind.__module__.partition(".")[0]
    if library == "PIL" and hasattr(picture, "convert"):
        return np.ascontiguousarray(np.asarray(picture.convert("RGB"))[..., ::-1])
    if library == "av" and hasattr(picture, "to_ndarray"):
        return np.asarray(picture.to_ndarray(format="bgr24"), dtype=np.uint8)
    if not isinstance(picture, np.ndarray):
        raise DataError(
            f"a picture of type {kind.__module__}.{kind.__name__} does not say its order of colors",
            "give uint8 (height, width, 3) BGR as numpy array, a PIL image or a path",
        )
    array = picture
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or 0 in array.shape:
        raise DataError(
            f"a picture is uint8 (height, width, 3), not {array.dtype} {array.shape}",
            "give BGR as cv2.imread returns it, or a path",
        )
    return array


def _box(values: ArrayLike) -> NDArray[np.float64]:
    box = np.asarray(values, dtype=np.float64)
    if box.shape != (4,) or not np.isfinite(box).all() or box[2:].min() <= 0:
        raise DataError(f"{box.tolist()} is no box", "give x, y, width and height in pixels")
    return box
