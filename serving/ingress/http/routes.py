"""The hot routes: paths whose POST requests a connection answers straight from its parser, without a scope, a task or a framework."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from serving.ingress import problems
from serving.ingress.http.head_cache import Heads
from serving.ingress.http.headers import Headers, request_id
from serving.ingress.http.lifecycle import State
from serving.ingress.http.response import Response
from serving.ingress.overload.reader import OverloadReader
from serving.scoring.futures import tell

T = TypeVar("T")
Reply = Callable[[Response], None]
Cancel = Callable[[], object]
Begin = Callable[[Headers, bytes, Reply, float], Cancel]
Refuse = Callable[[Headers, Exception], Response]


def refuse(headers: Headers, error: Exception) -> Response:
    """Return the problem that `error` is to the caller."""
    return problems.answer(error, request_id(headers))


def ask(begin: Begin, headers: Headers, body: bytes) -> "asyncio.Future[Response]":
    """Return the answer to come of a route's `begin`; who gives it up has the route stop."""
    answer: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
    cancel = begin(headers, body, lambda made: tell(answer, made), 0.0)
    answer.add_done_callback(lambda future: cancel() if future.cancelled() else None)
    return answer


class Route(NamedTuple):
    """How one hot path is answered; any object's methods will do.

    `begin(headers, body, reply, unread_s)` starts to answer: `headers` with names in lower case, the whole `body`, whose end has lain
    unread for `unread_s` seconds, while the caller's time ran. It never raises; in the thread of the event loop it calls `reply` exactly
    once with the whole Response, perhaps before it returns, unless the function that it returns is called first: the caller has gone away.
    `refuse(headers, error)` answers a request whose body did not arrive as it should.
    """

    begin: Begin
    refuse: Refuse = refuse


class Outbox:
    """Answers that are written at the end of the loop's turn, one after the other: that costs a third less than to write each at once."""

    def __init__(self) -> None:
        self._answers: deque[tuple[Callable[[Any], None], Any]] = deque()

    def put(self, send: Callable[[T], None], answer: T) -> None:
        """Have `send(answer)` called soon."""
        if not self._answers:
            asyncio.get_running_loop().call_soon(self._empty)
        self._answers.append((send, answer))

    def _empty(self) -> None:
        try:
            while self._answers:
                send, answer = self._answers.popleft()
                send(answer)
        finally:
            if self._answers:  # one of them failed: the others must not wait for it
                asyncio.get_running_loop().call_soon(self._empty)


@dataclass(frozen=True, slots=True)
class Hot:
    """All hot routes of a server by path, as it stands in the request line, and the bounds of what is asked there."""

    routes: dict[bytes, Route] = field(default_factory=dict)
    state: State = field(default_factory=State)
    max_requests: int = 0
    max_body_bytes: int = 0
    outbox: Outbox = field(default_factory=Outbox)
    heads: Heads = field(default_factory=Heads)
    gate: OverloadReader | None = None  # None: every request is parsed
