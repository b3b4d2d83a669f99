"""The answers that replicas share, in Redis: a store whose every failure is a miss and that nobody waits for once it has failed.

Calls that wait together travel together: one coroutine asks for all keys wanted since the last reply in one MGET, another sends the
writes of the meantime in one pipeline. So two connections do, and a list of a thousand requests costs a few round trips.
"""

import asyncio
import math
import statistics
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Literal, NamedTuple, TypeVar

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from serving.answers import Entry
from serving.errors import SettingsError

_NAMESPACE = b"revenue-engine:answers:1:"  # the number is that of Entry's layout
_BATCH = 64  # keys in one MGET, entries in one pipeline
_MAX_WAITING = 4096  # reads, and writes, that may wait; one more is not tried
_MAX_UNWRITTEN_BYTES = 8 * 1024 * 1024
_CONNECTIONS = 4  # one reads, one writes, one probes, one spare
_PATIENCE_S = 1.0  # for what no request waits for: writes, and a probe that must connect first

T = TypeVar("T")


class _Wanted(NamedTuple):
    key: bytes
    reply: "asyncio.Future[bytes | None]"
    since: float


class Breaker:
    """Whether to call at all. It opens when failures outweigh answers, and lets one probe through after a back-off that doubles."""

    LIMIT = 5.0  # failures in a row that open it
    LEAK = 0.1  # what an answer takes off: more than one failure in ten calls opens it in the end, so flapping does too
    FIRST_S, LONGEST_S = 0.5, 10.0

    def __init__(self, clock: Callable[[], float]) -> None:
        self.opened = 0
        self.is_open = False
        self._clock = clock
        self._level = 0.0
        self._backoff_s = self.FIRST_S
        self._retry_at = 0.0

    def answered(self) -> None:
        """Note that a call was answered in time."""
        self._level = max(0.0, self._level - self.LEAK)
        if self._level == 0.0:
            self._backoff_s = self.FIRST_S

    def failed(self) -> None:
        """Note that a call was not answered in time, and open when that is one too many."""
        self._level += 1.0
        if not self.is_open and self._level >= self.LIMIT:
            self.open()

    def open(self) -> None:
        """Let nothing through until the back-off is over; the next one is twice as long."""
        self.opened += not self.is_open
        self.is_open = True
        self._retry_at = self._clock() + self._backoff_s
        self._backoff_s = min(2 * self._backoff_s, self.LONGEST_S)

    def close(self) -> None:
        """Let calls through again, on probation: one failure opens it."""
        self.is_open = False
        self._level = self.LIMIT - 1.0

    def due(self) -> bool:
        """Return whether it is open and the time for a probe has come."""
        return self.is_open and self._clock() >= self._retry_at


