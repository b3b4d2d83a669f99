"""Connections for the tests of the hot routes: a listener in a thread, callers on raw sockets, and a connection in memory."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import uvicorn
import uvloop
from uvicorn.server import ServerState

from serving.ingress.http.headers import Headers
from serving.ingress.http.lifecycle import State
from serving.ingress.http.listener import Listener
from serving.ingress.http.protocol import HttpProtocol
from serving.ingress.http.response import Response
from serving.ingress.http.routes import Reply, Route, RouteTable

T = TypeVar("T")
PATH = b"/hot"
PATIENCE_S = 20
LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}


class Echo:
    """A route that answers with the body of the request and its `x-number`: at once, or in the next iteration if `later` is in the body."""

    def __init__(self) -> None:
        self.begun: list[bytes] = []

    def begin(self, headers: Headers, body: bytes, reply: Reply, unread_s: float) -> Callable[[], object]:
        self.begun.append(body)
        answer = Response(200, b"x-route: hot\r\nx-number: %b\r\n" % headers.get(b"x-number", b""), body)
        if b"later" in body:
            return asyncio.get_running_loop().call_soon(reply, answer).cancel
        reply(answer)
        return lambda: None


class DeferredRoute:
    """A route that answers in `release`. `replies`: bodies and callbacks of requests; `cancelled`: the bodies of cancelled ones.

    `unread_s`: for how many seconds each request was unread.
    """

    def __init__(self) -> None:
        self.replies: list[tuple[bytes, Reply]] = []
        self.cancelled: list[bytes] = []
        self.unread_s: list[float] = []

    def begin(self, headers: Headers, body: bytes, reply: Reply, unread_s: float) -> Callable[[], object]:
        self.replies.append((body, reply))
        self.unread_s.append(unread_s)
        return lambda: self.cancelled.append(body)

    def release(self, size: int = 1) -> None:
        """Answer the oldest with its body, `size` times."""
        body, reply = self.replies.pop(0)
        reply(Response(200, [(b"x-route", b"hot")], body * size))


async def cold(scope: Any, receive: Any, send: Any) -> None:
    """Answer over ASGI with the body that came, after an iteration of the loop."""
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            return
        body, more = body + message["body"], message.get("more_body", False)
    await asyncio.sleep(0)
    number = dict(scope["headers"]).get(b"x-number", b"")
    headers = [(b"x-route", b"cold"), (b"x-number", number), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def table(route: Any, state: State | None = None, max_requests: int = 100, max_body_bytes: int = 100_000, **more: Any) -> RouteTable:
    return RouteTable({PATH: Route(route.begin)}, state or State(ready=True), max_requests, max_body_bytes, **more)


class Serving:
    """A listener in a thread of its own: `port`, and `call` to read the state of its loop."""

    def __init__(self, app: Any, hot: RouteTable | None, state: State, make: Callable[[], asyncio.AbstractEventLoop]) -> None:
        self.loop = make()
        self.listener = Listener(app, state, hot)
        self.state = state
        self._sock = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._sock.getsockname()[1]
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_until_complete(self.listener.open(self._sock))
        self.loop.run_forever()
        pending = asyncio.all_tasks(self.loop)
        for task in pending:
            task.cancel()
        self.loop.run_until_complete(asyncio.gather(*pending, return_exceptions=True))
        self.loop.close()

    def start(self) -> None:
        self._thread.start()

    def call(self, function: Callable[[], T]) -> T:
        """Return function(), called on the loop."""

        async def called() -> T:
            return function()

        return asyncio.run_coroutine_threadsafe(called(), self.loop).result(PATIENCE_S)

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait until `condition()`, called on the loop, is true."""

        async def waiting() -> None:
            async with asyncio.timeout(PATIENCE_S):
                while not condition():
                    await asyncio.sleep(0.001)

        asyncio.run_coroutine_threadsafe(waiting(), self.loop).result(PATIENCE_S)

    def drain(self, budget_s: float) -> "Any":
        """Begin to drain; the result is how many requests were cut."""
        return asyncio.run_coroutine_threadsafe(self.listener.drain(budget_s), self.loop)

    def close(self) -> None:
        cut = self.drain(0)
        cut.result(PATIENCE_S)
        self.call(lambda: [connection.transport.abort() for connection in list(self.listener._server_state.connections)])
        self.until(lambda: not self.listener._server_state.connections)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()
        self._sock.close()


