"""One request on a hot route, from the end of its head to its answer."""

import asyncio
from typing import Protocol

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from serving.errors import RevenueEngineError
from serving.ingress.http import body as bodies
from serving.ingress.http.headers import Headers
from serving.ingress.http.response import Response, written
from serving.ingress.http.routes import Cancel, Hot, Route, refuse


class Connection(Protocol):
    """What an exchange needs of the connection that it is on."""

    transport: asyncio.Transport
    loop: asyncio.AbstractEventLoop
    under_way: "Exchange | RequestResponseCycle | None"

    @property
    def unread_ms(self) -> int:
        """How long ago the last bytes came."""

    def on_response_complete(self) -> None:
        """Let the next request begin."""


class Exchange:
    """Asks the route once everything before has been answered (`open`) and the body is `whole`, and writes its answer.

    Pieces of the body come into `chunks`. After each read that leaves it unfinished, `wait` bounds it in bytes and in time. `ended`: there
    is an answer, or nobody to get one.
    """

    # Most requests are whole at once and never get to set these.
    queued = whole = ended = False
    _opened = _too_large = _gone = False
    _weighed = _size = 0
    _timer: asyncio.TimerHandle | None = None
    _cancel: Cancel | None = None

    def __init__(self, connection: Connection, hot: Hot, route: Route, headers: Headers, keep_alive: bool) -> None:
        self._connection = connection
        self._hot = hot
        self._route = route
        self.headers = headers
        self.keep_alive = keep_alive
        self.chunks: list[bytes] = []

    def open(self) -> None:
        """Begin, or refuse to: this request is the next to be answered."""
        self._connection.under_way = self
        error = self._hot.state.enter(self._hot.max_requests)
        if error is not None:
            self.reply(refuse(self.headers, error))
            return
        self._opened = True
        if self.whole:
            self._ask()

    def finish(self) -> None:
        """Ask, now that the body is whole, or leave it to `open`."""
        self.whole = True
        if self._opened:
            self._ask()

    def wait(self) -> None:
        """Bound what is still to come of the body: a client that is sending does not read, so what is too much is thrown away first."""
        if self._too_large or self.ended:
            self._size -= sum(map(len, self.chunks))
            self.chunks.clear()
        else:
            self._weigh()
        if self._opened and not self.ended:
            if self._too_large and self._size < 0:
                self._late()
            elif self._timer is None:
                self._timer = self._connection.loop.call_later(bodies.DISCARD_S if self._too_large else bodies.BODY_S, self._late)

    def reply(self, answer: Response) -> None:
        """Have the answer written; whoever is gone gets none."""
        if not self.ended:
            self.ended = True
            self._cancel = None  # it leads back here: a ring that only the garbage collector would open
            self._hot.outbox.put(self._send, answer)

    def abandon(self) -> None:
        """Stop: nobody is left to answer."""
        self._gone = self.ended = True
        self._stop_waiting()
        if self._opened:
            self._hot.state.leave()
        if self._cancel is not None:
            self._cancel()
            self._cancel = None

    def _send(self, answer: Response) -> None:
        if self._gone:
            return
        state = self._hot.state
        if self._opened:
            state.leave()
        close = answer.close or not self.keep_alive or state.draining
        connection = self._connection
        connection.transport.write(written(answer, close))
        if close:
            connection.transport.close()
        connection.on_response_complete()

    def _ask(self) -> None:
        if self.ended:
            return
        if self._timer is not None:
            self._stop_waiting()
        chunks = self.chunks
        body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        if self._too_large or len(body) > self._hot.max_body_bytes:
            self._refuse(bodies.too_large(self._hot.max_body_bytes))
            return
        try:
            cancel = self._route.begin(self.headers, body, self.reply, self._connection.unread_ms / 1000)
        except Exception as error:  # it never should, but a caller must not wait for ever
            self.reply(self._route.refuse(self.headers, error))
            return
        if not self.ended:
            self._cancel = cancel

    def _weigh(self) -> None:
        """Count what came since the last time; `_size` becomes how much may be thrown away once it is too much."""
        limit = self._hot.max_body_bytes
        first = self._size == 0
        self._size += sum(map(len, self.chunks[self._weighed :]))
        self._weighed = len(self.chunks)
        if self._size > limit or (first and bodies.declares_more(self.headers, limit)):
            self._too_large, self._size = True, bodies.DISCARD_BYTES
            self.chunks.clear()
            self._stop_waiting()

    def _late(self) -> None:
        self._refuse(bodies.too_large(self._hot.max_body_bytes) if self._too_large else bodies.too_slow())

    def _refuse(self, error: RevenueEngineError) -> None:
        """End the connection with a problem: some of the body may still be on its way."""
        self._stop_waiting()
        self.reply(self._route.refuse(self.headers, error).closing())

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
