"""A sign of life to systemd: the service is ready with its first frame, and alive while every
source gives frames, or a person has paused the run (sd_notify(3), protocol of `Type=notify` and
`WatchdogSec=`)."""

import os
import socket
import time
from collections.abc import Mapping

from okdhp_edge.errors import OutputError
from okdhp_edge.pose.preprocess import Image
from okdhp_edge.run.pipeline import FrameResult

_ABSTRACT_SOCKET_PREFIX = "@"
_S_PER_US = 1e-6
_SIGNS_PER_TIMEOUT = 20


class Watchdog:
    """Tells systemd on behalf of all sources of a run.

    Args:
        sources: how many there are.
        environment: of the process; systemd sets NOTIFY_SOCKET and, with `WatchdogSec=`,
            WATCHDOG_USEC.

    Raises:
        OutputError: the process is no service of `Type=notify`, or the socket is gone.
    """

    def __init__(self, sources: int, environment: Mapping[str, str] = os.environ) -> None:
        address = environment.get("NOTIFY_SOCKET")
        if not address:
            raise OutputError(
                "--watchdog needs NOTIFY_SOCKET, which systemd sets",
                "run it as a service with Type=notify, see deploy/okdhp-edge.service",
            )
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        try:
            # A leading @ stands for the zero byte of an abstract socket.
            self._socket.connect(
                "\0" + address[1:] if address.startswith(_ABSTRACT_SOCKET_PREFIX) else address
            )
        except OSError as error:
            self._socket.close()
            raise OutputError(
                f"systemd's socket {address} cannot be reached ({error})", "drop --watchdog"
            ) from error
        # So often in the time after which systemd gives the service up, which counts from the last.
        every_us = int(environment.get("WATCHDOG_USEC", "0")) / _SIGNS_PER_TIMEOUT
        self._every = every_us * _S_PER_US
        self._waiting = set(range(sources))
        self._all = frozenset(self._waiting)
        self._told = float("-inf")
        self._ready = False

    def mark_frame_done(self, place: int, now: float) -> None:
        """A frame of a source is done; systemd hears of it once all of them gave one."""
        self._waiting.discard(place)
        if self._waiting or now - self._told < self._every:
            return
        self._tell("WATCHDOG=1" if self._ready else "READY=1\nWATCHDOG=1")
        self._ready, self._told, self._waiting = True, now, set(self._all)

    def mark_paused(self, now: float) -> None:
        """A person has paused the run: it is alive without frames."""
        if self._ready and now - self._told >= self._every:
            self._tell("WATCHDOG=1")
            self._told = now

    def end(self) -> None:
        """The run ends; safe to call twice."""
        if self._socket.fileno() >= 0:
            self._tell("STOPPING=1")
            self._socket.close()

    def _tell(self, message: str) -> None:
        try:
            self._socket.send(message.encode())
        except OSError:  # systemd is restarted: it asks nobody for signs of life meanwhile
            return


class WatchdogSink:
    """One source's part in it."""

    wants_image = False

    def __init__(self, watchdog: Watchdog, place: int) -> None:
        self._watchdog, self._place = watchdog, place

    def write(self, result: FrameResult, annotated: Image) -> bool:  # noqa: ARG002
        """Tell the watchdog that a frame is done; True: the run goes on."""
        self._watchdog.mark_frame_done(self._place, time.monotonic())
        return True

    def close(self, *, success: bool) -> None:  # noqa: ARG002
        """Tell systemd that the run ends."""
        self._watchdog.end()
