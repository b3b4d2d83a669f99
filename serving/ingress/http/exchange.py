"""One request on a hot route, from the end of its head to its response."""

import asyncio
import time
from typing import Protocol

from serving.errors import RevenueEngineError
from serving.ingress.http import body as bodies
from serving.ingress.http.compression import FIRST_OF_MARK
from serving.ingress.http.headers import CONTENT_ENCODING, Headers
from serving.ingress.http.response import Response, encode
from serving.ingress.http.routes import Cancel, Route, RouteTable, refuse


class Connection(Protocol):
    """The connection that an exchange belongs to."""

    transport: asyncio.Transport
    loop: asyncio.AbstractEventLoop

    @property
    def unread_ms(self) -> int:
        """How many milliseconds ago the last bytes arrived."""

    def on_response_complete(self) -> None:
        """Begin the next request."""


class Exchange:
    """A request and its response. It calls the route once the request is the next to be answered (`open`) and its body is `whole`.

    Pieces of the body are appended to `chunks`. After each read that leaves the body incomplete, `wait` bounds it in bytes and in time.
    `queued`: the connection has been asked to open it; `ended`: there is a response, or the client has disconnected.
    """

    # Class attributes: most requests are whole at once and never set them.
    queued = whole = ended = False
    _opened = _too_large = _gone = _compressing = False
    _counted = _size = 0
    _timer: asyncio.TimerHandle | None = None
    _cancel: Cancel | None = None

    def __init__(self, connection: Connection, table: RouteTable, route: Route, headers: Headers, keep_alive: bool) -> None:
        self._connection = connection
        self._table = table
        self._route = route
        self.headers = headers
        self.keep_alive = keep_alive
        self.chunks: list[bytes] = []

    def open(self) -> None:
        """Begin: this request is the next to be answered. It is refused where the server answers too many already."""
        error = self._table.state.enter(self._table.max_requests)
        if error is not None:
            self.reply(refuse(self.headers, error))
            return
        self._opened = True
        if self.whole:
            self._call_route()

    def finish(self) -> None:
        """Note that the body is whole, and call the route if the request is open."""
        self.whole = True
        if self._opened:
            self._call_route()

    def wait(self) -> None:
        """Bound the rest of the body. What is too much is read and thrown away first: a client that is sending does not read."""
        if self._too_large or self.ended:
            self._size -= sum(map(len, self.chunks))
            self.chunks.clear()
        else:
            self._count()
        if self._opened and not self.ended:
            if self._too_large and self._size < 0:
                self._time_out()
            elif self._timer is None:
                self._timer = self._connection.loop.call_later(
                    bodies.DISCARD_S if self._too_large else self._table.connections.limits.body_s, self._time_out
                )

    def reply(self, response: Response) -> None:
        """Have the response written, compressed if it is large and the client accepts that, unless the client has disconnected."""
        if self.ended:
            return
        self._cancel = None  # it refers to this exchange: a cycle that only the garbage collector would free
        if len(response.body) < self._table.codings.min_bytes:
            self.ended = True
            self._table.outbox.put(self._send, response)
        else:
            self._compressing = True
            self._table.codings.compress(self.headers, response, self._compressed)

    def _compressed(self, response: Response) -> None:
        if not self.ended:
            self.ended = True
            self._table.outbox.put(self._send, response)

    def abandon(self) -> None:
        """Stop: the client has disconnected."""
        self._gone = self.ended = True
        self._stop_timer()
        if self._opened:
            self._table.state.leave()
        if self._cancel is not None:
            self._cancel()
            self._cancel = None

    def _send(self, response: Response) -> None:
        if self._gone:
            return
        state = self._table.state
        if self._opened:
            state.leave()
        close = response.close or not self.keep_alive or state.draining
        connection = self._connection
        connection.transport.write(encode(response, close))
        if close:
            connection.transport.close()
        connection.on_response_complete()

    def _call_route(self) -> None:
        if self.ended:
            return
        if self._timer is not None:
            self._stop_timer()
        chunks = self.chunks
        body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        if self._too_large or len(body) > self._table.max_body_bytes:
            self._refuse(bodies.too_large(self._table.max_body_bytes))
            return
        headers, route, unread_s = self.headers, self._route, self._connection.unread_ms / 1000
        try:
            if body[:1] == FIRST_OF_MARK or CONTENT_ENCODING in headers:
                cancel = self._table.codings.begin(route, self._table.max_body_bytes, headers, body, self.reply, unread_s)
            else:
                cancel = route.begin(headers, body, self.reply, unread_s)
        except Exception as error:  # `begin` must not raise, but a caller must not wait for ever if it does
            self.reply(route.refuse(headers, error))
            return
        if not (self.ended or self._compressing):
            self._cancel = cancel

    def _count(self) -> None:
        """Count the bytes of the new chunks. Once the body is too large, `_size` is how many bytes may still be thrown away."""
        limit = self._table.max_body_bytes
        first = self._size == 0
        self._size += sum(map(len, self.chunks[self._counted :]))
        self._counted = len(self.chunks)
        if self._size > limit or (first and bodies.declares_more(self.headers, limit)):
            self._too_large, self._size = True, bodies.DISCARD_BYTES
            self.chunks.clear()
            self._stop_timer()

    def _time_out(self) -> None:
        self._refuse(
            bodies.too_large(self._table.max_body_bytes) if self._too_large else bodies.too_slow(self._table.connections.limits.body_s)
        )

    def _refuse(self, error: RevenueEngineError) -> None:
        """Answer with a problem and end the connection: the client may still be sending the body."""
        self._stop_timer()
        self.reply(self._route.refuse(self.headers, error).closing())

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class ObservedExchange(Exchange):
    """An exchange of a server with `cors_origins` or an access log; without them no request pays for them."""

    def __init__(self, connection: Connection, table: RouteTable, route: Route, headers: Headers, keep_alive: bool) -> None:
        super().__init__(connection, table, route, headers, keep_alive)
        self._began = time.perf_counter()

    def abandon(self) -> None:
        """Stop, and note the request without a response."""
        if self._table.access_log is not None and not self._gone:
            self._table.access_log.note("POST", self._route.path, None, time.perf_counter() - self._began, 0, "")
        super().abandon()

    def _send(self, response: Response) -> None:
        if self._gone:
            return
        if self._table.cors is not None:
            response = self._table.cors.add(response, self.headers.get(b"origin"))
        if self._table.access_log is not None:
            self._table.access_log.note_response("POST", self._route.path, response, time.perf_counter() - self._began)
        super()._send(response)
