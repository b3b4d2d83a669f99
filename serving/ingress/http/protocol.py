"""HTTP/1.1 on one connection: hot routes are answered straight from the parser, every other request is delegated to uvicorn."""

import asyncio
import enum
import select
from collections import deque
from collections.abc import Iterable
from typing import Any, Final, Protocol

import httptools
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from serving.errors import HeadTooLargeError, MalformedRequestError
from serving.ingress import problems
from serving.ingress.http import body as bodies
from serving.ingress.http import connections as bounds
from serving.ingress.http.connections import Wait
from serving.ingress.http.exchange import Exchange, ObservedExchange
from serving.ingress.http.head_cache import Head
from serving.ingress.http.headers import check_host, request_id
from serving.ingress.http.response import Response, encode
from serving.ingress.http.routes import RouteTable
from serving.ingress.overload import fast_path
from serving.ingress.overload.reader import OverloadReader

MAX_HEAD_BYTES = 64 * 1024
PARSE_BYTES = 16 * 1024  # parsed at a time: bounds how many pipelined requests are parsed before they can be answered

# Headers that belong to an offer of another protocol, which is not taken up.
_OFFER = (b"upgrade", b"http2-settings")


class ConnectionState(enum.Enum):
    """What has been read of the latest request of a connection. The request being answered may be an earlier one."""

    IDLE = enum.auto()  # the latest request is whole; no byte of another one has been read
    READING_HEAD = enum.auto()
    READING_BODY = enum.auto()  # on a hot route
    DELEGATED_TO_ASGI = enum.auto()  # its body goes to uvicorn
    CLOSING = enum.auto()  # nothing more is parsed: it cannot be, or the client wants a tunnel (CONNECT)


# Module constants: an attribute of the enum takes several times as long to look up, and these are compared for every header.
IDLE: Final = ConnectionState.IDLE
READING_HEAD: Final = ConnectionState.READING_HEAD
READING_BODY: Final = ConnectionState.READING_BODY
DELEGATED_TO_ASGI: Final = ConnectionState.DELEGATED_TO_ASGI
CLOSING: Final = ConnectionState.CLOSING


class QueuedRequest(Protocol):
    """A request of a connection that is being answered or waits to be."""

    keep_alive: bool

    def open(self) -> None:
        """Begin to answer."""

    def abandon(self) -> None:
        """Stop: the client has disconnected."""


