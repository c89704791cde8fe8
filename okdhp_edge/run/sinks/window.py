"""A window with the annotated image."""

import os

import cv2

from okdhp_edge.pose.preprocess import Image
from okdhp_edge.run.pipeline import FrameResult


class WindowSink:
    """A window on the screen; `q` or Esc ends the run. Use from the main thread."""

    wants_image = True

    def __init__(self, title: str) -> None:
        self._title = title
        self._is_open = False

    def write(self, result: FrameResult, annotated: Image) -> bool:  # noqa: ARG002
        """Show the frame; False once the viewer presses `q` or Esc."""
        cv2.imshow(self._title, annotated)
        self._is_open = True
        return self.handle_events()

    def handle_events(self) -> bool:
        """Let the window redraw itself; False once the viewer presses `q` or Esc. To be called too
        while no frame comes, or the desktop takes the window for dead."""
        return not self._is_open or cv2.waitKey(1) & 0xFF not in (ord("q"), 27)

    def close(self, *, success: bool) -> None:  # noqa: ARG002
        """Close the window."""
        cv2.destroyAllWindows()


def has_display() -> bool:
    """Whether windows could be shown: of Windows, X or Wayland."""
    return os.name == "nt" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def is_window_possible() -> bool:
    """Whether there is a display, and an OpenCV build that can open windows."""
    return has_display() and "GUI:                           NONE" not in cv2.getBuildInformation()
