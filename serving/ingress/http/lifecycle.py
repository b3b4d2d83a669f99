"""The state of one replica, and the ASGI middleware that counts requests in flight and closes connections while draining."""

import sys
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.errors import OverloadedError
from serving.ingress import problems
from serving.ingress.http.headers import request_id
from serving.ingress.http.response import CLOSE, respond


@dataclass(slots=True)
class State:
    """`ready`: everything is open and warm; `draining`: every response ends its connection; `in_flight`: requests being answered now."""

    ready: bool = False
    draining: bool = False
    in_flight: int = 0

    def enter(self, limit: int) -> OverloadedError | None:
        """Count one more request in flight, until `leave`; return an error where there are `limit` already (server.max_connections)."""
        if self.in_flight >= limit:
            return OverloadedError(f"{self.in_flight} requests are being answered (server.max_connections={limit}); try again", 1.0)
        self.in_flight += 1
        return None

    def leave(self) -> None:
        """Count one request less in flight."""
        self.in_flight -= 1


class LifecycleMiddleware:
    """The outermost ASGI middleware: counts requests in flight, refuses those beyond `limit`, ends connections while draining.

    Requests whose path begins with one of `unlimited` are never refused: a busy server must remain observable.
    """

    def __init__(self, app: ASGIApp, state: State, limit: int, unlimited: tuple[str, ...]) -> None:
        self._app = app
        self._state = state
        self._limit = limit
        self._unlimited = unlimited

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state = self._state

        async def closing(message: Message) -> None:
            if state.draining and message["type"] == "http.response.start":
                message["headers"] = [*(h for h in message["headers"] if h[0] != CLOSE[0]), CLOSE]
            await send(message)

        error = state.enter(sys.maxsize if scope["path"].startswith(self._unlimited) else self._limit)
        if error is not None:
            await respond(problems.response(error, request_id(dict(scope["headers"]))), closing)
            return
        try:
            await self._app(scope, receive, closing)
        finally:
            state.leave()
