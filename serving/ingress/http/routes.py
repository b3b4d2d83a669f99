"""Hot routes: paths whose POST requests a connection answers straight from its parser, without an ASGI scope, a task or a framework."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from serving.ingress import problems
from serving.ingress.cors import Cors
from serving.ingress.http.compression import Codings
from serving.ingress.http.connections import Connections
from serving.ingress.http.head_cache import HeadCache
from serving.ingress.http.headers import Headers, request_id
from serving.ingress.http.lifecycle import State
from serving.ingress.http.response import Response
from serving.ingress.overload.reader import OverloadReader
from serving.ingress.request_log import AccessLog
from serving.scoring.futures import resolve

T = TypeVar("T")
Reply = Callable[[Response], None]
Cancel = Callable[[], object]
Begin = Callable[[Headers, bytes, Reply, float], Cancel]
Refuse = Callable[[Headers, Exception], Response]


def refuse(headers: Headers, error: Exception) -> Response:
    """Return the problem response for `error`."""
    return problems.response(error, request_id(headers))


def future_response(begin: Begin, headers: Headers, body: bytes) -> "asyncio.Future[Response]":
    """Call a route's `begin` and return its response to come; cancelling the future cancels the request."""
    response: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
    cancel = begin(headers, body, lambda made: resolve(response, made), 0.0)
    response.add_done_callback(lambda future: cancel() if future.cancelled() else None)
    return response


class Route(NamedTuple):
    """How one hot path is answered.

    `begin(headers, body, reply, unread_s)` starts to answer. `headers` have names in lower case; `body` is whole; its end waited for
    `unread_s` seconds in the socket, which count towards the caller's timeout. It never raises. It calls `reply` exactly once with the
    whole Response, in the thread of the event loop, perhaps before it returns. It returns a function that cancels the request; once that
    has been called because the client has disconnected, `reply` is not called any more.

    `refuse(headers, error)` returns the response to a request whose body was too large or too slow. `path` is for the access log.
    """

    begin: Begin
    refuse: Refuse = refuse
    path: str = "-"


class Outbox:
    """Responses that are written together at the end of an event loop iteration: a third cheaper than to write each one at once."""

    def __init__(self) -> None:
        self._responses: deque[tuple[Callable[[Any], None], Any]] = deque()

    def put(self, send: Callable[[T], None], response: T) -> None:
        """Call `send(response)` soon."""
        if not self._responses:
            asyncio.get_running_loop().call_soon(self._empty)
        self._responses.append((send, response))

    def _empty(self) -> None:
        try:
            while self._responses:
                send, response = self._responses.popleft()
                send(response)
        finally:
            if self._responses:  # one of them failed: send the others all the same
                asyncio.get_running_loop().call_soon(self._empty)


@dataclass(frozen=True, slots=True)
class RouteTable:
    """All hot routes of a server by path, as written in the request line, and what holds for their requests and connections."""

    routes: dict[bytes, Route] = field(default_factory=dict)
    state: State = field(default_factory=State)
    max_requests: int = 0
    max_body_bytes: int = 0
    outbox: Outbox = field(default_factory=Outbox)
    head_cache: HeadCache = field(default_factory=HeadCache)
    connections: Connections = field(default_factory=Connections)
    codings: Codings = field(default_factory=Codings)
    cors: Cors | None = None  # None: no page of another origin may call the server
    access_log: AccessLog | None = None
    overload_reader: OverloadReader | None = None  # None: every request is parsed
