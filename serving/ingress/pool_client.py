"""The route of a question that a process of its own answers: request bytes go there unchanged, and so does the response on its way back.

Nothing is decoded here. One request is sent per event loop iteration, so that requests to a slow question delay other questions by no more
than that. The number of requests in flight is bounded, and a request that is not answered by its deadline is given up.

The pool process establishes the principal of a request from the relayed `Authorization` header by the same function as this process
(`serving.auth.principals.authenticate`, called by `Endpoint.begin`). So nothing is added to a request, and each is authenticated once.
"""

import asyncio
import logging
import socket
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import msgspec

from serving.engines import Engine
from serving.errors import DeadlineExceededError, InvalidRequestError, NotReadyError, OverloadedError, RevenueEngineError
from serving.ingress import problems
from serving.ingress.decoding.decoder import is_list
from serving.ingress.http import routes
from serving.ingress.http.headers import MAX_TIMEOUT_MS, TIMEOUT, Headers, request_id, states_timeout, timeout_ms
from serving.ingress.http.response import Response
from serving.metrics.collect import Meter
from serving.runtime.isolation.peers import ForeignPeerError, require_own_user
from serving.scoring.futures import resolve

log = logging.getLogger(__name__)

MAX_CONNECTIONS = 64  # each with one request: what the pool process scores in one batch
SWEEP_S = 0.05  # between checks for requests past their deadline
GRACE_S = 0.25  # after the deadline, in which the pool process may still answer that it has passed
HEALTH_INTERVAL_S = 0.5
HEALTH_TIMEOUT_S = 5.0
RETRY_S = 1.0

_TIMEOUT = TIMEOUT.lower().encode()
_HOP_BY_HOP = (b"connection", b"content-length", b"transfer-encoding", b"host", b"expect", b"origin", _TIMEOUT)
_HEALTH_REQUEST = b"GET /health/ready HTTP/1.1\r\nhost: pool\r\n\r\n"
_decode = msgspec.json.Decoder().decode

Reply = Callable[[Response], None]


class PendingRequest:
    """One relayed request. `ended`: the caller has its response or has disconnected; `retried`: its connection was lost once."""

    __slots__ = ("connection", "content", "deadline", "ended", "reply", "retried")

    def __init__(self, content: bytes, reply: Callable[[Response | Exception], None], deadline: float) -> None:
        self.content, self.reply, self.deadline = content, reply, deadline
        self.ended = self.retried = False
        self.connection: PoolConnection | None = None

    def cancel(self) -> None:
        """Note that the caller has disconnected; the pool process notices by the end of the connection."""
        self.ended = True
        if self.connection is not None:
            self.connection.close()

    def end(self, outcome: Response | Exception) -> None:
        """Reply, unless the caller has disconnected."""
        if not self.ended:
            self.ended = True
            self.reply(outcome)


