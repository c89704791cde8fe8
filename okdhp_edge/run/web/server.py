"""The web server, in its own thread; it reads from the hub and writes to the controls."""

import asyncio
import errno
import json
import re
import secrets
import socket
import threading
from collections.abc import AsyncIterator
from functools import partial
from typing import Any, NamedTuple, Self, cast
from urllib.parse import quote

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import (
    HTMLResponse,
    JSONResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Route

from okdhp_edge.backends.registry import RuntimeChoice
from okdhp_edge.errors import OutputError
from okdhp_edge.report.pages import render_live_page
from okdhp_edge.run.web.connections import get_max_connections, make_limited_protocol, run_quietly
from okdhp_edge.run.web.guards import OriginGuard, SafeHeaders, TokenGuard, get_cookie_name
from okdhp_edge.run.web.hub import Hub
from okdhp_edge.run.web.metrics import CONTENT_TYPE, render_metrics
from okdhp_edge.system.reading import parse_json

_LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "::1")
_BOUNDARY = "frame"
_EVENT_INTERVAL_S = 0.5
_SHUTDOWN_TIMEOUT_S = 5.0
_MAX_CONTROL_BYTES = 1000
_MAX_BODY_S = 10.0
_LISTEN_BACKLOG = 128


class Address(NamedTuple):
    """Where to listen, and the required token; None for local access."""

    host: str
    port: int
    token: str | None

    @property
    def url(self) -> str:
        """The page's address, with the token where one is needed."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        token = f"?token={quote(self.token, safe='')}" if self.token else ""
        return f"http://{host}:{self.port}/{token}"


def parse_address(text: str, token: str | None = None) -> Address:
    """`[HOST:]PORT`; without a host this machine alone. Other hosts get a token if none is given.

    Raises:
        OutputError: no such address.
    """
    match = re.fullmatch(r"(?:(?P<host>\[[0-9a-fA-F:]+\]|[^:\[\]]+):)?(?P<port>\d{1,5})", text)
    if not match or int(match["port"]) > 65535:
        raise OutputError(f"invalid address '{text}'", "use --web PORT or --web HOST:PORT")
    if token is not None and not token.strip():
        raise OutputError("--web-token is empty", "set a token, or omit the option")
    host = (match["host"] or _LOOPBACK_HOSTS[0]).strip("[]")
    if token is None and host not in _LOOPBACK_HOSTS:
        token = secrets.token_urlsafe(16)
    return Address(host, int(match["port"]), token)


class WebServer:
    """Use as a context manager around the run.

    Args:
        listener: what `listen` returned for the address; None: it is called here.

    Raises:
        OutputError: nothing can listen there.
    """

    def __init__(self, hub: Hub, address: Address, listener: socket.socket | None = None) -> None:
        self._hub = hub
        self._socket = listener or listen(address)
        self.address = address._replace(port=self._socket.getsockname()[1])
        config = uvicorn.Config(
            create_app(hub, address), access_log=False, lifespan="off",
            timeout_graceful_shutdown=1,
            http=cast("Any", make_limited_protocol(get_max_connections())), ws="none",
            loop="none",
            log_level="critical",
            log_config=None,  # logging is whoever's program this runs in
        )  # fmt: skip
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=run_quietly, args=(partial(self._server.serve, [self._socket]),), name="web",
            daemon=True,
        )  # fmt: skip

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        # Streams end by themselves: cancelled ones fill the log with tracebacks.
        self._hub.closed = True
        self._server.should_exit = True
        self._thread.join(_SHUTDOWN_TIMEOUT_S)
        self._socket.close()


def listen(address: Address) -> socket.socket:
    """A socket at the address; whoever comes before a server runs there has to wait.

    Raises:
        OutputError: nothing can listen there.
    """
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((address.host, address.port))
        listener.listen(_LISTEN_BACKLOG)
    except OSError as error:
        listener.close()
        raise OutputError(
            f"cannot listen on {address.host}:{address.port} ({error.strerror or error})",
            "choose another port: --web 8081"
            if error.errno in (errno.EADDRINUSE, errno.EACCES)
            else "use an address of this machine, or 0.0.0.0 for all",
        ) from error
    return listener


def create_app(hub: Hub, address: Address) -> Starlette:
    """The routes, behind the token or the check of the host."""
    routes = [
        Route("/", _make_page_endpoint(address)),
        Route("/video/{place:int}", _make_video_endpoint(hub)),
        Route("/events", _make_events_endpoint(hub)),
        Route("/control", _make_control_endpoint(hub), methods=["POST"]),
        Route("/metrics", _make_metrics_endpoint(hub)),
        Route("/healthz", _make_health_endpoint(hub)),
    ]
    if address.token is None:
        # Without a token only pages of this machine: not those that a foreign name leads here.
        guard = Middleware(TrustedHostMiddleware, allowed_hosts=[*_LOOPBACK_HOSTS, "[::1]"])
    else:
        guard = Middleware(TokenGuard, token=address.token)
    middleware = [Middleware(SafeHeaders), guard, Middleware(OriginGuard)]
    return Starlette(routes=routes, middleware=middleware)


def _make_page_endpoint(address: Address) -> Any:
    async def page(request: Request) -> Response:
        response: Response
        if address.token and "token" in request.query_params:
            # The token goes into a cookie, for images and events, and out of the address bar.
            response = RedirectResponse("./", status_code=303)
            response.set_cookie(
                get_cookie_name(address.token), quote(address.token, safe=""), httponly=True,
                # Strict ones are held back when a link in a mail or chat leads here.
                samesite="lax",
            )  # fmt: skip
            return response
        response = HTMLResponse(render_live_page())
        response.headers["Content-Security-Policy"] = (
            "default-src 'none'; img-src 'self' data:; connect-src 'self'; "
            "style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
            "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
        )
        return response

    return page


def _make_video_endpoint(hub: Hub) -> Any:
    async def generate_images(place: int) -> AsyncIterator[bytes]:
        hub.viewers += 1
        number = -1
        try:
            while not hub.closed:
                found = await run_in_threadpool(hub.channels[place].encode_latest, number)
                if found is not None:
                    number, jpeg = found
                    head = f"--{_BOUNDARY}\r\nContent-Type: image/jpeg\r\n"
                    yield f"{head}Content-Length: {len(jpeg)}\r\n\r\n".encode() + jpeg + b"\r\n"
                # A viewer who does not read holds up this coroutine alone: the next image it
                # gets is the newest then.
                await asyncio.sleep(1 / hub.images_per_s)
        finally:
            hub.viewers -= 1

    async def video(request: Request) -> Response:
        place = request.path_params["place"]
        if place >= len(hub.channels):
            return JSONResponse({"error": f"no source {place}"}, status_code=404)
        kind = f"multipart/x-mixed-replace; boundary={_BOUNDARY}"
        return StreamingResponse(
            generate_images(place), media_type=kind, headers={"Cache-Control": "no-store"}
        )

    return video


def _make_events_endpoint(hub: Hub) -> Any:
    async def generate_events() -> AsyncIterator[str]:
        while not hub.closed:
            yield f"data: {json.dumps(hub.get_numbers())}\n\n"
            await asyncio.sleep(_EVENT_INTERVAL_S)

    async def serve_events(request: Request) -> Response:  # noqa: ARG001
        return StreamingResponse(
            generate_events(), media_type="text/event-stream", headers={"Cache-Control": "no-store"}
        )

    return serve_events


def _make_control_endpoint(hub: Hub) -> Any:
    async def handle_control(request: Request) -> Response:
        # A form of a foreign page cannot send this type without being asked for permission.
        if request.headers.get("content-type", "").partition(";")[0] != "application/json":
            return JSONResponse({"error": "send application/json"}, status_code=415)
        try:
            async with asyncio.timeout(_MAX_BODY_S):
                body = await _read_body(request, _MAX_CONTROL_BYTES)
        except TimeoutError:
            return JSONResponse({"error": "the body did not come"}, status_code=408)
        if body is None:
            return JSONResponse({"error": f"more than {_MAX_CONTROL_BYTES} bytes"}, status_code=413)
        try:
            wishes = parse_json(body.decode())
            problem = _act(hub, wishes)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError):
            problem = "send {paused, threshold or switch: {backend, precision}}"
        if problem:
            # A lone surrogate cannot be encoded.
            readable = problem.encode("ascii", "backslashreplace").decode()
            return JSONResponse({"error": readable}, status_code=400)
        return JSONResponse(hub.get_numbers()["controls"])

    return handle_control


async def _read_body(request: Request, limit: int) -> bytes | None:
    """The body, None where it is longer: then no more of it is read."""
    announced = request.headers.get("content-length", "0")
    if not announced.isdecimal() or int(announced) > limit:
        return None
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            return None
    return body


def _act(hub: Hub, wishes: dict[str, Any]) -> str:
    """Carry out what is asked; says what is wrong with it."""
    controls = hub.controls
    unknown = wishes.keys() - {"paused", "threshold", "switch"}
    if unknown or not wishes:
        return f"unknown control {', '.join(sorted(unknown)) or '(none given)'}"
    threshold = float(wishes.get("threshold", controls.threshold))
    paused = wishes.get("paused", controls.paused)
    if not 0 <= threshold <= 1:
        return "threshold must be between 0 and 1"
    if not isinstance(paused, bool):
        return "paused must be true or false"
    controls.threshold = threshold
    hub.set_paused(paused)
    if "switch" in wishes:
        choice = RuntimeChoice(wishes["switch"]["backend"], wishes["switch"]["precision"])
        if not controls.switch(choice):
            return f"cannot switch to {choice.backend} {choice.precision} now"
    return ""


def _make_metrics_endpoint(hub: Hub) -> Any:
    async def serve_metrics(request: Request) -> Response:  # noqa: ARG001
        return Response(render_metrics(hub.get_numbers()), media_type=CONTENT_TYPE)

    return serve_metrics


def _make_health_endpoint(hub: Hub) -> Any:
    async def serve_health(request: Request) -> Response:  # noqa: ARG001
        return JSONResponse({"ok": hub.healthy}, status_code=200 if hub.healthy else 503)

    return serve_health
