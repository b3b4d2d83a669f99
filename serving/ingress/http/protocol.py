"""HTTP/1.1 on one connection: hot routes are answered straight from the parser, every other request goes uvicorn's way."""

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

import httptools
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from serving.errors import HeadTooLargeError, MalformedRequestError
from serving.ingress import problems
from serving.ingress.http.exchange import Exchange
from serving.ingress.http.head_cache import Head
from serving.ingress.http.headers import request_id
from serving.ingress.http.response import Response, written
from serving.ingress.http.routes import Hot
from serving.ingress.overload import fast_path as plain
from serving.ingress.overload.reader import OverloadReader

MAX_HEAD_BYTES = 64 * 1024
PARSE_BYTES = 16 * 1024  # parsed in one go: bounds how many requests are taken ahead of their turn

_NONE = Hot()


class Protocol(HttpToolsProtocol):
    """One connection. Its requests take turns: `_busy` while one is being answered, those behind it wait as what will begin them.

    `_socket` is its descriptor, -1 where it has none; `_at_gate`: the gate reads it now instead of the loop. `_unread_ms`: how long what is
    being taken lay unread, where that has been asked.

    `_incoming` is the hot request whose body is being read, `under_way` the request that is being answered. What was read but must not be
    parsed yet is the `_rest`. The parser is within a request when that has `_begun`, in what came before or at the beginning of what it is
    `_fed` now; `_quiet_bytes` came since it last found anything but a header.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        hot: Hot | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._hot = hot or _NONE
        self._begun = False
        self._in_head = True
        self._quiet_bytes = 0
        self._rest = b""
        self._fed = b""
        self._unread_ms: int | None = None
        self._socket = -1
        self._at_gate = False
        self._busy = False
        self._reading_closed = False
        self._waiting: deque[Callable[[], None]] = deque()
        self._incoming: Exchange | None = None
        self.under_way: Exchange | RequestResponseCycle | None = None
        self._idle_since: float | None = None
        self._idle_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin."""
        super().connection_made(transport)
        sock = transport.get_extra_info("socket")
        self._socket = -1 if sock is None else sock.fileno()

    @property
    def unread_ms(self) -> int:
        """How long ago the last bytes came: for so long, or less, they have lain unread."""
        if self._unread_ms is not None:
            return self._unread_ms
        return plain.unread_ms(self._socket) if self._socket >= 0 else 0

    def data_received(self, data: bytes | memoryview) -> None:
        """Take bytes from the socket."""
        gate = self._hot.gate
        if gate is None or not gate.shedder.pressed or not self._shed(gate, data):
            self.take(data)

    def take(self, data: bytes | memoryview) -> None:
        """Take bytes that are not refused unread."""
        if self._rest or self._reading_closed or len(data) > PARSE_BYTES:
            self._rest += data
            self._parse_rest()
            return
        self._idle_since = None
        if self._take_known(data):
            return
        self._quiet_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # Not taken. The parser has left out the body, if there is one: what follows is no request.
            self._reading_closed = True
            self.cycle.keep_alive = False
        except httptools.HttpParserError as error:
            self._refuse(_fault(error))
        if self._incoming is not None:
            self._await(self._incoming)
        if self._quiet_bytes > MAX_HEAD_BYTES and not self._reading_closed:
            self._refuse(HeadTooLargeError(f"the request line and headers have more than {MAX_HEAD_BYTES} bytes; send less"))

    def take_aged(self, data: bytes, unread_ms: int) -> None:
        """Take bytes of which the gate knows how long they have lain unread."""
        self._unread_ms = unread_ms
        try:
            self.take(data)
        finally:
            self._unread_ms = None

    @property
    def quiet(self) -> bool:
        """Whether nothing is under way here, and everything that was said has been sent: what comes now may be refused unread."""
        if self._busy or self._waiting or self._rest or self._begun or self._reading_closed or self._hot.state.draining:
            return False
        return not self.transport.get_write_buffer_size() and not self.transport.is_closing()

    def _shed(self, gate: OverloadReader, data: bytes | memoryview) -> bool:
        """Refuse what has come without parsing it, if that may be and can be: nothing is under way here, and it is one plain request."""
        if not isinstance(data, bytes) or not self.quiet:
            return False
        reply = gate.shedder.reply(data, self.unread_ms)
        if reply is None:
            return False
        self._busy = True
        self._idle_since = None
        self._hot.outbox.put(self._send_refusal, reply)
        return True

    def _send_refusal(self, reply: bytes) -> None:
        if self.transport.is_closing():
            return
        self.transport.write(reply)
        self.on_response_complete()
        gate = self._hot.gate
        if gate is not None and self._socket >= 0 and not self._hot.state.draining:  # the next one can be refused for less
            self.flow.pause_reading()
            self._at_gate = True
            gate.admit(self._socket, self)

    def take_rest(self, data: bytes) -> None:
        """Send what the gate could not."""
        self.transport.write(data)

    def leave_gate(self) -> None:
        """Read from the loop again."""
        self._at_gate = False
        self._idle_since = self.loop.time()
        self._read_on()

    def _take_known(self, data: bytes | memoryview) -> bool:
        """Return whether this is one request whose head has come before: then it is not parsed, and has its turn."""
        if not isinstance(data, bytes) or self._begun or self._busy or self._waiting:
            return False
        known = self._hot.heads.find(data)
        if known is None:
            self._fed = data
            return False
        head, body = known
        exchange = Exchange(self, self._hot, self._hot.routes[head.path], head.headers, keep_alive=True)
        exchange.chunks.append(body)
        exchange.queued = exchange.whole = True
        self._turn(exchange.open)
        return True

    def _parse_rest(self) -> None:
        """Parse what was read until a request has to wait: it and what follows it in the same part are all that wait."""
        rest, self._rest, at = memoryview(self._rest), b"", 0
        while at < len(rest) and not self._waiting and not self._reading_closed:
            self.take(rest[at : at + PARSE_BYTES])
            at += PARSE_BYTES
        self._rest = b"" if self._reading_closed else bytes(rest[at:])
        if self._rest:
            self.flow.pause_reading()

    def _await(self, exchange: Exchange) -> None:
        """Let a hot request have its turn before its body is whole."""
        if not exchange.queued:
            exchange.queued = True
            self._turn(exchange.open)
        exchange.wait()

    def eof_received(self) -> None:
        """Give up what is being answered: who has closed one half reads no answer, and the transport closes the other."""
        self._abandon()

    def connection_lost(self, exc: Exception | None) -> None:
        """Give up what is being answered."""
        if self._at_gate and self._hot.gate is not None:
            self._hot.gate.forget(self._socket)
        self._abandon()
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """Begin a head."""
        self._begun = True
        self.url = b""
        self.headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; trailers are left aside."""
        if self._in_head:
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Tell hot requests from others; what follows is the body."""
        self._quiet_bytes = 0
        parser, route = self.parser, self._hot.routes.get(self.url)
        if route is not None and parser.get_method() == b"POST":
            headers, keep_alive = dict(self.headers), parser.should_keep_alive()
            plain = b"expect" not in headers and b"upgrade" not in headers
            # Only HTTP/1.1 keeps a connection alive unasked; to ask the parser for the version costs as much as all else here.
            if plain and ((keep_alive and b"connection" not in headers) or parser.get_http_version() == "1.1"):
                self._incoming = Exchange(self, self._hot, route, headers, keep_alive)
                self._in_head = False
                return
        self._delegate_to_asgi()
        self._in_head = False

    def on_body(self, body: bytes) -> None:
        """Take a piece of a body."""
        self._quiet_bytes = 0
        if self._incoming is not None:
            self._incoming.chunks.append(body)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Let a hot request have its turn; what follows is the next one's head."""
        self._begun = False
        self._in_head = True
        self._quiet_bytes = 0
        fed, self._fed = self._fed, b""
        exchange = self._incoming
        if exchange is None:
            super().on_message_complete()
            return
        self._incoming = None
        if exchange.queued:
            exchange.finish()
        else:
            if fed and exchange.keep_alive:
                self._hot.heads.keep(fed, Head(self.url, exchange.headers, sum(map(len, exchange.chunks))))
            exchange.queued = exchange.whole = True
            self._turn(exchange.open)

    def _delegate_to_asgi(self) -> None:
        """Have uvicorn make a scope and a task of the request, and take them when it is its turn."""
        url, headers = self.url, self.headers
        super().on_message_begin()
        self.url = url
        self.headers = self.scope["headers"] = headers
        self.expect_100_continue = any(name == b"expect" and value.lower() == b"100-continue" for name, value in headers)
        self.cycle = None  # type: ignore[assignment]  # uvicorn would let the request wait for it
        super().on_headers_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._turn(partial(self._run, cycle, app))

    def _run(self, cycle: RequestResponseCycle, app: Any) -> None:
        self.under_way = cycle
        super()._start_asgi_task(cycle, app)

    def _turn(self, begin: Callable[[], None]) -> None:
        """Begin now, or when everything before has been answered and read by the client."""
        if self._busy or self._waiting or self.flow.write_paused:
            self._waiting.append(begin)
            self.flow.pause_reading()
        else:
            self._busy = True
            begin()

    def on_response_complete(self) -> None:
        """Let the next request have its turn; on a connection that closes it never gets one."""
        self.server_state.total_requests += 1
        self.under_way = None
        if self.transport.is_closing():
            return
        self._busy = False
        self._idle_since = self.loop.time()
        if self._at_gate and self._hot.gate is not None and self.quiet:
            self._hot.gate.resume(self._socket)
        if self._idle_timer is None:
            self._idle_timer = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)
        if self._waiting or self._rest:
            self.loop.call_soon(self._advance)
        elif self.flow.read_paused:
            self._read_on()

    def _advance(self) -> None:
        """Begin the request whose turn it is, or go on reading."""
        if self.flow.write_paused or self.transport.is_closing():
            return
        if not self._busy and self._waiting:
            self._busy = True
            self._waiting.popleft()()
            if self._incoming is not None:
                self._await(self._incoming)
        if not self._waiting:
            self._parse_rest()
        self._read_on()

    def _read_on(self) -> None:
        if not (self._waiting or self._rest or self.flow.write_paused or self._at_gate):
            self.flow.resume_reading()

    def pause_writing(self) -> None:
        """Take no further requests from a client that does not read its answers."""
        super().pause_writing()
        self.flow.pause_reading()

    def resume_writing(self) -> None:
        """Go on."""
        super().resume_writing()
        self._advance()

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection that has been idle for its time, else look again later: a timer for every request is dear."""
        self._idle_timer = None
        if self._busy or self._idle_since is None:
            return
        if self._at_gate and self._hot.gate is not None:  # which does not say when it last refused a request here
            self._hot.gate.release(self._socket)
        left = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if left <= 0:
            super().timeout_keep_alive_handler()
        else:
            self._idle_timer = self.loop.call_later(left, self.timeout_keep_alive_handler)

    def shutdown(self) -> None:
        """Close an idle connection, another one after the answer that is under way."""
        if not self._busy:
            self.transport.close()
        elif self.under_way is not None:
            self.under_way.keep_alive = False

    def _refuse(self, error: BaseException) -> None:
        """Answer what cannot be read, in its turn, and end the connection."""
        self._reading_closed = True
        if not self._in_head and not self._withdraw():
            self.transport.close()
            return
        self._turn(partial(self._end, problems.answer(error, request_id({}))))

    def _withdraw(self) -> bool:
        """Take back the request whose body cannot be read, so that what is said now answers it; False when its answer has begun."""
        exchange, self._incoming = self._incoming, None
        if exchange is not None and not exchange.queued:
            return True
        if self._waiting:
            self._waiting.pop()
            return True
        if not self._busy or (isinstance(self.under_way, RequestResponseCycle) and self.under_way.response_started):
            return False
        self._abandon()
        self._busy = False
        return True

    def _end(self, answer: Response) -> None:
        self.transport.write(written(answer, close=True))
        self.transport.close()

    def _abandon(self) -> None:
        """Give up what is being answered and what waits."""
        self._waiting.clear()
        under_way, self.under_way = self.under_way, None
        if isinstance(under_way, Exchange):
            under_way.abandon()
        elif under_way is not None:
            under_way.disconnected = True
            under_way.message_event.set()


def _fault(error: httptools.HttpParserError) -> BaseException:
    """Return whose fault it is that the parser has stopped: the caller's, or that of what we do at its calls."""
    ours = error.__context__ if isinstance(error, httptools.HttpParserCallbackError) else None
    if ours is None or isinstance(ours, httptools.HttpParserError):
        return MalformedRequestError(f"{ours or error}: this is not HTTP/1.1 as RFC 9112 has it")
    return ours