class Shared:
    """Entries in the Redis at `url` (redis://, rediss:// or unix://). No method raises for what Redis does.

    A call takes at most `timeout_s`, and waits at most as long again for the calls before it. `errors` counts failed round trips and
    entries that are not what was written; `dropped` the reads and writes not even tried.
    """

    def __init__(self, url: str, timeout_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.timeout_s = timeout_s
        self.errors = 0
        self.dropped = 0
        self.breaker = Breaker(clock)
        self._redis = _connect(url)
        self._clock = clock
        self._wanted: list[_Wanted] = []
        self._unwritten: list[tuple[bytes, Entry, int]] = []
        self._unwritten_bytes = 0
        self._closed = False
        self._lanes: dict[str, asyncio.Task[None]] = {}

    async def get(self, key: bytes) -> Entry | None:
        """Return the entry as it was put, its times untouched; None when there is none or Redis does not say so in time."""
        if len(self._wanted) >= _MAX_WAITING or not self._ready():
            self.dropped += 1
            return None
        reply: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
        self._wanted.append(_Wanted(key, reply, self._clock()))
        self._run("read", self._read)
        packed = await reply
        entry = Entry.unpack(key, packed) if packed is not None else None
        self.errors += entry is None and packed is not None
        return entry

    def put(self, key: bytes, entry: Entry, now: float) -> None:
        """Have the entry written when the connection is free, to be gone when it expires; it returns at once and may drop it."""
        left_ms = int((entry.expires_at - now) * 1000)
        if left_ms <= 0:
            return
        size = len(key) + len(entry.value)
        if len(self._unwritten) >= _MAX_WAITING or self._unwritten_bytes + size > _MAX_UNWRITTEN_BYTES or not self._ready():
            self.dropped += 1
            return
        self._unwritten.append((key, entry, left_ms))
        self._unwritten_bytes += size
        self._run("write", self._write)

    async def settle(self) -> None:
        """Return when nothing is under way any more: no write, no probe."""
        while lanes := [lane for lane in self._lanes.values() if not lane.done()]:
            await asyncio.gather(*lanes)

    async def reach(self) -> bool:
        """Connect, however long that takes within a second, then return whether a round trip fits into the timeout."""
        for limit_s in (_PATIENCE_S, self.timeout_s):
            if await self._ask(self._redis.ping(), limit_s) is None:
                return False
        return True

    async def aclose(self) -> None:
        """Give up what is under way and close every connection."""
        self._closed = True
        lanes = list(self._lanes.values())
        for lane in lanes:
            lane.cancel()
        await asyncio.gather(*lanes, return_exceptions=True)
        _answer(self._wanted, [None] * len(self._wanted))  # a lane that was cancelled before its first step has told nobody
        await self._redis.aclose()

    def _ready(self) -> bool:
        if self._closed:
            return False
        if self.breaker.due():
            self._run("probe", self._probe)
        return not self.breaker.is_open

    def _run(self, name: str, lane: Callable[[], Coroutine[Any, Any, None]]) -> None:
        if name not in self._lanes or self._lanes[name].done():
            self._lanes[name] = asyncio.get_running_loop().create_task(lane(), name=f"cache-{name}")

    async def _ask(self, call: Awaitable[T], limit_s: float) -> T | None:
        try:
            async with asyncio.timeout(limit_s):
                return await call
        except Exception:  # whatever the client raises, the store did not answer, and an answer can be computed without it
            self.errors += 1
            return None

    async def _read(self) -> None:
        batch: list[_Wanted] = []
        try:
            while self._wanted:
                batch, self._wanted = self._wanted[:_BATCH], self._wanted[_BATCH:]
                if self._clock() - batch[0].since > self.timeout_s:  # it waited for others as long as it may for Redis
                    self.dropped += len(batch)
                    _answer(batch, [None] * len(batch))
                    continue
                found = await self._ask(self._find([one.key for one in batch]), self.timeout_s)
                if found is None:
                    self.breaker.failed()
                    return
                self.breaker.answered()
                _answer(batch, found)
        finally:  # who queued behind a call that failed does not wait for another
            left, self._wanted = batch + self._wanted, []
            _answer(left, [None] * len(left))

    async def _find(self, keys: list[bytes]) -> list[bytes | None]:
        found = await self._redis.mget([_NAMESPACE + key for key in keys])
        if len(found) != len(keys):
            raise ValueError(f"{len(found)} values for {len(keys)} keys")
        return [packed.encode() if isinstance(packed, str) else packed for packed in found]

    async def _write(self) -> None:
        while self._unwritten:
            batch, self._unwritten = self._unwritten[:_BATCH], self._unwritten[_BATCH:]
            self._unwritten_bytes -= sum(len(key) + len(entry.value) for key, entry, _ in batch)
            if self.breaker.is_open:
                self.dropped += len(batch)
                continue
            pipeline = self._redis.pipeline(transaction=False)
            for key, entry, left_ms in batch:
                pipeline.set(_NAMESPACE + key, entry.pack(key), px=left_ms)
            replies = await self._ask(pipeline.execute(raise_on_error=False), _PATIENCE_S)
            self.errors += sum(isinstance(reply, Exception) for reply in replies or ())

    async def _probe(self) -> None:
        if await self.reach():
            self.breaker.close()
        else:
            self.breaker.open()


def _connect(url: str) -> Redis:
    try:
        # No retries, no handshake beyond what the url asks for: the breaker decides when to call again.
        return Redis.from_url(
            url,
            max_connections=_CONNECTIONS,
            socket_timeout=None,
            socket_connect_timeout=_PATIENCE_S,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
            driver_info=None,
        )
    except ValueError as error:
        raise SettingsError(f"cache.redis_url: {error} (got {url.split('@')[-1]!r})") from error


def _answer(batch: list[_Wanted], found: list[bytes | None]) -> None:
    for one, packed in zip(batch, found, strict=True):
        if not one.reply.done():  # whoever asked may have gone
            one.reply.set_result(packed)


async def measure_shared(shared: Shared, calls: int = 32) -> float:
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
    """Return whether an engine that computes an answer in `compute_s` seconds should ask Redis first, as `settings.cache.shared` has it."""
    return {"always": True, "never": False, "auto": compute_s > round_trip_s}[policy]
