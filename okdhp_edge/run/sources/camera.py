"""Camera sources, with automatic reconnection."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import cv2
import numpy as np

from okdhp_edge.errors import SourceError
from okdhp_edge.pose.preprocess import Image
from okdhp_edge.run.sources.base import Source

_MIN_RECONNECT_PAUSE_S, _MAX_RECONNECT_PAUSE_S = 0.25, 4.0
_RECONNECT_TIMEOUT_S = 60.0

NO_WEBCAM_REMEDY = (
    "connect it, close other programs using it, or try another one: --source webcam:1"
)


class Capture(Protocol):
    """What is used of `cv2.VideoCapture`."""

    def isOpened(self) -> bool:  # noqa: N802
        """Whether it gives frames."""
        ...

    def read(self) -> tuple[bool, Any]:
        """Whether there is a frame, and the frame."""
        ...

    def get(self, what: int) -> float:
        """A property, 0 where it is not known."""
        ...

    def release(self) -> None:
        """Close it."""
        ...


class CameraSettings(NamedTuple):
    """What is asked of a camera; None leaves it to the device."""

    size: tuple[int, int] | None = None
    """Width and height."""
    fps: float | None = None


class CameraSource(Source):
    """A live stream. Frames that come too fast are dropped by the loop, not here.

    A camera that falls silent is opened again, with pauses that double, for a minute; then the
    run ends with an error.

    Args:
        open_capture: a fresh capture, opened or not.
        remedy: tells what a person can do if it does not open.
    """

    live = True

    def __init__(
        self, name: str, open_capture: Callable[[], Capture], remedy: Callable[[], str]
    ) -> None:
        super().__init__()
        self.name = name
        self._open, self._remedy, self._patience_s = open_capture, remedy, _RECONNECT_TIMEOUT_S
        self._capture = open_capture()
        if not self._capture.isOpened():
            raise SourceError(f"{name} cannot be opened", remedy())
        self.facts = {"granted": read_granted_settings(self._capture), "reconnects": 0}
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        self.fps = fps if 0 < fps < 1000 else None

    def _next(self) -> Image | None:
        image = self._read()
        if image is None and self._number == 0:
            raise SourceError(f"{self.name} delivers no frames", self._remedy())
        # By the clock: opening a camera that is not there takes seconds each time.
        pause, deadline = _MIN_RECONNECT_PAUSE_S, time.monotonic() + self._patience_s
        while image is None:
            if time.monotonic() >= deadline:
                raise SourceError(
                    f"{self.name} stopped delivering frames and did not recover within "
                    f"{self._patience_s:.0f} s",
                    "check the cable, power and network",
                )
            if self._stopped.wait(pause):
                return None
            pause = min(2 * pause, _MAX_RECONNECT_PAUSE_S)
            image = self._reopen()
        return image

    def _read(self) -> Image | None:
        try:
            good, image = self._capture.read()
        except cv2.error:  # what a broken stream does to some decoders
            return None
        return np.asarray(image, dtype=np.uint8) if good else None

    def _reopen(self) -> Image | None:
        self._capture.release()
        self._capture = self._open()
        image = self._read() if self._capture.isOpened() else None
        if image is not None:
            self.facts["reconnects"] += 1
        return image

    def get_frame_count(self) -> int:
        """Frames in all where the stream is a file that says so, else none."""
        return max(0, int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)))

    def _release(self) -> None:
        self._capture.release()


def read_granted_settings(capture: Capture) -> dict[str, float | str]:
    """What a camera says it gives, whatever it was asked for."""
    code = int(capture.get(cv2.CAP_PROP_FOURCC))
    letters = "".join(chr((code >> 8 * i) & 0xFF) for i in range(4)) if code > 0 else ""
    return {
        "width": int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)),
        "height": int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)),
        "fps": round(capture.get(cv2.CAP_PROP_FPS), 3),
        "fourcc": letters if letters.isprintable() else "",
    }


def open_webcam(device: int | str, wanted: CameraSettings = CameraSettings()) -> CameraSource:  # noqa: B008
    """A camera by number or device path.

    Raises:
        SourceError: it cannot be opened.
    """

    def open_device() -> cv2.VideoCapture:
        capture = cv2.VideoCapture(device)
        # Compressed frames: raw ones do not fit USB 2 at full rate. Must be set before the size.
        capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG"))
        if wanted.size:
            capture.set(cv2.CAP_PROP_FRAME_WIDTH, wanted.size[0])
            capture.set(cv2.CAP_PROP_FRAME_HEIGHT, wanted.size[1])
        if wanted.fps:
            capture.set(cv2.CAP_PROP_FPS, wanted.fps)
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        return capture

    return CameraSource(f"webcam {device}", open_device, lambda: NO_WEBCAM_REMEDY)


def open_gstreamer(pipeline: str) -> CameraSource:
    """A GStreamer pipeline that ends in `appsink`, or one to which it is added.

    Raises:
        SourceError: OpenCV was built without GStreamer, or the pipeline does not start.
    """
    if "GStreamer:                   YES" not in cv2.getBuildInformation():
        raise SourceError(
            "this OpenCV was built without GStreamer",
            "pipe it in: gst-launch-1.0 -q PIPELINE ! "
            "video/x-raw,format=BGR,width=640,height=480 ! fdsink | "
            "okdhp-edge run --source stdin:640x480@30",
        )
    whole = pipeline if "appsink" in pipeline else f"{pipeline} ! videoconvert ! appsink drop=true"
    return CameraSource(
        "GStreamer pipeline",
        lambda: cv2.VideoCapture(whole, cv2.CAP_GSTREAMER),
        lambda: "try it with gst-launch-1.0",
    )
