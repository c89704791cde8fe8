"""Network cameras."""

import av
import cv2

from okdhp_edge.data.video import VideoReader
from okdhp_edge.errors import DataError
from okdhp_edge.pose.preprocess import Image
from okdhp_edge.run.sources.camera import CameraSource
from okdhp_edge.system.redact import redact_address

_NETWORK_TIMEOUT_MS = 5000


def open_network_camera(address: str) -> CameraSource:
    """A stream by its address (RTSP, MJPEG over HTTP and what else FFmpeg reads).

    Raises:
        SourceError: it cannot be opened.
    """
    return CameraSource(
        redact_address(address),
        lambda: _StreamCapture(address),
        lambda: _find_network_remedy(address),
    )


class _StreamCapture:
    """A stream as `cv2.VideoCapture` shows it, but with each frame in its own shape."""

    def __init__(self, address: str) -> None:
        self._reader: VideoReader | None = None
        self._size = (0, 0)
        try:
            self._reader = VideoReader(address, live=True)
        except DataError:
            return
        self._size = self._reader.size

    def isOpened(self) -> bool:  # noqa: N802
        return self._reader is not None

    def read(self) -> tuple[bool, Image | None]:
        try:
            found = self._reader.read() if self._reader else None
        except DataError:  # a frame of absurd size
            return False, None
        return (False, None) if found is None else (True, found.image)

    def get(self, what: int) -> float:
        if self._reader is None:
            return 0.0
        return {
            cv2.CAP_PROP_FRAME_WIDTH: float(self._size[0]),
            cv2.CAP_PROP_FRAME_HEIGHT: float(self._size[1]),
            cv2.CAP_PROP_FPS: self._reader.fps if self._reader.is_rate_known else 0.0,
            cv2.CAP_PROP_FRAME_COUNT: float(self._reader.count_frames()),
        }.get(what, 0.0)

    def release(self) -> None:
        if self._reader is not None:
            self._reader.close()


def _find_network_remedy(address: str) -> str:
    """By what FFmpeg says of the address, asked once more."""
    if "#" in address.rpartition("@")[0]:
        return "write # in a user or password as %23"
    try:
        av.open(address, timeout=_NETWORK_TIMEOUT_MS / 1000).close()
    except (av.HTTPUnauthorizedError, av.HTTPForbiddenError):
        return "the camera rejects this user and password: rtsp://USER:PASSWORD@HOST/..."
    except av.HTTPNotFoundError:
        return "the host answers but has no such path: see the camera's manual"
    except (av.FFmpegError, OSError):
        pass
    return "check the URL and the network, and try a player such as ffplay"