class PoolConnection(asyncio.Protocol):
    """One connection to the pool process, with at most one request on it."""

    def __init__(self, client: "PoolClient") -> None:
        self._client = client
        self._received = b""
        self._transport: asyncio.Transport | None = None
        self.request: PendingRequest | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is not a subclass

    def send(self, request: PendingRequest) -> None:
        """Send a request."""
        assert self._transport is not None, "a request on a connection that is not open; this is a bug"
        self.request, request.connection = request, self
        self._received = b""
        self._transport.write(request.content)

    def close(self) -> None:
        """End the connection."""
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Take a part of a response."""
        self._received += data
        try:
            parsed = parse_response(self._received)
        except ValueError as error:
            log.error("the pool process sent what is not a response: %s", error)
            self.close()
            return
        request = self.request
        if parsed is None or request is None:
            return
        self.request, request.connection = None, None
        response, last = parsed
        if last:
            self.close()
        else:
            self._client.release(self)
        request.end(response)

    def connection_lost(self, _: Exception | None) -> None:
        """Have the request sent again, if nothing of its response has arrived."""
        request, self.request = self.request, None
        if request is not None:
            request.connection = None
        self._client.lost(self, request, begun=bool(self._received))


class PoolStatus(NamedTuple):
    """What the pool process reports: the version of its live model, None while there is none, its choices, its problem, if it is a demo."""

    version: str | None
    choices: Sequence[str]
    problem: str | None = None
    demo: bool = False


class PoolClient:
    """One question that a pool process answers through the unix socket `path`. It has the interfaces of `Endpoint` and its question."""

    def __init__(self, engine: Engine, path: Path, *, default_timeout_ms: int, max_queued: int, meter: Meter) -> None:
        self.engine = engine
        self._path = str(path)
        self._default_ms = default_timeout_ms
        self._max_queued = max_queued
        self._meter = meter
        self._line = f"POST {engine.route} HTTP/1.1\r\nhost: pool\r\n".encode("ascii")
        self._waiting: deque[PendingRequest] = deque()
        self._idle: list[PoolConnection] = []
        self._connections: set[PoolConnection] = set()
        self._opening: asyncio.Task[None] | None = None
        self._sending = False
        self._sweep: asyncio.TimerHandle | None = None
        self._status: PoolStatus | None = None
        self._checking: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def question(self) -> "PoolClient":
        """Return itself."""
        return self

    @property
    def ready(self) -> bool:
        """Return whether the pool process has a live model."""
        return self.version is not None

    @property
    def lacking(self) -> bool:
        """Return whether the pool process has not reported yet, or lacks a model that the server needs to be ready."""
        return self._status is None or (self._status.version is None and not self.engine.optional)

    @property
    def version(self) -> str | None:
        """Return the live model's version."""
        return None if self._status is None else self._status.version

    @property
    def demo(self) -> bool:
        """Return whether the live model is for demonstration."""
        return self._status is not None and self._status.demo

    @property
    def choices(self) -> Sequence[str]:
        """Return what the live model chose for this machine, and why."""
        return () if self._status is None else self._status.choices

    @property
    def problem(self) -> str | None:
        """Return why the model that the registry points to is not live, None where it is."""
        return None if self._status is None else self._status.problem

    def depth(self) -> int:
        """Return how many requests wait to be sent."""
        return len(self._waiting)

    def begin(self, headers: Headers, body: bytes, reply: Reply, unread_s: float = 0.0) -> Callable[[], object]:
        """Begin to answer a request, as `Endpoint.begin` does."""
        now = time.monotonic()
        valid = True
        try:
            timeout_s = timeout_ms(headers, self._default_ms) / 1000
        except InvalidRequestError:
            timeout_s, valid = self._default_ms / 1000, False  # the pool process answers what is wrong
        left_s = timeout_s - unread_s
        # The deadline of a list without a timeout header depends on its length, which only the pool process reads.
        waits_s = MAX_TIMEOUT_MS / 1000 if is_list(body) and not states_timeout(headers) else left_s

        def done(outcome: Response | Exception) -> None:
            reply(self.refuse(headers, outcome) if isinstance(outcome, Exception) else outcome)

        if len(self._waiting) >= self._max_queued:
            done(
                OverloadedError(
                    f"{len(self._waiting)} requests wait for {self.engine.name} (batcher.max_queued={self._max_queued}); try again", RETRY_S
                )
            )
            return _nothing
        request = PendingRequest(self._content(headers, body, left_s if valid else None), done, now + waits_s)
        self._enqueue(request)
        return request.cancel

    def answer(self, headers: Headers, body: bytes) -> "asyncio.Future[Response]":
        """Return the response to come."""
        return routes.future_response(self.begin, headers, body)

    def refuse(self, headers: Headers, error: Exception) -> Response:
        """Return the response to a request that does not reach the pool process, and count it; the pool process counts the others."""
        self._meter.refused(problems.kind(error)[0])
        response = problems.response(error, request_id(headers))
        self._meter.request(response.status, 0.0)
        return response

    async def open(self) -> None:
        """Check the health of the pool process, now and every HEALTH_INTERVAL_S."""
        await self._check_health()
        self._checking = asyncio.create_task(self._check_health_repeatedly(), name=f"health of the pool of {self.engine.name}")

    async def aclose(self) -> None:
        """Close every connection."""
        self._closed = True
        tasks = [task for task in (self._checking, self._opening) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._sweep is not None:
            self._sweep.cancel()
        for connection in list(self._connections):
            connection.close()

    def release(self, connection: PoolConnection) -> None:
        """Use a connection for other requests: its request is answered."""
        self._idle.append(connection)
        if self._waiting:
            self._send_soon()

    def lost(self, connection: PoolConnection, request: PendingRequest | None, begun: bool) -> None:
        """Forget a connection. Its request is sent once more where the pool process cannot have answered it."""
        self._connections.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        if request is None or request.ended:
            return
        if request.retried or begun or self._closed:
            request.end(self._unavailable())
            return
        request.retried = True
        self._waiting.appendleft(request)
        self._send_soon()

    def _content(self, headers: Headers, body: bytes, left_s: float | None) -> bytes:
        """Return the bytes of the relayed request. Its timeout header states `left_s`, or is unchanged where that is None."""
        lines = [b"%b: %b\r\n" % header for header in headers.items() if header[0] not in _HOP_BY_HOP]
        if states_timeout(headers):
            stated = headers[_TIMEOUT]
            lines.append(b"%b: %b\r\n" % (_TIMEOUT, stated if left_s is None else b"%d" % max(1, int(left_s * 1000))))
        return b"".join((self._line, *lines, b"content-length: %d\r\n\r\n" % len(body), body))

    def _enqueue(self, request: PendingRequest) -> None:
        self._waiting.append(request)
        self._send_soon()
        if self._sweep is None:
            self._sweep = asyncio.get_running_loop().call_later(SWEEP_S, self._sweep_late)

    def _send_soon(self) -> None:
        if not self._sending:
            self._sending = True
            asyncio.get_running_loop().call_soon(self._send_next)

    def _send_next(self) -> None:
        """Send the next request if there is a connection; the one after it is sent in the next iteration of the event loop."""
        self._sending = False
        while self._waiting and self._waiting[0].ended:
            self._waiting.popleft()
        if not self._waiting:
            return
        if self._idle:
            self._idle.pop().send(self._waiting.popleft())
            if self._waiting:
                self._send_soon()
        elif self._opening is None and len(self._connections) < MAX_CONNECTIONS and not self._closed:
            self._opening = asyncio.create_task(self._open())

    async def _open(self) -> None:
        """Open one more connection. If that fails there is no pool process, and every waiting request is answered with that."""
        try:
            _, connection = await self._connect()
        except OSError as error:
            if isinstance(error, ForeignPeerError):
                log.error("the pool of %s is not used: %s", self.engine.name, error)
            self._opening = None
            waiting, self._waiting = self._waiting, deque()
            for request in waiting:
                request.end(self._unavailable())
            return
        self._opening = None
        self._connections.add(connection)
        self.release(connection)

    async def _connect(self) -> tuple[asyncio.BaseTransport, PoolConnection]:
        """Return a connection to the pool process. Raises OSError where there is none, or where it is another user's."""
        loop = asyncio.get_running_loop()
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            await loop.sock_connect(sock, self._path)
            require_own_user(sock)
            return await loop.create_unix_connection(lambda: PoolConnection(self), sock=sock)
        except BaseException:
            sock.close()
            raise

    def _sweep_late(self) -> None:
        """Answer requests past their deadline; those in flight only after GRACE_S, since the pool process answers them itself."""
        self._sweep = None
        now = time.monotonic()
        in_flight = [connection.request for connection in self._connections if connection.request is not None]
        late = [request for request in self._waiting if request.deadline < now]
        late += [request for request in in_flight if request.deadline + GRACE_S < now]
        for request in late:
            request.end(DeadlineExceededError(f"{self.engine.name} did not answer in time; allow more with {TIMEOUT}"))
            if request.connection is not None:
                request.connection.close()
        if self._waiting or in_flight:
            self._sweep = asyncio.get_running_loop().call_later(SWEEP_S, self._sweep_late)

    def _unavailable(self) -> RevenueEngineError:
        return NotReadyError(f"the process that answers {self.engine.name} is starting, or was replaced; try again")

    async def _check_health_repeatedly(self) -> None:
        while True:
            await asyncio.sleep(HEALTH_INTERVAL_S)
            await self._check_health()

    async def _check_health(self) -> None:
        """Request the health of the pool process. While it is too busy to respond its last status holds; after an error it has no model."""
        reply: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        self._enqueue(PendingRequest(_HEALTH_REQUEST, lambda outcome: resolve(reply, outcome), time.monotonic() + HEALTH_TIMEOUT_S))
        try:
            response = await reply
            ready: Mapping[str, Any] = _decode(response.body)
            name = self.engine.name
            reported = ready["models"].get(name), ready["choices"].get(name, ()), ready.get("refused", {}).get(name)
            self._status = PoolStatus(*reported, name in ready.get("demo", ()))
        except DeadlineExceededError:  # busy
            return
        except (RevenueEngineError, msgspec.MsgspecError, LookupError):
            if self._status is not None:
                self._status = PoolStatus(None, ())


def parse_response(data: bytes) -> tuple[Response, bool] | None:
    """Return the response at the beginning of `data` and whether the connection ends with it; None while it is incomplete.

    Raises ValueError where there is no status line or no Content-Length.
    """
    head, end, body = data.partition(b"\r\n\r\n")
    if not end:
        return None
    first, _, rest = head.partition(b"\r\n")
    kept, length, last = [], None, False
    for line in rest.split(b"\r\n"):
        name, _, value = line.partition(b": ")
        if name == b"content-length":
            length = int(value)
        elif name == b"connection":
            last = value == b"close"
        else:
            kept.append(line)
    if not first.startswith(b"HTTP/1.1 ") or length is None:
        raise ValueError(f"{head[:100]!r}")
    if len(body) < length:
        return None
    return Response(int(first[9:12]), b"".join([b"%b\r\n" % line for line in kept]), body[:length]), last


def _nothing() -> None:
    """Cancel nothing: the response is out."""
