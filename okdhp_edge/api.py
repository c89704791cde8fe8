"""The Python API: a model as a function, and the real-time loop as an iterator."""

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from okdhp_edge.backends.selection import load_backend
from okdhp_edge.data.image_file import read_image_and_note
from okdhp_edge.errors import DataError
from okdhp_edge.inference.open_detector import (
    Detector,
    check_pose_model,
    choose_detector,
    open_detector,
)
from okdhp_edge.inference.pose_estimator import PoseEstimator
from okdhp_edge.inference.refine_boxes import estimate_twice
from okdhp_edge.inference.tracking.single_person import SinglePersonTracker, is_person
from okdhp_edge.pose.duplicates import drop_duplicates
from okdhp_edge.pose.preprocess import Image
from okdhp_edge.pose.result import Pose
from okdhp_edge.pose.skeleton import Skeleton
from okdhp_edge.run.assemble import TrackingConfig, assemble
from okdhp_edge.run.controls import Controls
from okdhp_edge.run.reader import FramePolicy
from okdhp_edge.run.sources.open import open_source
from okdhp_edge.system.latency import StageClock

_log = logging.getLogger(__name__)

ImageLike = str | Path | NDArray[np.uint8] | Any
"""Besides: a PIL image, or a frame of PyAV; both are turned as they say."""


