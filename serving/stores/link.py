"""A line to a Redis that nobody waits for once it has failed.

Calls that wait together travel together: one coroutine asks for all keys wanted since the last reply in one MGET. So a connection does, and
a list of a thousand requests costs a few round trips.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, NamedTuple, TypeVar

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from serving.errors import SettingsError, StoreUnavailableError
from serving.scoring.futures import tell
from serving.stores.breaker import Breaker

PATIENCE_S = 1.0  # for what no request waits for: writes, and a probe that must connect first
MAX_WAITING = 4096  # reads that may wait; one more is not tried
_BATCH = 64  # keys in one MGET
_CONNECTIONS = 4  # one reads, one writes, one probes, one spare

T = TypeVar("T")


class _Wanted(NamedTuple):
    key: bytes
    unpack: Callable[[bytes], Any]
    reply: "asyncio.Future[Any]"
    since: float


class Link:
    """The Redis at `url` (redis://, rediss:// or unix://), named `setting` in the settings.

    A read takes at most `timeout_s`, and waits at most as long again for the reads before it. `errors` counts failed round trips, `dropped`
    the calls not even tried.
    """

    def __init__(self, url: str, timeout_s: float, setting: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.timeout_s = timeout_s
        self.errors = 0
        self.dropped = 0
        self.breaker = Breaker(clock)
        self.redis = _connect(url, setting)
        self._clock = clock
        self._wanted: list[_Wanted] = []
        self._closed = False
        self._lanes: dict[str, asyncio.Task[None]] = {}

    def read(self, key: bytes, unpack: Callable[[bytes], Any]) -> "asyncio.Future[Any]":
        """Return what `unpack` makes of the value to come, None where there is none; it must not raise.

        The future raises StoreUnavailableError where Redis does not say so in time.
        """
        reply: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if len(self._wanted) >= MAX_WAITING or not self.ready():
            self.dropped += 1
            tell(reply, _unavailable())
            return reply
        self._wanted.append(_Wanted(key, unpack, reply, self._clock()))
        self.run("read", self._read)
        return reply

    def ready(self) -> bool:
        """Return whether to call at all; where it is time for a probe, one is begun."""
        if self._closed:
            return False
        if self.breaker.due():
            self.run("probe", self._probe)
        return not self.breaker.is_open

    def run(self, name: str, lane: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Have a lane work off what waits in it, unless it does already."""
        if name not in self._lanes or self._lanes[name].done():
            self._lanes[name] = asyncio.get_running_loop().create_task(lane(), name=f"redis-{name}")

    async def ask(self, call: Awaitable[T], limit_s: float) -> T | None:
        """Return what a call returns, None where it fails or takes too long."""
        try:
            async with asyncio.timeout(limit_s):
                return await call
        except Exception:  # whatever the client raises, the store did not answer
            self.errors += 1
            return None

    async def settle(self) -> None:
        """Return when nothing is under way any more: no write, no probe."""
        while lanes := [lane for lane in self._lanes.values() if not lane.done()]:
            await asyncio.gather(*lanes)

    async def reach(self) -> bool:
        """Connect, however long that takes within a second, then return whether a round trip fits into the timeout."""
        for limit_s in (PATIENCE_S, self.timeout_s):
            if await self.ask(self.redis.ping(), limit_s) is None:
                return False
        return True

    async def aclose(self) -> None:
        """Give up what is under way and close every connection."""
        self._closed = True
        lanes = list(self._lanes.values())
        for lane in lanes:
            lane.cancel()
        await asyncio.gather(*lanes, return_exceptions=True)
        _fail(self._wanted)  # a lane that was cancelled before its first step has told nobody
        await self.redis.aclose()

    async def _read(self) -> None:
        batch: list[_Wanted] = []
        try:
            while self._wanted:
                batch, self._wanted = self._wanted[:_BATCH], self._wanted[_BATCH:]
                if self._clock() - batch[0].since > self.timeout_s:  # it waited for others as long as it may for Redis
                    self.dropped += len(batch)
                    _fail(batch)
                    continue
                found = await self.ask(self._find([one.key for one in batch]), self.timeout_s)
                if found is None:
                    self.breaker.failed()
                    return
                self.breaker.answered()
                for one, value in zip(batch, found, strict=True):
                    tell(one.reply, None if value is None else one.unpack(value))
        finally:  # who queued behind a call that failed does not wait for another
            left, self._wanted = batch + self._wanted, []
            _fail(left)

    async def _find(self, keys: list[bytes]) -> list[bytes | None]:
        found = await self.redis.mget(keys)
        if len(found) != len(keys):
            raise ValueError(f"{len(found)} values for {len(keys)} keys")
        return [value.encode() if isinstance(value, str) else value for value in found]

    async def _probe(self) -> None:
        if await self.reach():
            self.breaker.close()
        else:
            self.breaker.open()


def _connect(url: str, setting: str) -> Redis:
    try:
        # No retries, no handshake beyond what the url asks for: the breaker decides when to call again.
        return Redis.from_url(
            url,
            max_connections=_CONNECTIONS,
            socket_timeout=None,
            socket_connect_timeout=PATIENCE_S,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
            driver_info=None,
        )
    except ValueError as error:
        raise SettingsError(f"{setting}: {error} (got {url.split('@')[-1]!r})") from error


def _fail(batch: list[_Wanted]) -> None:
    for one in batch:
        tell(one.reply, _unavailable())  # unless it was told already, or whoever asked has gone


def _unavailable() -> StoreUnavailableError:
    return StoreUnavailableError("the store does not answer in time; try again")
