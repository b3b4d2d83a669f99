"""HTTP/1.1 on one connection: hot routes are answered straight from the parser, every other request is delegated to uvicorn."""

import asyncio
import enum
from collections import deque
from typing import Any, Final, Protocol

import httptools
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from serving.errors import HeadTooLargeError, MalformedRequestError
from serving.ingress import problems
from serving.ingress.http.exchange import Exchange
from serving.ingress.http.head_cache import Head
from serving.ingress.http.headers import request_id
from serving.ingress.http.response import Response, encode
from serving.ingress.http.routes import RouteTable
from serving.ingress.overload import fast_path
from serving.ingress.overload.reader import OverloadReader

MAX_HEAD_BYTES = 64 * 1024
PARSE_BYTES = 16 * 1024  # parsed at a time: bounds how many pipelined requests are parsed before they can be answered

_NO_ROUTES = RouteTable()


class ConnectionState(enum.Enum):
    """What has been read of the latest request of a connection. The request being answered may be an earlier one."""

    IDLE = enum.auto()  # the latest request is whole; no byte of another one has been read
    READING_HEAD = enum.auto()
    READING_BODY = enum.auto()  # on a hot route
    DELEGATED_TO_ASGI = enum.auto()  # its body goes to uvicorn
    CLOSING = enum.auto()  # nothing more is parsed: it cannot be, or the protocol is another one after an upgrade


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
    the socket, where the overload reader has measured it.
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
        self._table = table or _NO_ROUTES
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
        self._idle_since: float | None = None
        self._idle_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin."""
        super().connection_made(transport)
        sock = transport.get_extra_info("socket")
        self._socket = -1 if sock is None else sock.fileno()

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
        self._idle_since = None
        if self._answer_cached(data):
            return
        self._head_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # Upgrades are not supported. The parser has left out the body, if there is one: what follows is not a request.
            self.state = CLOSING
            self.cycle.keep_alive = False
        except httptools.HttpParserError as error:
            self._refuse(_cause(error))
        if self._incoming is not None:
            self._await_body(self._incoming)
        if self._head_bytes > MAX_HEAD_BYTES and self.state is not CLOSING:
            self._refuse(HeadTooLargeError(f"the request line and headers have more than {MAX_HEAD_BYTES} bytes; send less"))

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
        self._idle_since = None
        self._table.outbox.put(self._send_refusal, reply)
        return True

    def _send_refusal(self, reply: bytes) -> None:
        if self.transport.is_closing():
            return
        self.transport.write(reply)
        self.on_response_complete()
        reader = self._table.overload_reader
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
        exchange = Exchange(self, table, table.routes[head.path], head.headers, keep_alive=True)
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

    def eof_received(self) -> None:
        """Abandon what is being answered: a client that has closed its half reads no response, and the transport closes the other half."""
        self._abandon()

    def connection_lost(self, exc: Exception | None) -> None:
        """Abandon what is being answered."""
        if self._reader is not None:
            self._reader.give_back(self)
        self._abandon()
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """Begin a head."""
        self.state = READING_HEAD
        self.url = b""
        self.headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; trailers are ignored."""
        if self.state is READING_HEAD:
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Choose between the hot route and ASGI; the body follows."""
        self._head_bytes = 0
        parser, route = self.parser, self._table.routes.get(self.url)
        if route is not None and parser.get_method() == b"POST":
            headers, keep_alive = dict(self.headers), parser.should_keep_alive()
            is_plain = b"expect" not in headers and b"upgrade" not in headers
            # Only HTTP/1.1 keeps a connection alive by default. Asking the parser for the version costs as much as all else here.
            if is_plain and ((keep_alive and b"connection" not in headers) or parser.get_http_version() == "1.1"):
                self._incoming = Exchange(self, self._table, route, headers, keep_alive)
                self.state = READING_BODY
                return
        self._delegate_to_asgi()
        self.state = DELEGATED_TO_ASGI

    def on_body(self, body: bytes) -> None:
        """Take a piece of a body."""
        self._head_bytes = 0
        if self._incoming is not None:
            self._incoming.chunks.append(body)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Queue a hot request; the next head follows."""
        self.state = IDLE
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
        if self._idle_timer is None:
            self._idle_timer = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)
        if self._waiting or self._unparsed:
            self.loop.call_soon(self._advance)
        elif self.flow.read_paused:
            self._read_on()

    def _advance(self) -> None:
        """Begin the next request, or go on reading."""
        if self.flow.write_paused or self.transport.is_closing():
            return
        if self.under_way is None and self._waiting:
            self.under_way = request = self._waiting.popleft()
            request.open()
            if self._incoming is not None:
                self._await_body(self._incoming)
        if not self._waiting:
            self._parse_on()
        self._read_on()

    def _read_on(self) -> None:
        if not (self._waiting or self._unparsed or self.flow.write_paused or self._reader is not None):
            self.flow.resume_reading()

    def pause_writing(self) -> None:
        """Take no further requests from a client that does not read its responses."""
        super().pause_writing()
        self.flow.pause_reading()

    def resume_writing(self) -> None:
        """Go on."""
        super().resume_writing()
        self._advance()

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection that has been idle for too long, else check again later: a timer for each request would cost too much."""
        self._idle_timer = None
        if self.under_way is not None or self._idle_since is None:
            return
        if self._reader is not None:  # which does not report when it last refused a request here
            self._reader.give_back(self)
        left = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if left <= 0:
            super().timeout_keep_alive_handler()
        else:
            self._idle_timer = self.loop.call_later(left, self.timeout_keep_alive_handler)

    def shutdown(self) -> None:
        """Close an idle connection; any other one closes after the response that is under way."""
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
        self._queue(_LastResponse(self.transport, problems.response(error, request_id({}))))

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


def _cause(error: httptools.HttpParserError) -> BaseException:
    """Return why the parser has stopped: a MalformedRequestError, or the exception that one of our callbacks has raised."""
    ours = error.__context__ if isinstance(error, httptools.HttpParserCallbackError) else None
    if ours is None or isinstance(ours, httptools.HttpParserError):
        return MalformedRequestError(f"{ours or error}: this is not HTTP/1.1 as RFC 9112 defines it")
    return ours
