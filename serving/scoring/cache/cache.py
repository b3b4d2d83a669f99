"""Answers by key: from this process's memory, from the cache that replicas share, or from a computation under way.

`find` returns an answer that is kept, or the `Flight` of one that is being computed, or None. On None the caller opens a flight, computes,
and lands the answer; callers that find the flight meanwhile join it, so identical concurrent requests cost one computation. Expiry is
absolute and travels with the answer: a copy of a copy is never older than `ttl_s`. All of it belongs to one event loop.
"""

import asyncio
import time
from collections.abc import Callable

from serving.errors import NotReadyError
from serving.scoring.answer import Answer, Cancel
from serving.scoring.cache.flight import Flight
from serving.scoring.cache.lru import Entry, LruCache
from serving.scoring.cache.redis import SharedCache

MAX_CLOCK_SKEW_S = 1.0  # how far another node's clock may run ahead; an entry from further ahead has no usable age


class Cache:
    """Answers in `memory`, behind it those in `shared`, and the flights of those under way. `clock`: seconds since the epoch.

    `hits`, `shared_hits`, `misses` (computations begun) and `joined` count; `saved_s` sums the seconds of computing that were not needed.
    """

    def __init__(self, memory: LruCache, shared: SharedCache | None, ttl_s: float, clock: Callable[[], float] = time.time) -> None:
        self.memory = memory
        self.shared = shared
        self.ttl_s = ttl_s
        self.clock = clock
        self.hits = self.shared_hits = self.misses = self.joined = 0
        self.saved_s = 0.0
        self._flights: dict[bytes, Flight] = {}

    @property
    def evictions(self) -> int:
        """Entries that made room for others in memory."""
        return self.memory.evictions

    @property
    def errors(self) -> int:
        """Failed calls of the shared cache, and corrupt entries in it."""
        return self.shared.errors if self.shared is not None else 0

    def find(self, key: bytes) -> Answer | Flight | None:
        """Return the answer that this process has, else the flight of one that is being computed, else None."""
        now = self.clock()
        entry = self.memory.get(key, now)
        if entry is None:
            return self._flights.get(key)
        self.hits += 1
        self.saved_s += entry.cost_s
        return Answer(entry.value, "hit", now - entry.computed_at)

    def open(self, key: bytes, cancel: Cancel | None = None) -> Flight:
        """Return a flight that others find from now on, unless they find an earlier one.

        `cancel` ends the computation if it has begun; otherwise call `Flight.look` or `Flight.start` next.
        """
        flight = Flight(self, key)
        self._flights.setdefault(key, flight)
        if cancel is not None:
            flight.start(cancel)
        return flight

    def stale(self, key: bytes) -> Answer | None:
        """Return the answer that this process has or had until a while ago (`LruCache.keep_s`), however old; its body is as it was kept."""
        now = self.clock()
        entry = self.memory.stale(key, now)
        return None if entry is None else Answer(entry.value, "stale", now - entry.computed_at, degradation="stale")

    async def aclose(self) -> None:
        """End every flight with NotReadyError and close the shared cache."""
        for flight in list(self._flights.values()):
            flight.cancel()
            flight.fail(NotReadyError("the server is stopping"))
        if self.shared is not None:
            await self.shared.aclose()

    def look(self, key: bytes) -> "asyncio.Future[Entry | None]":
        """Return the shared cache's entry to come; the future raises StoreUnavailableError."""
        assert self.shared is not None, "a look into a shared cache that is not there; this is a bug"
        return self.shared.read(key)

    def adopt(self, key: bytes, found: Entry | Exception | None) -> Entry | None:
        """Return an entry of the shared cache as this clock sees it, kept in memory until its own expiry; None where it is of no use.

        Another node's clock may run ahead by MAX_CLOCK_SKEW_S.
        """
        now = self.clock()
        if found is None or isinstance(found, Exception) or found.computed_at > now + MAX_CLOCK_SKEW_S:
            return None
        entry = found._replace(computed_at=min(found.computed_at, now), expires_at=min(found.expires_at, now + self.ttl_s))
        if not entry.fresh(now):
            return None
        self.shared_hits += 1
        self.saved_s += entry.cost_s
        self.memory.put(key, entry, now)
        return entry

    def keep(self, flight: Flight, entry: Entry) -> None:
        """Keep a computed answer in memory, and in the shared cache where the flight has looked there."""
        now = self.clock()
        self.memory.put(flight.key, entry, now)
        if flight.shared and self.shared is not None:
            self.shared.put(flight.key, entry, now)

    def note_joined(self, callers: int, cost_s: float) -> None:
        """Count callers that got an answer which was computed once for all of them."""
        self.joined += callers
        self.saved_s += callers * cost_s

    def forget(self, flight: Flight) -> None:
        """Remove `flight`, so that `find` no longer returns it."""
        if self._flights.get(flight.key) is flight:
            del self._flights[flight.key]
