"""One computation for all who ask the same at once, and its answer for all who ask within its time to live.

In process first (`LruCache`), then, for an engine slower than Redis, the store that replicas share (`Shared`), then the computation. Expiry
is absolute and travels with the answer: a copy of a copy is never older than `ttl_s`. All of it belongs to one event loop.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import msgspec
import numpy as np
import xxhash

from serving.errors import DeadlineExceededError
from serving.scoring.cache.lru import Entry, LruCache
from serving.scoring.cache.redis import Shared, measure_shared, shared_pays

__all__ = ["Cache", "Cached", "Entry", "LruCache", "Shared", "key", "measure_shared", "shared_pays"]

State = Literal["hit", "hit-shared", "miss", "joined", "stale"]
Compute = Callable[[], Awaitable[bytes]]
_Task = asyncio.Task[tuple[Entry, State]]

_SKEW_S = 1.0  # how far another node's clock may run ahead; an answer from further off says nothing true about its age
_JOINS = 2  # flights that a caller sits through before it computes for itself

_encoder = msgspec.msgpack.Encoder(order="deterministic", enc_hook=np.ndarray.tobytes)


class Cached(NamedTuple):
    """An answer, how it was come by, and how many seconds ago it was computed."""

    value: bytes
    state: State
    age_s: float


@dataclass(slots=True, eq=False)
class _Flight:
    """A computation under way, and how many wait for it."""

    task: _Task
    waiters: int = 0


class Cache:
    """Answers by key: from memory, from the shared store, from a computation under way, or computed now.

    `hits`, `shared_hits`, `misses` (computations begun) and `joined` count; `saved_s` sums the seconds of computing that were not needed.
    """

    def __init__(self, memory: LruCache, shared: Shared | None, ttl_s: float, clock: Callable[[], float] = time.time) -> None:
        self.memory = memory
        self.shared = shared
        self.ttl_s = ttl_s
        self.hits = self.shared_hits = self.misses = self.joined = 0
        self.saved_s = 0.0
        self._clock = clock
        self._flights: dict[bytes, _Flight] = {}
        self._leaving: set[_Task] = set()

    @property
    def evictions(self) -> int:
        """Entries that made room for others in memory."""
        return self.memory.evictions

    @property
    def errors(self) -> int:
        """What went wrong with the shared store."""
        return self.shared.errors if self.shared is not None else 0

    def peek(self, key: bytes) -> Cached | None:
        """Return the answer for `key` if this process has it."""
        now = self._clock()
        entry = self.memory.get(key, now)
        if entry is None:
            return None
        self.hits += 1
        self.saved_s += entry.cost_s
        return Cached(entry.value, "hit", now - entry.computed_at)

    def stale(self, key: bytes) -> Cached | None:
        """Return the answer for `key` that this process has or had until a while ago (`LruCache.keep_s`), however old."""
        now = self._clock()
        entry = self.memory.stale(key, now)
        return None if entry is None else Cached(entry.value, "stale", now - entry.computed_at)

    async def get(self, key: bytes, compute: Compute, *, use_shared: bool) -> Cached:
        """Return the answer for `key`, by `compute` where nobody has it. What `compute` raises reaches all who wait and is never kept.

        A caller that is cancelled takes nothing from the others; when all are, so is the computation. A deadline that passed is the
        deadline of whoever started the computation: who only joined tries again.
        """
        if (hit := self.peek(key)) is not None:
            return hit
        for _ in range(_JOINS):
            flight = self._flights.get(key)
            if flight is None:
                return self._told(*await self._wait(key, self._start(key, compute, use_shared)))
            joined = await self._join(key, flight)
            if joined is not None:
                return joined
        return self._told(*await self._find(key, compute, use_shared))

    async def aclose(self) -> None:
        """Cancel what is being computed and close the shared store."""
        tasks = [flight.task for flight in self._flights.values()]
        self._flights.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, *self._leaving, return_exceptions=True)
        if self.shared is not None:
            await self.shared.aclose()

    def _told(self, entry: Entry, state: State) -> Cached:
        age_s = self._clock() - entry.computed_at if state == "hit-shared" else 0.0
        return Cached(entry.value, state, max(0.0, age_s))

    def _start(self, key: bytes, compute: Compute, use_shared: bool) -> _Flight:
        """Begin a flight in a task of its own: whoever asked first may go away without taking the others' answer along."""
        flight = _Flight(asyncio.get_running_loop().create_task(self._fly(key, compute, use_shared)))
        self._flights[key] = flight
        return flight

    async def _fly(self, key: bytes, compute: Compute, use_shared: bool) -> tuple[Entry, State]:
        try:
            return await self._find(key, compute, use_shared)
        finally:  # in the same step as the answer is kept: nobody can find neither, and nobody can join a failure
            self._land(key, asyncio.current_task())

    def _land(self, key: bytes, task: _Task | None) -> None:
        flight = self._flights.get(key)
        if flight is not None and flight.task is task:
            del self._flights[key]

    async def _wait(self, key: bytes, flight: _Flight) -> tuple[Entry, State]:
        flight.waiters += 1
        try:
            return await asyncio.shield(flight.task)
        finally:
            flight.waiters -= 1
            if not flight.waiters and not flight.task.done():
                self._land(key, flight.task)
                self._abandon(flight.task)

    def _abandon(self, task: _Task) -> None:
        """Cancel `task`, and hold on to it until it has gone: the loop would not, and nobody is left to hear what it raises on its way."""
        self._leaving.add(task)
        task.add_done_callback(self._left)
        task.cancel()

    def _left(self, task: _Task) -> None:
        self._leaving.discard(task)
        if not task.cancelled():
            task.exception()

    async def _join(self, key: bytes, flight: _Flight) -> Cached | None:
        """Return the answer of a flight that another began, or None when only that other's deadline or cancellation ended it."""
        try:
            entry, _ = await self._wait(key, flight)
        except DeadlineExceededError:
            return None
        except asyncio.CancelledError:
            me = asyncio.current_task()
            if flight.task.cancelled() and me is not None and not me.cancelling():
                return None
            raise
        self.joined += 1
        self.saved_s += entry.cost_s
        return Cached(entry.value, "joined", 0.0)

    async def _find(self, key: bytes, compute: Compute, use_shared: bool) -> tuple[Entry, State]:
        shared = self.shared if use_shared else None
        entry = await self._look(shared, key) if shared is not None else None
        if entry is not None:
            return entry, "hit-shared"
        self.misses += 1
        began, start = self._clock(), time.perf_counter()
        value = await compute()
        # What went into the answer was read when it began, so its life counts from there.
        entry = Entry(value, began, began + self.ttl_s, time.perf_counter() - start)
        now = self._clock()
        self.memory.put(key, entry, now)
        if shared is not None:
            shared.put(key, entry, now)
        return entry, "miss"

    async def _look(self, shared: Shared, key: bytes) -> Entry | None:
        """Return the shared entry as this clock sees it (another node's may run ahead a little), kept in memory until its own expiry."""
        found = await shared.get(key)
        if found is None:
            return None
        now = self._clock()
        if found.computed_at > now + _SKEW_S:
            return None
        entry = found._replace(computed_at=min(found.computed_at, now), expires_at=min(found.expires_at, now + self.ttl_s))
        if not entry.fresh(now):
            return None
        self.shared_hits += 1
        self.saved_s += entry.cost_s
        self.memory.put(key, entry, now)
        return entry


def key(engine: str, version: str, request: msgspec.Struct) -> bytes:
    """Return the key of an answer: engine, model version and 128 bits of hash over the decoded request, where null equals absent."""
    return b"%s:%s:%s" % (engine.encode(), version.encode(), xxhash.xxh3_128_digest(_encoded(request)))


def _encoded(request: msgspec.Struct) -> bytes:
    try:
        return _encoder.encode(request)
    except OverflowError:  # MessagePack ends at 64 bits, a JSON integer does not
        return msgspec.json.encode(request, order="deterministic", enc_hook=np.ndarray.tobytes)
