"""Connection limit based on the process's file descriptors; idle connections are closed.

uvicorn limits requests, not connections: clients that connect and say nothing would take every
descriptor, and with it the report at the end of the run.
"""

import asyncio
import logging
import sys
from collections.abc import Callable, Coroutine
from contextlib import closing
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

logger = logging.getLogger(__name__)

_MAX_CONNECTIONS = 1000
# The rest is the run's own: cameras, files, the report.
_DESCRIPTOR_SHARE = 0.5
_REQUEST_TIMEOUT_S = 10.0


def get_max_connections() -> int:
    """How many clients may be connected at once under this process's limit of descriptors."""
    if sys.platform == "win32":
        return _MAX_CONNECTIONS
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(1, min(_MAX_CONNECTIONS, int(soft * _DESCRIPTOR_SHARE)))


class ConnectionLimit:
    """The connections of one server, at most `limit`. Where all are taken, the one that has been
    silent longest makes room; where none is silent the new one is refused."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._open: set[asyncio.Protocol] = set()
        # In the order of arrival.
        self._silent: dict[asyncio.Protocol, asyncio.Transport] = {}

    def admit(self, connection: asyncio.Protocol, transport: asyncio.Transport) -> bool:
        """Count a new connection; False: it has to go."""
        if len(self._open) >= self._limit:
            if not self._silent:
                return False
            oldest = next(iter(self._silent))
            self.close_if_silent(oldest)
            self._open.discard(oldest)
        self._open.add(connection)
        self._silent[connection] = transport
        return True

    def mark_request_received(self, connection: asyncio.Protocol) -> None:
        """It sent a whole request."""
        self._silent.pop(connection, None)

    def await_request(self, connection: asyncio.Protocol, transport: asyncio.Transport) -> bool:
        """It began another request; False: that is known."""
        if connection in self._silent or connection not in self._open:
            return False
        self._silent[connection] = transport
        return True

    def close_if_silent(self, connection: asyncio.Protocol) -> None:
        """Close a connection that has sent no request."""
        if transport := self._silent.pop(connection, None):
            transport.abort()

    def release(self, connection: asyncio.Protocol) -> None:
        """It is closed."""
        self._silent.pop(connection, None)
        self._open.discard(connection)


class _LimitedProtocol(H11Protocol):
    """uvicorn's protocol, closed where a request, the first or a later one, is not whole after ten
    seconds."""

    admission: ConnectionLimit
    _closing: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        if not self.admission.admit(self, transport):
            transport.abort()
            return
        self._set_deadline()
        super().connection_made(transport)

    def _set_deadline(self) -> None:
        self._closing = self.loop.call_later(
            _REQUEST_TIMEOUT_S, self.admission.close_if_silent, self
        )

    def data_received(self, data: bytes) -> None:
        before = self.cycle
        super().data_received(data)
        if self.cycle is not before:  # the head of a request is whole
            self.admission.mark_request_received(self)
            if self._closing is not None:
                self._closing.cancel()
        elif (
            before is not None and before.response_complete
            and self.admission.await_request(self, self.transport)
        ):  # fmt: skip
            self._set_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        self.admission.release(self)
        if self._closing is not None:  # it was admitted
            self._closing.cancel()
            super().connection_lost(exc)


def make_limited_protocol(limit: int) -> type[asyncio.Protocol]:
    """uvicorn's protocol for one server of at most `limit` connections."""
    return type("LimitedProtocol", (_LimitedProtocol,), {"admission": ConnectionLimit(limit)})


def run_quietly(serve: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a server in an event loop of its own, in which what goes wrong is logged as one line:
    clients must not fill a log with tracebacks."""
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(_log_one_line)
    with closing(loop):
        loop.run_until_complete(serve())
        loop.run_until_complete(loop.shutdown_default_executor())


def _log_one_line(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    logger.debug("%s (%s)", context.get("message"), context.get("exception"))
