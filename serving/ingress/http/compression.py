"""Codings of bodies: requests that are compressed or begin with a byte order mark, and responses compressed for callers who accept it.

What takes more than a moment is done in a thread, a few at a time, while other requests are answered.
"""

import asyncio
import gzip
import time
import zlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from starlette.middleware.gzip import GZipResponder, IdentityResponder
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.errors import NotJSONError, RevenueEngineError
from serving.ingress.http import body as bodies
from serving.ingress.http.headers import CONTENT_ENCODING, Headers, accepts_gzip, content_codings, is_gzip, unsupported_coding
from serving.ingress.http.response import Response

if TYPE_CHECKING:
    from serving.ingress.http.routes import Cancel, Reply, Route

MARK = b"\xef\xbb\xbf"  # a byte order mark, which is not part of the text (RFC 8259 8.1)
FIRST_OF_MARK = MARK[:1]
MIN_COMPRESSED = 4096  # bytes of a response from which on it is compressed
LEVEL = 1  # the fastest: twice as fast as the default, and its results are a tenth larger
INLINE_BYTES = 16 * 1024  # (de)compressed at once, in a fraction of a millisecond
PIECE_BYTES = 64 * 1024
MAX_MEMBERS = 1000  # of the gzip format, one after the other, in a body
MAX_THREADS = 2

_WBITS = 16 + zlib.MAX_WBITS  # the gzip format
_VARY, _CODED = b"Accept-Encoding", (b"content-encoding", b"gzip")


class Inflater:
    """Decompresses a body of the gzip format in pieces, at most `limit` bytes: what a small body expands to is never held whole."""

    def __init__(self, body: bytes, limit: int) -> None:
        self._body, self._limit = memoryview(body), limit
        self._at = self._size = 0
        self._left = b""
        self._members, self._member = 1, zlib.decompressobj(_WBITS)
        self._pieces: list[bytes] = []

    @property
    def content(self) -> bytes:
        """What was decompressed so far."""
        return b"".join(self._pieces)

    def run(self, budget: int) -> bool:
        """Go on, until at least `budget` more bytes came out or went in; return whether that was all.

        Raises TooLargeError beyond the limit, NotJSONError where the body is not of the gzip format or ends early.
        """
        spent = 0
        while spent < budget:
            data: bytes | memoryview = self._left or self._body[self._at : self._at + PIECE_BYTES]
            if not self._left:
                self._at += len(data)
            try:
                piece = self._member.decompress(data, PIECE_BYTES)
            except zlib.error as error:
                raise NotJSONError(f"the body is not gzip, as its Content-Encoding states: {error}") from error
            self._size += len(piece)
            if self._size > self._limit:
                raise bodies.too_large(self._limit)
            self._pieces.append(piece)
            spent += max(len(piece), len(data))
            self._left = self._member.unused_data if self._member.eof else self._member.unconsumed_tail
            if self._member.eof:
                if not self._left and self._at >= len(self._body):
                    return True
                self._begin_member()
            elif not data and not piece:
                raise NotJSONError("the body is not gzip, as its Content-Encoding states: it ends early; send all of it")
        return False

    def _begin_member(self) -> None:
        self._members, self._member = self._members + 1, zlib.decompressobj(_WBITS)
        if self._members > MAX_MEMBERS:
            raise NotJSONError(f"the body has more than {MAX_MEMBERS} gzip members; compress it as one")