class PoseModel:
    """A loaded model. Call it with an image; use it from one thread at a time.

    Args:
        model: name of a shipped or trained model, or a path; None: the same default as `run`.
        backend: `auto` or a runtime's name.
        precision: `auto`, `int8`, `fp32` or `bf16`.
        threads: CPU threads; None for the runtime's default.
        detector: name or ONNX file of a person detector; None: the shipped one, where the model's
            joints are a person's; "none": no detector, and the one person that is found.

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
        self._backend, self.precision, _ = load_backend(
            model, backend, precision, threads, _log.info
        )
        self._detect: Detector | None = None
        with ExitStack() as on_error:
            on_error.callback(self._backend.close)
            self._estimator = PoseEstimator(self._backend, StageClock())
            self._search = SinglePersonTracker(self._estimator)
            check_pose_model(self._backend.card)
            self._detector = choose_detector(detector, self._backend.card)
            self._open_detector = partial(
                open_detector, backend=self._backend.name, threads=threads, say=_log.info
            )
            if detector is not None:
                self._find_people()
            on_error.pop_all()

    @property
    def skeleton(self) -> Skeleton:
        """Joint names and their order."""
        return self._backend.card.skeleton.skeleton()

    @property
    def backend(self) -> str:
        """Name of the runtime in use."""
        return self._backend.name

    def __call__(self, image: ImageLike, boxes: Sequence[ArrayLike] | None = None) -> list[Pose]:
        """The poses in an image, in its pixels.

        Args:
            image: a path, (H, W, 3) uint8 BGR as OpenCV reads it, a PIL image, or a frame of
                PyAV.
            boxes: x, y, width, height of each person in pixels, one pose each; without, everybody
                whom the detector finds, or without a detector the one person that is found.

        Raises:
            DataError: the image or a box cannot be used.
        """
        frame = _to_bgr_image(image)
        if boxes is not None:
            return self._estimator.estimate_many(frame, [_to_box(b) for b in boxes])
        if (detect := self._find_people()) is not None:
            found = detect(frame)
            poses = estimate_twice(self._estimator, frame, [d.box for d in found])
            return drop_duplicates(
                [
                    replace(pose, box=detection.box, box_score=detection.score)
                    for pose, detection in zip(poses, found, strict=True)
                    if is_person(pose)
                ]
            )
        self._search.reset()
        return self._search.update(frame)

    def _find_people(self) -> Detector | None:
        """The detector, opened when it is first needed: who passes boxes needs none."""
        if self._detect is None and self._detector is not None:
            self._detect = self._open_detector(self._detector)
        return self._detect

    def close(self) -> None:
        """Release the models; safe to call twice."""
        self._backend.close()
        if self._detect is not None:
            self._detect.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def load(
    model: str | None = None,
    *,
    backend: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
    detector: str | Path | None = None,
) -> PoseModel:
    """Load a model: `poses = okdhp_edge.load("lite")("image.jpg")`. See `PoseModel`."""
    return PoseModel(
        model, backend=backend, precision=precision, threads=threads, detector=detector
    )


class Result(NamedTuple):
    """An image (H, W, 3) uint8 BGR, and the poses of all people found in it."""

    frame: Image
    poses: list[Pose]


def stream(
    source: str = "webcam",
    *,
    model: str | None = None,
    backend: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
    people: Literal["auto", "one", "many"] = "auto",
    detector: str | Path | None = None,
    smooth: bool = False,
    stride: int = 1,
    max_fps: float | None = None,
    live: bool | None = None,
) -> Iterator[Result]:
    """Iterate over a source's frames and poses, estimated while the caller uses the last ones.

    From a camera, the newest frame is taken whenever the caller asks for the previous result, so a
    frame is never older than one iteration of the caller's loop; from a file, every frame.
    Leaving the loop closes the camera and the model. The arguments are those of `okdhp-edge run`;
    the choices of `auto` are logged.

    Raises:
        OkdhpError: model, source or detector cannot be used, or the source broke.
    """
    with ExitStack() as closing:
        loaded = load_backend(
            model, backend, precision, threads, _log.info, tune_threads=True, detail=_log.debug
        ).backend
        closing.enter_context(loaded)
        asked = TrackingConfig(mode=people, detector=detector, smooth=smooth)
        policy = FramePolicy(live=live, stride=stride, max_fps=max_fps)
        opened = open_source(source)
        closing.callback(opened.close)
        pipeline = assemble([opened], loaded, asked, policy, Controls(), closing, say=_log.info)
        for seen in closing.enter_context(pipeline):
            yield Result(seen.frame.image, seen.poses)


def _to_bgr_image(image: ImageLike) -> Image:
    if isinstance(image, str | Path):
        found, note = read_image_and_note(Path(image))
        if note:
            warnings.warn(note, stacklevel=3)
        return found
    # By their modules, which are not imported for it: what they hold is RGB, not BGR.
    kind = type(image)
    library = kind.__module__.partition(".")[0]
    if library == "PIL" and hasattr(image, "convert"):
        return _convert_pil_image(image)
    if library == "av" and hasattr(image, "to_ndarray"):
        from av.video.reformatter import VideoReformatter

        from okdhp_edge.data.video_frame import convert_frame

        return convert_frame(cast(Any, image), VideoReformatter())
    if not isinstance(image, np.ndarray):
        raise DataError(
            f"cannot tell the color order of an image of type {kind.__module__}.{kind.__name__}",
            "pass a uint8 BGR numpy array (height, width, 3), a PIL image or a path",
        )
    array = image
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or 0 in array.shape:
        raise DataError(
            f"expected a uint8 image (height, width, 3), got {array.dtype} {array.shape}",
            "pass a BGR array as returned by cv2.imread, or a path",
        )
    return array


def _convert_pil_image(image: Any) -> Image:
    if image.mode.startswith(("I", "F")) or 0 in image.size:  # clipped to white or black
        raise DataError(
            f"cannot use a PIL image of mode {image.mode} and size {image.size}",
            "convert it to 8 bits, or pass its path",
        )
    from PIL import ImageOps

    upright = ImageOps.exif_transpose(image)
    return np.ascontiguousarray(np.asarray(upright.convert("RGB"))[..., ::-1])


def _to_box(values: ArrayLike) -> NDArray[np.float64]:
    box = np.asarray(values, dtype=np.float64)
    if box.shape != (4,) or not np.isfinite(box).all() or box[2:].min() <= 0:
        raise DataError(f"invalid box {box.tolist()}", "pass x, y, width and height in pixels")
    return box
