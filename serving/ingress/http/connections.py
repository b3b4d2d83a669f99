"""The open connections of a listener: how long a client may let one wait, how many there may be, and which are closed for others.

A connection *waits* while the client has to send or to read. Each kind of wait has a bound; a connection that waits longer is closed. Where
as many connections are open as there may be, those that have waited longest are closed for new ones.

Connections are in buckets by the second in which their wait began, as far as that is known: a request that is answered moves nothing. When
a bucket is due, each of its connections reports its present wait and is closed or moved on. So a connection costs the same whatever the
number of the others, and one timer serves all of them.
"""

import asyncio
import resource
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from serving.ingress.http.body import DISCARD_S

HEAD: Final = "head"  # the first byte of a request has arrived, or the connection is new; the head is not whole
BODY: Final = "body"
IDLE: Final = "idle"  # between two requests
RESPONSE: Final = "response"  # the client does not read
_BUSY: Final = "busy"  # the server has to act, or had to when the connection was last looked at
_LEAVING: Final = "leaving"

CLIENT: Final = "client"  # a connection that the client has closed, or that ended after a response with Connection: close
EVICTED: Final = "evicted"  # closed for another connection
DRAINED: Final = "drained"
REASONS: Final = (CLIENT, HEAD, BODY, IDLE, RESPONSE, EVICTED, DRAINED)  # why a connection was closed

MAX_TICK_S = 1.0  # between two checks; shorter where a bound is short
TICKS = 8  # at least so many in the shortest bound
MAX_LOOKS = 64  # connections looked at to close one of them
MAX_DEFAULT_OPEN = 50_000
MIN_DEFAULT_OPEN = 64
MIN_RESERVED = 256  # descriptors of a process for everything but its callers


class Limits(NamedTuple):
    """Seconds that a connection may wait for its client, for each kind, and how many connections may be open."""

    head_s: float = 10.0
    body_s: float = 15.0
    idle_s: float = 75.0  # longer than the idle timeout of common client pools, so that the client closes an idle connection
    response_s: float = 60.0
    max_open: int = MAX_DEFAULT_OPEN


class Wait(NamedTuple):
    """What a connection waits for, HEAD, BODY, IDLE or RESPONSE, and since when, in the loop's seconds."""

    kind: str
    since: float


class Waiting(Protocol):
    """A connection, as this module uses it."""

    def check_wait(self) -> Wait | None:
        """Return what the client has to do and since when; None while the server has to act."""

    def time_out(self, kind: str) -> None:
        """Close the connection after a wait of this kind that was too long, with an error where a request has begun."""

    def evict(self) -> None:
        """Close the connection at once."""