class HttpProtocol(HttpToolsProtocol):
    """One connection. Requests are answered in order: `under_way` is the one being answered, those behind it are `_waiting`.

    `state`: how far the latest request has been read; `_incoming`: that request, while its body on a hot route is being read. `_unparsed`:
    bytes that must not be parsed yet. `_parsing`: the bytes being parsed now, if a request began with them. `_head_bytes`: how many bytes
    were read since the parser last found anything but a header. `_reader`: the overload reader that reads this connection now, None while
    the event loop does. `_socket`: the file descriptor, -1 if there is none. `_unread_ms`: how long the bytes being parsed have waited in
    the socket, where the overload reader has measured it. `_end_of_input`: the client sends nothing more, but may still read.

    `_host`: the last valid Host. `_offers_upgrade`: the head that is parsed offers another protocol.

    Times of the loop, for `check_wait`: `_made` of the connection; `_idle_since` of the last response, None before the first; `_begun` of
    the wait for the rest of a request, None unless one is incomplete; `_stalled`, None unless the client does not read.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        table: RouteTable | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._table = RouteTable() if table is None else table
        self._exchange = Exchange if self._table.cors is None and self._table.access_log is None else ObservedExchange
        self.state = IDLE
        self.under_way: QueuedRequest | None = None
        self._waiting: deque[QueuedRequest] = deque()
        self._incoming: Exchange | None = None
        self._head_bytes = 0
        self._unparsed = b""
        self._parsing = b""
        self._unread_ms: int | None = None
        self._socket = -1
        self._reader: OverloadReader | None = None
        self._end_of_input = self._offers_upgrade = False
        self._host: bytes | None = None
        self._made = self.loop.time()
        self._idle_since: float | None = None
        self._begun: float | None = None
        self._stalled: float | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin."""
        super().connection_made(transport)
        sock = transport.get_extra_info("socket")
        self._socket = -1 if sock is None else sock.fileno()
        self._table.connections.add(self)

    @property
    def socket(self) -> int:
        """The file descriptor, -1 if there is none."""
        return self._socket

    @property
    def unread_ms(self) -> int:
        """How many milliseconds ago the last bytes arrived: they have waited in the socket for at most that long."""
        if self._unread_ms is not None:
            return self._unread_ms
        return fast_path.unread_ms(self._socket) if self._socket >= 0 else 0

    def data_received(self, data: bytes | memoryview) -> None:
        """Take bytes from the socket."""
        reader = self._table.overload_reader
        if reader is None or not reader.shedder.pressed or not self._shed(reader, data):
            self.parse(data)

    def parse(self, data: bytes | memoryview) -> None:
        """Parse bytes, or keep them until they may be parsed."""
        if self._unparsed or self.state is CLOSING or len(data) > PARSE_BYTES:
            self._unparsed += data
            self._parse_on()
            return
        if self._answer_cached(data):
            return
        self._head_bytes += len(data)
        offer_end = None
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            offer_end = upgrade.args[0]
        except httptools.HttpParserError as error:
            self._refuse(_cause(error))
        if offer_end is not None:  # not in the handler above, whose exception would be taken for the cause of further ones
            self._parse_after_upgrade(data, offer_end)
        if self.state is not IDLE:
            self._await_more()

    def _parse_after_upgrade(self, data: bytes | memoryview, at: int) -> None:
        """Go on behind a head that offers another protocol and ends at `at`: the request is answered over HTTP/1.1 (RFC 9110 7.8).

        The parser takes what follows for the other protocol. So the head is parsed again, without the offer, and then its body.
        """
        while self._offers_upgrade:
            self._offers_upgrade = False
            head = _encode_head(self.parser.get_method(), self.url, self.parser.get_http_version(), self.headers)
            self.parser = httptools.HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
            try:
                self.parser.feed_data(head)
                data = data[at:]
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                at = upgrade.args[0]
            except httptools.HttpParserError as error:
                self._refuse(_cause(error))
                return
            else:
                return
        self.state = CLOSING  # CONNECT: what follows is not HTTP
        self.cycle.keep_alive = False

    def _await_more(self) -> None:
        """Bound the rest of a request in bytes and in time."""
        if self._incoming is not None:
            self._await_body(self._incoming)
        if self._head_bytes > MAX_HEAD_BYTES and self.state is not CLOSING:
            self._refuse(HeadTooLargeError(f"the request line and headers have more than {MAX_HEAD_BYTES} bytes; send less"))
        if self._begun is None:
            self._begun = self.loop.time()
            if self.state is not READING_BODY:  # which has a timer of its own
                self._table.connections.note(self)

    def parse_aged(self, data: bytes, unread_ms: int) -> None:
        """Parse bytes that have waited in the socket for `unread_ms`, as the overload reader has measured."""
        self._unread_ms = unread_ms
        try:
            self.parse(data)
        finally:
            self._unread_ms = None

    @property
    def idle(self) -> bool:
        """Whether nothing is read or answered here and everything has been sent: the next bytes may be refused without parsing."""
        if self.under_way is not None or self.state is not IDLE or self._waiting or self._unparsed or self._table.state.draining:
            return False
        return not self.transport.get_write_buffer_size() and not self.transport.is_closing()

    def _shed(self, reader: OverloadReader, data: bytes | memoryview) -> bool:
        """Refuse `data` without parsing it, if the connection is idle and it is one plain request without enough time; return whether."""
        if not isinstance(data, bytes) or not self.idle:
            return False
        reply = reader.shedder.reply(data, self.unread_ms)
        if reply is None:
            return False
        self.under_way = _SHED
        self._table.outbox.put(self._send_refusal, reply)
        return True

    def _send_refusal(self, reply: bytes) -> None:
        if self.transport.is_closing():
            return
        self.transport.write(reply)
        self.on_response_complete()
        reader = self._table.overload_reader
        if self.transport.is_closing():
            return
        if reader is not None and self._socket >= 0 and not self._table.state.draining:  # it refuses the next request for less
            self.flow.pause_reading()
            self._reader = reader
            reader.take(self)

    def given_back(self, unsent: bytes) -> None:
        """Read from the event loop again, and send what the overload reader could not send."""
        self._reader = None
        if self.transport.is_closing():
            return
        self._idle_since = self.loop.time()
        if unsent:
            self.transport.write(unsent)
        self._read_on()

    def _answer_cached(self, data: bytes | memoryview) -> bool:
        """Answer `data` without parsing if it is one whole request whose head is cached; return whether."""
        if self.state is not IDLE or self.under_way is not None or self._waiting or not isinstance(data, bytes):
            return False
        table = self._table
        found = table.head_cache.find(data)
        if found is None:
            self._parsing = data
            return False
        head, body = found
        exchange = self._exchange(self, table, table.routes[head.path], head.headers, keep_alive=True)
        exchange.chunks.append(body)
        exchange.queued = exchange.whole = True
        self._queue(exchange)
        return True

    def _parse_on(self) -> None:
        """Parse what was read until a request has to wait. At most PARSE_BYTES of further requests are parsed with it."""
        data, self._unparsed, at = memoryview(self._unparsed), b"", 0
        while at < len(data) and not self._waiting and self.state is not CLOSING:
            self.parse(data[at : at + PARSE_BYTES])
            at += PARSE_BYTES
        self._unparsed = b"" if self.state is CLOSING else bytes(data[at:])
        if self._unparsed:
            self.flow.pause_reading()

    def _await_body(self, exchange: Exchange) -> None:
        """Queue a hot request before its body is whole."""
        if not exchange.queued:
            exchange.queued = True
            self._queue(exchange)
        exchange.wait()

    def eof_received(self) -> bool:  # type: ignore[override]
        """Answer what the client has sent: it may have closed only its sending half. Return whether the connection stays open for that."""
        self._end_of_input = True
        if self._socket >= 0 and _is_hung_up(self._socket):
            self._abandon()
            return False
        self._finish_input()
        return not self.transport.is_closing()

    def _finish_input(self) -> None:
        """Once everything before the end of the input is parsed: refuse a request that is incomplete, and close after the last response."""
        if self._waiting or self._unparsed or self.transport.is_closing():
            return
        if self.state is not IDLE and self.state is not CLOSING:
            self._refuse(MalformedRequestError("the client ended the connection within the request; send all of it"))
        elif self.under_way is not None:
            self.under_way.keep_alive = False
        else:
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Abandon what is being answered."""
        if self._reader is not None:
            self._reader.give_back(self)
        self._abandon()
        self._table.connections.remove(self)
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """Begin a head."""
        self.state = READING_HEAD
        self.url = b""
        self.headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; trailers are ignored."""
        if self.state is READING_HEAD:
            self.headers.append((name.lower(), value.rstrip(b" \t")))  # the parser leaves blanks at the end (RFC 9110 5.5)

    def on_headers_complete(self) -> None:
        """Choose between the hot route and ASGI; the body follows."""
        self._head_bytes = 0
        self._begun = None
        parser, headers = self.parser, dict(self.headers)
        if headers.get(b"host", b"") != self._host or len(headers) != len(self.headers):
            self._check_host()
        if b"upgrade" in headers and parser.should_upgrade():
            self._offers_upgrade = True
            return
        route = self._table.routes.get(self.url)
        if route is not None and b"expect" not in headers and parser.get_method() == b"POST":
            keep_alive = parser.should_keep_alive()
            # Only HTTP/1.1 keeps a connection alive by default. Asking the parser for the version costs as much as all else here.
            if (keep_alive and b"connection" not in headers) or parser.get_http_version() == "1.1":
                self._incoming = self._exchange(self, self._table, route, headers, keep_alive)
                self.state = READING_BODY
                return
        self._delegate_to_asgi()
        self.state = DELEGATED_TO_ASGI

    def _check_host(self) -> None:
        if self.parser.get_http_version() == "1.1":
            self._host = check_host(self.headers) or None

    def on_body(self, body: bytes) -> None:
        """Take a piece of a body."""
        self._head_bytes = 0
        if self._incoming is not None:
            self._incoming.chunks.append(body)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Queue a hot request; the next head follows."""
        if self._offers_upgrade:
            return
        self.state = IDLE
        self._begun = None
        self._head_bytes = 0
        parsed, self._parsing = self._parsing, b""
        exchange = self._incoming
        if exchange is None:
            super().on_message_complete()
            return
        self._incoming = None
        if exchange.queued:
            exchange.finish()
        else:
            if parsed and exchange.keep_alive:
                self._table.head_cache.keep(parsed, Head(self.url, exchange.headers, sum(map(len, exchange.chunks))))
            exchange.queued = exchange.whole = True
            self._queue(exchange)

    def _delegate_to_asgi(self) -> None:
        """Have uvicorn make an ASGI scope and a task for the request; `_start_asgi_task` queues them."""
        url, headers = self.url, self.headers
        super().on_message_begin()
        self.url = url
        self.headers = self.scope["headers"] = headers
        self.expect_100_continue = any(name == b"expect" and value.lower() == b"100-continue" for name, value in headers)
        self.cycle = None  # type: ignore[assignment]  # else uvicorn would queue the request behind it
        super().on_headers_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._queue(_AsgiRequest(self, cycle, app))

    def start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        """Begin to answer a request that was delegated to ASGI."""
        super()._start_asgi_task(cycle, app)

    def _queue(self, request: QueuedRequest) -> None:
        """Begin a request now, or once everything before it has been answered and the client has read the responses."""
        if self.under_way is not None or self._waiting or self.flow.write_paused:
            self._waiting.append(request)
            self.flow.pause_reading()
        else:
            self.under_way = request
            request.open()

    def on_response_complete(self) -> None:
        """Begin the next request; on a connection that is closing it never begins."""
        self.server_state.total_requests += 1
        self.under_way = None
        if self.transport.is_closing():
            return
        self._idle_since = self.loop.time()
        if self._reader is not None and self.idle:
            self._reader.resume(self._socket)
        if self._waiting or self._unparsed:
            self.loop.call_soon(self._advance)
        elif self.flow.read_paused:
            self._read_on()
        elif self._end_of_input:
            self._finish_input()

    def _advance(self) -> None:
        """Begin the next request, or go on reading."""
        if self.flow.write_paused or self.transport.is_closing():
            return
        if self.under_way is None and self._waiting:
            self.under_way = request = self._waiting.popleft()
            request.open()
            if self._begun is not None:
                self._begun = self.loop.time()
            if self._incoming is not None:
                self._await_body(self._incoming)
        if not self._waiting:
            self._parse_on()
        self._read_on()

    def _read_on(self) -> None:
        if self._end_of_input:
            self._finish_input()
        elif not (self._waiting or self._unparsed or self.flow.write_paused or self._reader is not None):
            self.flow.resume_reading()

    def pause_writing(self) -> None:
        """Take no further requests from a client that does not read its responses."""
        super().pause_writing()
        self.flow.pause_reading()
        self._stalled = self.loop.time()
        self._table.connections.note(self)

    def resume_writing(self) -> None:
        """Go on."""
        self._stalled = None
        super().resume_writing()
        self._advance()

    def check_wait(self) -> Wait | None:
        """Return what the client has to do and since when; None while the server has to act."""
        if self._reader is not None:  # which does not report when it last refused a request here
            self._reader.give_back(self)
        if self._stalled is not None:
            return Wait(bounds.RESPONSE, self._stalled)
        if self._waiting or self._unparsed or self.transport.is_closing():
            return None
        if self._begun is not None and self.state is READING_HEAD:
            return Wait(bounds.HEAD, self._begun)
        if self._begun is not None and self.state in (READING_BODY, DELEGATED_TO_ASGI):
            return Wait(bounds.BODY, self._begun)
        if self.under_way is not None:
            return None
        return Wait(bounds.HEAD, self._made) if self._idle_since is None else Wait(bounds.IDLE, self._idle_since)

    def time_out(self, kind: str) -> None:
        """Close the connection after a wait of this kind that was too long. A head that has begun is answered with an error."""
        if kind == bounds.HEAD and self.state is READING_HEAD:
            self._refuse(bodies.too_slow(self._table.connections.limits.head_s, "head"))
        else:
            self.evict()

    def evict(self) -> None:
        """Close the connection at once."""
        if self.transport.is_closing() or self.transport.get_write_buffer_size():
            self.transport.abort()  # closing waits until the client has read what is left
        else:
            self.transport.close()

    def shutdown(self) -> None:
        """Close an idle connection; any other one closes after the response that is under way."""
        self._table.connections.leave(self, bounds.DRAINED)
        if self.under_way is None:
            self.transport.close()
        else:
            self.under_way.keep_alive = False

    def _refuse(self, error: BaseException) -> None:
        """Answer what cannot be parsed, after the requests before it, and end the connection."""
        reading_body = self.state is READING_BODY or self.state is DELEGATED_TO_ASGI
        self.state = CLOSING
        if reading_body and not self._withdraw():
            self.transport.close()
            return
        response = problems.response(error, request_id({}))
        if self._table.access_log is not None:
            self._table.access_log.note_response("-", self.url.decode("latin-1"), response, 0.0)
        self._queue(_LastResponse(self.transport, response))

    def _withdraw(self) -> bool:
        """Remove the request whose body cannot be read, so that the error answers it; return False if its response has begun."""
        exchange, self._incoming = self._incoming, None
        if exchange is not None and not exchange.queued:
            return True
        if self._waiting:
            self._waiting.pop()
            return True
        request = self.under_way
        if request is None or (isinstance(request, _AsgiRequest) and request.response_started):
            return False
        self._abandon()
        return True

    def _abandon(self) -> None:
        """Give up what is being answered and what waits."""
        self._waiting.clear()
        request, self.under_way = self.under_way, None
        if request is not None:
            request.abandon()


class _AsgiRequest:
    """A request that uvicorn answers over ASGI."""

    def __init__(self, protocol: HttpProtocol, cycle: RequestResponseCycle, app: Any) -> None:
        self._protocol, self._cycle, self._app = protocol, cycle, app

    @property
    def keep_alive(self) -> bool:
        return self._cycle.keep_alive

    @keep_alive.setter
    def keep_alive(self, keep_alive: bool) -> None:
        self._cycle.keep_alive = keep_alive

    @property
    def response_started(self) -> bool:
        return self._cycle.response_started

    def open(self) -> None:
        self._protocol.start_asgi_task(self._cycle, self._app)

    def abandon(self) -> None:
        self._cycle.disconnected = True
        self._cycle.message_event.set()


class _LastResponse:
    """The response after which a connection is closed, since nothing more can be read from it."""

    keep_alive = False

    def __init__(self, transport: asyncio.Transport, response: Response) -> None:
        self._transport, self._response = transport, response

    def open(self) -> None:
        self._transport.write(encode(self._response, close=True))
        self._transport.close()

    def abandon(self) -> None:
        """Do nothing: it is not opened any more."""


class _ShedRequest:
    """A request that was refused without parsing; its refusal is in the outbox."""

    keep_alive = True

    def open(self) -> None:
        """Do nothing: it is answered already."""

    def abandon(self) -> None:
        """Do nothing: the refusal is not sent on a connection that is closing."""


_SHED: Final = _ShedRequest()


def _encode_head(method: bytes, url: bytes, version: str, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return a head without the headers that offer another protocol."""
    lines = [b"%b: %b" % header for header in headers if header[0] not in _OFFER]
    return b"\r\n".join((b"%b %b HTTP/%b" % (method, url, version.encode()), *lines, b"", b""))


def _is_hung_up(socket: int) -> bool:
    """Return whether the other end can neither send nor read any more. The end of a TCP connection does not tell; a unix socket's does."""
    poll = select.poll()
    poll.register(socket, select.POLLHUP)
    return any(event & (select.POLLHUP | select.POLLERR) for _, event in poll.poll(0))


def _cause(error: httptools.HttpParserError) -> BaseException:
    """Return why the parser has stopped: a MalformedRequestError, or the exception that one of our callbacks has raised."""
    ours = error.__context__ if isinstance(error, httptools.HttpParserCallbackError) else None
    if ours is None or isinstance(ours, httptools.HttpParserError):
        return MalformedRequestError(f"{ours or error}: this is not HTTP/1.1 as RFC 9112 defines it")
    return ours
