"""The route of a question that a process of its own answers: a request's bytes go there as they came, the answer's come back as they are.

Nothing is decoded here. A slow family's requests cost this event loop what it takes to hand them on, one a turn, so that whatever else is
asked comes between any two of them; how many are under way is bounded, and what waits here is given up at its deadline.
"""

import asyncio
import logging
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
from serving.scoring.futures import tell

log = logging.getLogger(__name__)

WIRES = 64  # requests under way at once: what the other end scores in one batch
SWEEP_S = 0.05  # between looks for what is too late
GRACE_S = 0.25  # beyond the deadline, for the other end to say itself that it has passed
LOOK_S = 0.5  # between two questions how the other end is
LOOK_PATIENCE_S = 5.0
RETRY_S = 1.0

_TIMEOUT = TIMEOUT.lower().encode()
_OURS = (b"connection", b"content-length", b"transfer-encoding", b"host", b"expect", b"upgrade", _TIMEOUT)
_HEALTH = b"GET /health/ready HTTP/1.1\r\nhost: pool\r\n\r\n"
_decode = msgspec.json.Decoder().decode

Reply = Callable[[Response], None]


class PendingRequest:
    """One request on its way. `gone`: nobody waits for its answer any more; `tried`: a wire was lost under it once."""

    __slots__ = ("content", "deadline", "gone", "reply", "request_id", "tried", "wire")

    def __init__(self, content: bytes, reply: Callable[[Response | Exception], None], deadline: float) -> None:
        self.content, self.reply, self.deadline = content, reply, deadline
        self.gone = self.tried = False
        self.wire: PoolConnection | None = None

    def cancel(self) -> None:
        """Say that the caller has gone; the other end hears it by the end of the connection."""
        self.gone = True
        if self.wire is not None:
            self.wire.close()

    def end(self, outcome: Response | Exception) -> None:
        """Reply, unless nobody waits."""
        if not self.gone:
            self.gone = True
            self.reply(outcome)


