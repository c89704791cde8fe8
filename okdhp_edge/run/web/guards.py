"""Middleware of the web server: the token, and headers that browsers expect."""

import hmac
import time

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "okdhp-edge-token"
_GUESS_EVERY_S = 1.0
_MOST_CLIENTS = 10_000


class SafeHeaders:
    """What browsers are told with every answer: no guessing of types, no frames around the page, no
    address of it, which may hold the token, to anybody else."""

    _ADDED = (
        (b"x-content-type-options", b"nosniff"),
        (b"x-frame-options", b"DENY"),
        (b"referrer-policy", b"no-referrer"),
    )

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve an ASGI request."""

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *self._ADDED]
            await send(message)

        await self._app(scope, receive, with_headers)


class TokenGuard:
    """Answers nobody without the token, but for `/healthz`.

    A client (by its address) that sent a wrong token has to wait before it may try another one.
    """

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app, self._token = app, token.encode()
        self._wrong_at: dict[str, float] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve an ASGI request."""
        request = Request(scope)
        if request.url.path == "/healthz":
            return await self._app(scope, receive, send)
        client = request.client.host if request.client else ""
        now = time.monotonic()
        if now - self._wrong_at.get(client, -_GUESS_EVERY_S) < _GUESS_EVERY_S:
            answer = JSONResponse({"error": "wait before the next token"}, status_code=429)
            return await answer(scope, receive, send)
        given = (
            request.query_params.get("token")
            or request.cookies.get(COOKIE)
            or request.headers.get("authorization", "").removeprefix("Bearer ")
        )
        if hmac.compare_digest(given.encode(), self._token):
            return await self._app(scope, receive, send)
        if given:
            self._remember(client, now)
        answer = JSONResponse({"error": "token missing or wrong"}, status_code=401)
        return await answer(scope, receive, send)

    def _remember(self, client: str, now: float) -> None:
        """Bounded: addresses are cheap to have."""
        if len(self._wrong_at) >= _MOST_CLIENTS:
            self._wrong_at.clear()
        self._wrong_at[client] = now
