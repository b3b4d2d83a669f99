"""The answers that replicas share, in Redis: every failure is a miss, and after a few failures no request waits for it.

Writes that queue while one pipeline is under way are sent together in the next.
Key: `revenue-engine:answers:1:` and the key of `serving/scoring/cache/key.py`.
"""

import asyncio
import functools
import math
import statistics
import time
from collections.abc import Callable
from typing import Literal

from serving.errors import StoreUnavailableError
from serving.scoring.cache.lru import Entry
from serving.stores.breaker import Breaker
from serving.stores.link import BACKGROUND_TIMEOUT_S, Link

_NAMESPACE = b"revenue-engine:answers:1:"  # the number is that of `Entry.pack`'s layout
_BATCH = 64  # entries in one pipeline
_MAX_UNWRITTEN = 4096
_MAX_UNWRITTEN_BYTES = 8 * 1024 * 1024


class SharedCache:
    """Entries in the Redis at `url` (redis://, rediss:// or unix://). No method but `read` raises where Redis fails.

    `errors` counts failed round trips and corrupt entries; `dropped` the reads and writes that were not tried.
    """

    def __init__(self, url: str, timeout_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._link = Link(url, timeout_s, "cache.redis_url", clock)
        self._corrupt = self._untried = self._failed = 0
        self._unwritten: list[tuple[bytes, Entry, int]] = []
        self._unwritten_bytes = 0

    @property
    def errors(self) -> int:
        """Failed round trips, failed writes and corrupt entries."""
        return self._link.errors + self._corrupt + self._failed

    @property
    def dropped(self) -> int:
        """Reads and writes that were not tried."""
        return self._link.dropped + self._untried

    @property
    def breaker(self) -> Breaker:
        """The breaker, which decides whether Redis is called."""
        return self._link.breaker

    def read(self, key: bytes) -> "asyncio.Future[Entry | None]":
        """Return the entry to come as it was put, its times untouched; the future raises StoreUnavailableError."""
        return self._link.read(_NAMESPACE + key, functools.partial(self._unpacked, key))

    async def get(self, key: bytes) -> Entry | None:
        """Return the entry as it was put, its times untouched; None when there is none or Redis does not answer in time."""
        try:
            return await self.read(key)
        except StoreUnavailableError:
            return None

    def put(self, key: bytes, entry: Entry, now: float) -> None:
        """Write the entry when the connection is free, with its expiry; return at once. It may be dropped."""
        left_ms = int((entry.expires_at - now) * 1000)
        if left_ms <= 0:
            return
        size = len(key) + len(entry.value)
        if len(self._unwritten) >= _MAX_UNWRITTEN or self._unwritten_bytes + size > _MAX_UNWRITTEN_BYTES or not self._link.ready():
            self._untried += 1
            return
        self._unwritten.append((key, entry, left_ms))
        self._unwritten_bytes += size
        self._link.run("write", self._write)

    async def settle(self) -> None:
        """Return when no write and no probe is under way any more."""
        await self._link.settle()

    async def reach(self) -> bool:
        """Connect, however long that takes within a second, then return whether a round trip fits into the timeout."""
        return await self._link.reach()

    async def aclose(self) -> None:
        """Cancel what is under way and close every connection."""
        await self._link.aclose()

    def _unpacked(self, key: bytes, packed: bytes) -> Entry | None:
        entry = Entry.unpack(key, packed)
        self._corrupt += entry is None
        return entry

    async def _write(self) -> None:
        while self._unwritten:
            batch, self._unwritten = self._unwritten[:_BATCH], self._unwritten[_BATCH:]
            self._unwritten_bytes -= sum(len(key) + len(entry.value) for key, entry, _ in batch)
            if self.breaker.is_open:
                self._untried += len(batch)
                continue
            pipeline = self._link.redis.pipeline(transaction=False)
            for key, entry, left_ms in batch:
                pipeline.set(_NAMESPACE + key, entry.pack(key), px=left_ms)
            replies = await self._link.call(pipeline.execute(raise_on_error=False), BACKGROUND_TIMEOUT_S)
            self._failed += sum(isinstance(reply, Exception) for reply in replies or ())


async def measure_shared(shared: SharedCache, calls: int = 32) -> float:
    """Return the median seconds of a GET of nothing, connection already open; infinity when one of them failed."""
    if not await shared.reach():
        return math.inf
    errors, times = shared.errors, []
    for _ in range(calls):
        start = time.perf_counter()
        await shared.get(b"measure")
        times.append(time.perf_counter() - start)
    return statistics.median(times) if shared.errors == errors and not shared.breaker.is_open else math.inf


def shared_pays(policy: Literal["auto", "always", "never"], round_trip_s: float, compute_s: float) -> bool:
    """Return whether an engine that computes an answer in `compute_s` should look into Redis first, by `settings.cache.shared`."""
    return {"always": True, "never": False, "auto": compute_s > round_trip_s}[policy]