class PoolConnection(asyncio.Protocol):
    """One connection to the other end, with at most one errand on it."""

    def __init__(self, relay: "Relay") -> None:
        self._relay = relay
        self._came = b""
        self._transport: asyncio.Transport | None = None
        self.errand: PendingRequest | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of it

    def send(self, errand: PendingRequest) -> None:
        """Take an errand there."""
        assert self._transport is not None, "an errand on a wire that is not connected; this is a bug"
        self.errand, errand.wire = errand, self
        self._came = b""
        self._transport.write(errand.content)

    def close(self) -> None:
        """End the connection."""
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Take a part of an answer."""
        self._came += data
        try:
            read = answered(self._came)
        except ValueError as error:
            log.error("the other end said what is no answer: %s", error)
            self.close()
            return
        errand = self.errand
        if read is None or errand is None:
            return
        self.errand, errand.wire = None, None
        answer, last = read
        if last:
            self.close()
        else:
            self._relay.free(self)
        errand.end(answer)

    def connection_lost(self, _: Exception | None) -> None:
        """Have what was under way tried again, if nothing of its answer has come."""
        errand, self.errand = self.errand, None
        if errand is not None:
            errand.wire = None
        self._relay.lost(self, errand, begun=bool(self._came))


class Known(NamedTuple):
    """What the other end says of itself: the version of its live model, None while there is none, and what that chose."""

    version: str | None
    choices: Sequence[str]


class Relay:
    """One question that is answered through the unix socket `path`; towards the ingress it is an `Endpoint`, and its `question` itself."""

    def __init__(self, engine: Engine, path: Path, *, default_timeout_ms: int, max_queued: int, meter: Meter) -> None:
        self.engine = engine
        self._path = str(path)
        self._default_ms = default_timeout_ms
        self._max_queued = max_queued
        self._meter = meter
        self._line = f"POST {engine.route} HTTP/1.1\r\nhost: pool\r\n".encode("ascii")
        self._waiting: deque[PendingRequest] = deque()
        self._idle: list[PoolConnection] = []
        self._wires: set[PoolConnection] = set()
        self._opening: asyncio.Task[None] | None = None
        self._turning = False
        self._sweep: asyncio.TimerHandle | None = None
        self._known: Known | None = None
        self._following: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def question(self) -> "Relay":
        """Return what is asked: itself."""
        return self

    @property
    def ready(self) -> bool:
        """Return whether the other end has a live model."""
        return self.version is not None

    @property
    def lacking(self) -> bool:
        """Return whether the other end has not been on_answers of yet, or lacks a model that a server needs."""
        return self._known is None or (self._known.version is None and not self.engine.optional)

    @property
    def version(self) -> str | None:
        """Return the live model's version."""
        return None if self._known is None else self._known.version

    @property
    def choices(self) -> Sequence[str]:
        """Return what the live model chose for this machine, and why."""
        return () if self._known is None else self._known.choices

    def depth(self) -> int:
        """Return how many requests wait here."""
        return len(self._waiting)

    def begin(self, headers: Headers, body: bytes, reply: Reply, unread_s: float = 0.0) -> Callable[[], object]:
        """Begin to have a request answered, as `Endpoint.begin` does."""
        now = time.monotonic()
        sane = True
        try:
            patience_s = timeout_ms(headers, self._default_ms) / 1000
        except InvalidRequestError:
            patience_s, sane = self._default_ms / 1000, False  # the other end says what is wrong
        left_s = patience_s - unread_s
        # How long a list may take by itself, only the other end knows, which reads it.
        waits_s = MAX_TIMEOUT_MS / 1000 if is_list(body) and not states_timeout(headers) else left_s

        def done(outcome: Response | Exception) -> None:
            reply(self.refuse(headers, outcome) if isinstance(outcome, Exception) else outcome)

        if len(self._waiting) >= self._max_queued:
            done(
                OverloadedError(
                    f"{len(self._waiting)} requests wait for {self.engine.name} (batcher.max_queued={self._max_queued})", RETRY_S
                )
            )
            return _nothing
        errand = PendingRequest(self._content(headers, body, left_s if sane else None), done, now + waits_s)
        self._put(errand)
        return errand.cancel

    def answer(self, headers: Headers, body: bytes) -> "asyncio.Future[Response]":
        """Return the response to come."""
        return routes.ask(self.begin, headers, body)

    def refuse(self, headers: Headers, error: Exception) -> Response:
        """Return the response to a request that never reached the other end, and count it: what does is counted there."""
        self._meter.refused(problems.kind(error)[0])
        answer = problems.answer(error, request_id(headers))
        self._meter.request(answer.status, 0.0)
        return answer

    async def open(self) -> None:
        """Ask the other end how it is, and go on asking."""
        await self._look()
        self._following = asyncio.create_task(self._follow(), name=f"follow the pool of {self.engine.name}")

    async def aclose(self) -> None:
        """Close every connection."""
        self._closed = True
        tasks = [task for task in (self._following, self._opening) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._sweep is not None:
            self._sweep.cancel()
        for wire in list(self._wires):
            wire.close()

    def free(self, wire: PoolConnection) -> None:
        """Take back a wire whose errand is done."""
        self._idle.append(wire)
        if self._waiting:
            self._turn_soon()

    def lost(self, wire: PoolConnection, errand: PendingRequest | None, begun: bool) -> None:
        """Forget a wire; its errand is tried once more where the other end cannot have answered it."""
        self._wires.discard(wire)
        if wire in self._idle:
            self._idle.remove(wire)
        if errand is None or errand.gone:
            return
        if errand.tried or begun or self._closed:
            errand.end(self._away())
            return
        errand.tried = True
        self._waiting.appendleft(errand)
        self._turn_soon()

    def _content(self, headers: Headers, body: bytes, left_s: float | None) -> bytes:
        """Return the request as it goes to the other end, with what is left of the time that the caller states: None for no sane time."""
        lines = [b"%b: %b\r\n" % header for header in headers.items() if header[0] not in _OURS]
        if states_timeout(headers):
            stated = headers[_TIMEOUT]
            lines.append(b"%b: %b\r\n" % (_TIMEOUT, stated if left_s is None else b"%d" % max(1, int(left_s * 1000))))
        return b"".join((self._line, *lines, b"content-length: %d\r\n\r\n" % len(body), body))

    def _put(self, errand: PendingRequest) -> None:
        self._waiting.append(errand)
        self._turn_soon()
        if self._sweep is None:
            self._sweep = asyncio.get_running_loop().call_later(SWEEP_S, self._give_up)

    def _turn_soon(self) -> None:
        if not self._turning:
            self._turning = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        """Send the next errand, if there is a wire, and leave the one after it to the loop's next turn."""
        self._turning = False
        while self._waiting and self._waiting[0].gone:
            self._waiting.popleft()
        if not self._waiting:
            return
        if self._idle:
            self._idle.pop().send(self._waiting.popleft())
            if self._waiting:
                self._turn_soon()
        elif self._opening is None and len(self._wires) < WIRES and not self._closed:
            self._opening = asyncio.create_task(self._open())

    async def _open(self) -> None:
        """Open one more wire; where that cannot be, nobody is there to answer what waits."""
        try:
            _, wire = await asyncio.get_running_loop().create_unix_connection(lambda: PoolConnection(self), self._path)
        except OSError:
            self._opening = None
            waiting, self._waiting = self._waiting, deque()
            for errand in waiting:
                errand.end(self._away())
            return
        self._opening = None
        self._wires.add(wire)
        self.free(wire)

    def _give_up(self) -> None:
        """Answer what is too late: what waits at its deadline, what is under way a little after, since the other end says so itself."""
        self._sweep = None
        now = time.monotonic()
        under_way = [wire.errand for wire in self._wires if wire.errand is not None]
        late = [errand for errand in self._waiting if errand.deadline < now]
        late += [errand for errand in under_way if errand.deadline + GRACE_S < now]
        for errand in late:
            errand.end(DeadlineExceededError(f"{self.engine.name} did not answer in time; allow more with {TIMEOUT}"))
            if errand.wire is not None:
                errand.wire.close()
        if self._waiting or under_way:
            self._sweep = asyncio.get_running_loop().call_later(SWEEP_S, self._give_up)

    def _away(self) -> RevenueEngineError:
        return NotReadyError(f"the process that answers {self.engine.name} is starting, or was replaced; try again")

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            await self._look()

    async def _look(self) -> None:
        """Ask the other end how it is; what it said last holds while it says nothing, but for its model."""
        reply: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        self._put(PendingRequest(_HEALTH, lambda outcome: tell(reply, outcome), time.monotonic() + LOOK_PATIENCE_S))
        try:
            answer = await reply
            said: Mapping[str, Any] = _decode(answer.body)
            self._known = Known(said["models"].get(self.engine.name), said["choices"].get(self.engine.name, ()))
        except DeadlineExceededError:  # it is busy
            return
        except (RevenueEngineError, msgspec.MsgspecError, LookupError):
            if self._known is not None:
                self._known = Known(None, ())


def answered(data: bytes) -> tuple[Response, bool] | None:
    """Return the answer that is at the beginning of `data`, and whether the connection ends with it; None while it is not whole.

    Raises ValueError for what is no answer of ours: without a status or the length of its body.
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
    """Cancel nothing: the answer is out."""