@contextmanager
def serving(app: Any, hot: RouteTable | None, state: State, loop: str = "uvloop") -> Iterator[Serving]:
    serving = Serving(app, hot, state, LOOPS[loop])
    serving.start()
    try:
        yield serving
    finally:
        serving.close()


def request(body: bytes = b"", *more: bytes, method: bytes = b"POST", path: bytes = PATH, chunks: int = 0) -> bytes:
    """Return a request as it goes over the wire; with `chunks` its body is sent in chunks of so many bytes."""
    lines = [b"%b %b HTTP/1.1" % (method, path), b"Host: test", *more]
    if chunks:
        lines.append(b"Transfer-Encoding: chunked")
        pieces = [body[at : at + chunks] for at in range(0, len(body), chunks)]
        body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in [*pieces, b""])
    else:
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def answers(got: bytes) -> list[tuple[int, dict[str, str], bytes]]:
    """Return (status, headers, body) of every response in what was received; all must be complete."""
    found = []
    while got:
        head, end, got = got.partition(b"\r\n\r\n")
        assert end, head
        first, *lines = head.decode().split("\r\n")
        pairs = [tuple(line.split(": ", 1)) for line in lines]
        headers = dict(pairs)
        assert len(headers) == len(pairs), lines
        status, length = int(first.split()[1]), int(headers.get("content-length", 0))
        assert len(got) >= length
        found.append((status, headers, got[:length]))
        got = got[length:]
    return found


class Caller:
    """One raw connection."""

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> "Caller":
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def send(self, *parts: bytes) -> "Caller":
        for part in parts:
            self.sock.sendall(part)
        return self

    def answer(self) -> tuple[int, dict[str, str], bytes]:
        """Return one answer, while the connection stays open."""
        got = b""
        while b"\r\n\r\n" not in got:
            got += self._some()
        head, _, body = got.partition(b"\r\n\r\n")
        (length,) = (int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.startswith(b"content-length:"))
        more = bytearray(body)
        while len(more) < length:
            more += self._some()
        (one,) = answers(head + b"\r\n\r\n" + more)
        return one

    def _some(self) -> bytes:
        chunk = self.sock.recv(65536)
        assert chunk, "closed by the server"
        return chunk

    def rest(self) -> bytes:
        """Return everything until the server closes; a reset, if it had unread data, counts as the end."""
        got = b""
        with contextlib.suppress(ConnectionResetError):
            while chunk := self.sock.recv(65536):
                got += chunk
        return got


class MemoryConnection(asyncio.Transport):
    """A connection of `protocol` in memory: `sent` is what it has written; what is sent to it waits while reading is paused."""

    def __init__(self, hot: RouteTable, app: Any = cold) -> None:
        super().__init__()
        config = uvicorn.Config(app, http=HttpProtocol, ws="none", lifespan="off", access_log=False, log_config=None)
        self.sent = b""
        self.closed = False
        self._to_come: list[bytes] = []
        self._paused = False
        self.protocol = HttpProtocol(config, ServerState(), {}, table=hot)
        self.protocol.connection_made(self)

    def send(self, *parts: bytes) -> None:
        """Have the parts arrive one by one."""
        self._to_come.extend(parts)
        self._deliver()

    def _deliver(self) -> None:
        while self._to_come and not self._paused and not self.closed:
            self.protocol.data_received(self._to_come.pop(0))

    async def settled(self) -> list[tuple[int, dict[str, str], bytes]]:
        """Return the answers once nothing changes any more."""
        seen = None
        while seen != (seen := (self.sent, len(self._to_come), self._paused)):
            for _ in range(8):
                await asyncio.sleep(0)
        return answers(self.sent)

    def write(self, data: Any) -> None:
        assert not self.closed, "written after the end"
        self.sent += data

    def get_write_buffer_size(self) -> int:
        return 0

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        self._paused = True

    def resume_reading(self) -> None:
        self._paused = False
        asyncio.get_running_loop().call_soon(self._deliver)

    @property
    def paused(self) -> bool:
        return self._paused