class Codings:
    """How a server handles the codings of bodies. `min_bytes`: a smaller response is not compressed. For one event loop."""

    def __init__(self, min_bytes: int = MIN_COMPRESSED) -> None:
        self.min_bytes = min_bytes
        self._threads = asyncio.Semaphore(MAX_THREADS)
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, route: "Route", limit: int, headers: Headers, body: bytes, reply: "Reply", unread_s: float) -> "Cancel":
        """Begin to answer a request, as the route's `begin` does, with the body as it was before it was coded, at most `limit` bytes."""
        if CONTENT_ENCODING not in headers:
            return route.begin(headers, without_mark(body), reply, unread_s)
        codings = content_codings(headers)
        plain = {name: value for name, value in headers.items() if name != CONTENT_ENCODING}
        if not codings:
            return route.begin(plain, without_mark(body), reply, unread_s)
        try:
            if not is_gzip(codings):
                raise unsupported_coding(headers)
            inflater = Inflater(body, limit)
            if inflater.run(INLINE_BYTES):
                return route.begin(plain, without_mark(inflater.content), reply, unread_s)
        except RevenueEngineError as error:
            reply(route.refuse(headers, error))
            return _nothing
        return _Inflating(route, plain, inflater, self._threads, reply, unread_s).cancel

    def compress(self, headers: Headers, response: Response, send: Callable[[Response], None]) -> None:
        """Call `send` with the response of at least `min_bytes` as the caller of this request accepts it, perhaps later."""
        if any(name == CONTENT_ENCODING for name, _ in response.pairs):  # it comes from a pool process
            send(response)
        elif not accepts_gzip(headers):
            send(response.varying(_VARY))
        elif len(response.body) <= INLINE_BYTES:
            send(_compressed(response))
        else:
            task = asyncio.get_running_loop().create_task(self._compress(response, send))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _compress(self, response: Response, send: Callable[[Response], None]) -> None:
        async with self._threads:
            send(await asyncio.to_thread(_compressed, response))


class CompressionMiddleware:
    """The ASGI middleware that compresses responses of at least `min_bytes` for callers who accept that."""

    def __init__(self, app: ASGIApp, min_bytes: int) -> None:
        self._app, self._min_bytes = app, min_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        responder: ASGIApp = self._app
        if scope["type"] == "http":  # Starlette's own choice between the two disregards weights
            if accepts_gzip(dict(scope["headers"])):
                responder = GZipResponder(self._app, self._min_bytes, LEVEL, thread_minimum_size=INLINE_BYTES)
            else:
                responder = IdentityResponder(self._app, self._min_bytes)
        await responder(scope, receive, send)


class _Inflating:
    """A request whose body is decompressed in a thread before its route begins; that time counts as unread."""

    def __init__(
        self,
        route: "Route",
        headers: Mapping[bytes, bytes],
        inflater: Inflater,
        threads: asyncio.Semaphore,
        reply: "Reply",
        unread_s: float,
    ) -> None:
        self._route, self._headers, self._inflater, self._threads = route, headers, inflater, threads
        self._reply, self._began = reply, time.monotonic() - unread_s
        self._begun: Cancel | None = None
        self._task = asyncio.get_running_loop().create_task(self._run())

    def cancel(self) -> None:
        """Stop: the caller has disconnected."""
        self._task.cancel()
        if self._begun is not None:
            self._begun()

    async def _run(self) -> None:
        try:
            async with self._threads:
                await asyncio.to_thread(_finish, self._inflater)
        except RevenueEngineError as error:
            self._reply(self._route.refuse(self._headers, error))
            return
        content = without_mark(self._inflater.content)
        self._begun = self._route.begin(self._headers, content, self._reply, time.monotonic() - self._began)


def without_mark(body: bytes) -> bytes:
    """Return a body without a byte order mark at its beginning."""
    return body.removeprefix(MARK)


def _finish(inflater: Inflater) -> None:
    while not inflater.run(PIECE_BYTES):
        pass


def _compressed(response: Response) -> Response:
    """Return a response compressed, or as it is where that is no larger."""
    body = gzip.compress(response.body, LEVEL, mtime=0)
    if len(body) >= len(response.body):
        return response.varying(_VARY)
    return response.with_headers(_CODED).varying(_VARY)._replace(body=body)


def _nothing() -> None:
    """Cancel nothing: the response is out."""