def default_max_open() -> int:
    """Return how many connections a process may have open: what its limit of descriptors (RLIMIT_NOFILE) leaves, up to MAX_DEFAULT_OPEN."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return MAX_DEFAULT_OPEN
    return max(MIN_DEFAULT_OPEN, min(soft - max(MIN_RESERVED, soft // 8), MAX_DEFAULT_OPEN))


class _Queue:
    """The connections with one kind of wait, in buckets by the tick in which it began."""

    def __init__(self, bound_s: float) -> None:
        self.bound_s = bound_s
        self.buckets: dict[int, dict[Waiting, None]] = {}

    def put(self, connection: Waiting, tick: int) -> None:
        self.buckets.setdefault(tick, {})[connection] = None

    def remove(self, connection: Waiting, tick: int) -> None:
        bucket = self.buckets[tick]
        del bucket[connection]
        if not bucket:
            del self.buckets[tick]

    def first_tick(self) -> int | None:
        """Return the tick of the longest wait. There is a bucket for each tick within the bound at most."""
        return min(self.buckets, default=None)


@dataclass(slots=True)
class _Place:
    """Where a connection is kept, and why it is being closed."""

    kind: str
    tick: int
    reason: str = CLIENT
    leaving: bool = False


class Connections:
    """The open connections. For one event loop, whose time is the clock. `opened`, `closed`: how many there were, `closed` by REASONS."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits = Limits() if limits is None else limits
        bounds = {HEAD: limits.head_s, BODY: limits.body_s + DISCARD_S, IDLE: limits.idle_s, RESPONSE: limits.response_s}
        least = min(bounds.values())
        self._tick_s = min(MAX_TICK_S, least / TICKS)
        self._waiting = {kind: _Queue(bound_s) for kind, bound_s in {**bounds, _BUSY: least}.items()}
        self._queues: Mapping[str, _Queue] = {**self._waiting, _LEAVING: _Queue(limits.response_s)}
        self._places: dict[Waiting, _Place] = {}
        self._leaving = self._expected = 0
        self._timer: asyncio.TimerHandle | None = None
        self.opened = 0
        self.closed: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._places)

    @property
    def room(self) -> int:
        """How many more connections may be opened."""
        return self.limits.max_open - len(self._places) - self._expected + self._leaving

    def expect(self, number: int) -> None:
        """Count so many more (or, negative, fewer) connections that were accepted and have no protocol yet."""
        self._expected += number

    def add(self, connection: Waiting) -> None:
        """Watch a new connection until `remove`."""
        loop = asyncio.get_running_loop()
        self.opened += 1
        self._expected = max(0, self._expected - 1)
        self._places[connection] = place = _Place(HEAD, int(loop.time() / self._tick_s))
        self._queues[HEAD].put(connection, place.tick)
        if self._timer is None:
            self._timer = loop.call_later(self._tick_s, self._check, loop)

    def remove(self, connection: Waiting) -> None:
        """Forget a connection that has ended."""
        place = self._places.pop(connection, None)
        if place is None:
            return
        self._queues[place.kind].remove(connection, place.tick)
        self._leaving -= place.leaving
        self.closed[place.reason] += 1
        if not self._places and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def note(self, connection: Waiting) -> None:
        """Check a connection in time, whose client has begun a wait that has a shorter bound than the one before."""
        place = self._places.get(connection)
        if place is not None and not place.leaving:
            self._move(connection, place, asyncio.get_running_loop().time())

    def leave(self, connection: Waiting, reason: str) -> None:
        """Note why a connection is being closed."""
        place = self._places.get(connection)
        if place is not None and not place.leaving:
            place.reason, place.leaving = reason, True
            self._leaving += 1

    def make_room(self) -> bool:
        """Close the connection that has waited longest for its client; return False where none of MAX_LOOKS waits."""
        now = asyncio.get_running_loop().time()
        for _ in range(MAX_LOOKS):
            connection = self._longest_waiting()
            if connection is None:
                return False
            place = self._places[connection]
            tick = place.tick
            if self._move(connection, place, now) is not None and place.tick <= tick:  # nothing has happened there since
                self._close(connection, EVICTED, now)
                connection.evict()
                return True
        return False

    def _longest_waiting(self) -> Waiting | None:
        """Return a connection of those whose waits began first, as far as is known."""
        found = [(tick, queue) for queue in self._waiting.values() if (tick := queue.first_tick()) is not None]
        if not found:
            return None
        tick, queue = min(found, key=lambda one: one[0])
        return next(iter(queue.buckets[tick]))

    def _move(self, connection: Waiting, place: _Place, now: float) -> Wait | None:
        """Put a connection where its present wait belongs and return that; one that does not wait, or is leaving, is looked at later."""
        wait = None if place.leaving else connection.check_wait()
        self._queues[place.kind].remove(connection, place.tick)
        place.kind, since = (_LEAVING if place.leaving else _BUSY, now) if wait is None else wait
        place.tick = int(since / self._tick_s)
        self._queues[place.kind].put(connection, place.tick)
        return wait

    def _due(self, now: float) -> Iterator[Waiting]:
        for queue in self._queues.values():
            last = int((now - queue.bound_s) / self._tick_s) - 1  # a tick later: waits of its bucket began until its end
            while (tick := queue.first_tick()) is not None and tick <= last:
                yield from list(queue.buckets[tick])

    def _check(self, loop: asyncio.AbstractEventLoop) -> None:
        """Close the connections that have waited too long."""
        self._timer = loop.call_later(self._tick_s, self._check, loop)
        now = loop.time()
        for connection in self._due(now):
            place = self._places.get(connection)
            if place is None:
                continue
            wait = self._move(connection, place, now)
            if place.leaving:  # its client takes nothing of what is left to send
                connection.evict()
            elif wait is not None and wait.since + self._queues[wait.kind].bound_s <= now:
                self._close(connection, wait.kind, now)
                connection.time_out(wait.kind)

    def _close(self, connection: Waiting, reason: str, now: float) -> None:
        self.leave(connection, reason)
        self._move(connection, self._places[connection], now)
