"""Cross-origin requests: which web pages may call this server from a browser (`server.cors_origins`), as the Fetch standard defines it.

Without the setting there is no such header, and a browser refuses pages of other origins. The headers of every response are made once.
Every response to a request without an allowed origin has `Vary: Origin` too, so that no cache gives it to a page that is allowed.
"""

from collections.abc import Sequence
from typing import NamedTuple

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.ingress.http.headers import TIMEOUT
from serving.ingress.http.response import Response, encode_headers, vary

ANY = "*"
_ORIGIN = b"Origin"
METHODS = b"GET, HEAD, POST"
# What a page may send and read, besides what the Fetch standard always allows.
REQUEST_HEADERS = ("Authorization", "Cache-Control", "Content-Encoding", "Content-Type", "Priority", TIMEOUT, "X-Request-Id")
RESPONSE_HEADERS = ("Age", "Allow", "Retry-After", "Server-Timing", "X-Cache", "X-Request-Id")
MAX_AGE_S = 600  # for which a browser keeps the answer to a preflight request

_Pairs = list[tuple[bytes, bytes]]


class _Headers(NamedTuple):
    pairs: _Pairs
    encoded: bytes


class Cors:
    """The allowed origins: `scheme://host[:port]`, or `*` for every one."""

    def __init__(self, origins: Sequence[str]) -> None:
        exposed = (b"access-control-expose-headers", ", ".join(RESPONSE_HEADERS).encode())
        if ANY in origins:
            self._allowed: dict[bytes | None, _Headers] = {}
            self._others = _made([(b"access-control-allow-origin", b"*"), exposed])
        else:
            names = [origin.encode() for origin in origins]
            self._allowed = {name: _made([(b"access-control-allow-origin", name), exposed]) for name in names}
            self._others = _made([])
        self._any = ANY in origins

    @property
    def by_origin(self) -> bool:
        """Whether the headers of a response depend on the `Origin` of its request."""
        return not self._any

    def allows(self, origin: bytes) -> bool:
        """Return whether a page of this origin may call the server."""
        return self._any or origin in self._allowed

    def pairs(self, headers: _Pairs, origin: bytes | None) -> _Pairs:
        """Return the headers of a response to a request with this `Origin`, None without one, from those that it has without CORS."""
        made = [*headers, *self._allowed.get(origin, self._others).pairs]
        return made if self._any else vary(made, _ORIGIN)

    def add(self, response: Response, origin: bytes | None) -> Response:
        """Return the response with these headers."""
        found = self._allowed.get(origin, self._others)
        headers = response.headers
        made = response._replace(headers=headers + found.encoded if isinstance(headers, bytes) else [*headers, *found.pairs])
        return made if self._any else made.varying(_ORIGIN)

    def preflight(self, origin: bytes) -> _Pairs:
        """Return the headers of the answer to a preflight request from an allowed origin."""
        return [
            *self.pairs([], origin),
            (b"access-control-allow-methods", METHODS),
            (b"access-control-allow-headers", ", ".join(REQUEST_HEADERS).encode()),
            (b"access-control-max-age", b"%d" % MAX_AGE_S),
        ]


class CorsMiddleware:
    """The ASGI middleware that answers preflight requests from allowed origins and adds the headers to every other response."""

    def __init__(self, app: ASGIApp, cors: Cors) -> None:
        self._app, self._cors = app, cors

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        origin = headers.get(b"origin")
        if (
            scope["method"] == "OPTIONS"
            and b"access-control-request-method" in headers
            and origin is not None
            and self._cors.allows(origin)
        ):
            await send({"type": "http.response.start", "status": 204, "headers": self._cors.preflight(origin)})
            await send({"type": "http.response.body", "body": b""})
            return

        async def adding(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = self._cors.pairs([(name.lower(), value) for name, value in message["headers"]], origin)
            await send(message)

        await self._app(scope, receive, adding)


def _made(pairs: _Pairs) -> _Headers:
    return _Headers(pairs, encode_headers(pairs))
