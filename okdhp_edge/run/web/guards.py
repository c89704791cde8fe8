"""Middleware of the web server: the token, and headers that browsers expect."""

import hashlib
import hmac
import time
from urllib.parse import unquote

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_COOKIE_PREFIX = "okdhp-edge-token"
_GUESS_INTERVAL_S = 1.0
_MAX_CLIENTS = 10_000


def get_cookie_name(token: str) -> str:
    """Of a run's token: browsers keep cookies by host, and a host may serve several runs."""
    return f"{_COOKIE_PREFIX}-{hashlib.sha256(token.encode()).hexdigest()[:8]}"


class SafeHeaders:
    """What browsers are told with every answer: no guessing of types, no frames around the page, no
    address of it, which may hold the token, to anybody else."""

    _EXTRA_HEADERS = (
        (b"x-content-type-options", b"nosniff"),
        (b"x-frame-options", b"DENY"),
        (b"referrer-policy", b"no-referrer"),
        (b"cross-origin-resource-policy", b"same-origin"),
    )

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve an ASGI request."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *self._EXTRA_HEADERS]
            await send(message)

        await self._app(scope, receive, send_with_headers)


class OriginGuard:
    """Refuses what browsers say a foreign page asked for: neither the image nor the controls are
    for other sites (Fetch Metadata, and `Origin` of browsers that lack it)."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve an ASGI request."""
        headers = Request(scope).headers
        site, origin = headers.get("sec-fetch-site"), headers.get("origin")
        host = headers.get("host", "").lower()
        # A link on another page may lead here; what a page embeds or sends may not.
        followed = headers.get("sec-fetch-mode") == "navigate" and scope["method"] == "GET"
        foreign = site in ("cross-site", "same-site") and not followed
        if foreign or (origin and origin.partition("://")[2].lower() != host):
            answer = JSONResponse({"error": "request from another site"}, status_code=403)
            return await answer(scope, receive, send)
        return await self._app(scope, receive, send)


class TokenGuard:
    """Answers only requests with the token, but for `/healthz`.

    The path is the request's own, never one read out of an address that the `Host` header is part
    of. A right token is answered at once, whatever else came from its address; wrong ones are
    answered 429 when they come faster than one a second.
    """

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app, self._token, self._cookie = app, token.encode(), get_cookie_name(token)
        self._wrong_at: dict[str, float] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve an ASGI request."""
        if scope["path"] == "/healthz":
            return await self._app(scope, receive, send)
        request = Request(scope)
        given = (
            request.query_params.get("token")
            or unquote(request.cookies.get(self._cookie, ""))
            or request.headers.get("authorization", "").removeprefix("Bearer ")
        )
        if hmac.compare_digest(given.encode(), self._token):
            return await self._app(scope, receive, send)
        if given and self._is_too_fast(request.client.host if request.client else ""):
            answer = JSONResponse({"error": "too many wrong tokens, retry later"}, status_code=429)
            return await answer(scope, receive, send)
        answer = JSONResponse({"error": "missing or wrong token"}, status_code=401)
        return await answer(scope, receive, send)

    def _is_too_fast(self, client: str) -> bool:
        """Whether this wrong token came within a second of the client's last counted one."""
        now = time.monotonic()
        if now - self._wrong_at.get(client, -_GUESS_INTERVAL_S) < _GUESS_INTERVAL_S:
            return True
        if len(self._wrong_at) >= _MAX_CLIENTS:  # bounded: addresses are cheap to have
            self._wrong_at.clear()
        self._wrong_at[client] = now
        return False
