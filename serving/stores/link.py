"""The connection to a Redis that no request waits for once it has failed.

Reads that queue while one is under way are sent together: one coroutine reads all keys of the meantime in one MGET. So one connection is
enough, and a list of a thousand requests costs a few round trips.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, NamedTuple, TypeVar

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from serving.errors import SettingsError, StoreUnavailableError
from serving.scoring.futures import resolve
from serving.stores.breaker import Breaker

BACKGROUND_TIMEOUT_S = 1.0  # of calls that no request waits for: writes, and a probe that must connect first
MAX_QUEUED = 4096  # reads; one more is not tried
_BATCH = 64  # keys in one MGET
_CONNECTIONS = 4  # one reads, one writes, one probes, one in reserve

T = TypeVar("T")


class _Read(NamedTuple):
    key: bytes
    unpack: Callable[[bytes], Any]
    reply: "asyncio.Future[Any]"
    since: float


class Link:
    """The Redis at `url` (redis://, rediss:// or unix://), named `setting` in the settings.

    A read takes at most `timeout_s`, and waits at most as long again for the reads before it. `errors` counts failed round trips,
    `dropped` the calls that were not tried.
    """

    def __init__(self, url: str, timeout_s: float, setting: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.timeout_s = timeout_s
        self.errors = 0
        self.dropped = 0
        self.breaker = Breaker(clock)
        self.redis = _connect(url, setting)
        self._clock = clock
        self._queued: list[_Read] = []
        self._closed = False
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def read(self, key: bytes, unpack: Callable[[bytes], Any]) -> "asyncio.Future[Any]":
        """Return the value to come, as `unpack` decodes it, None where there is none; `unpack` must not raise.

        The future raises StoreUnavailableError where Redis does not answer in time.
        """
        reply: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if len(self._queued) >= MAX_QUEUED or not self.ready():
            self.dropped += 1
            resolve(reply, _unavailable())
            return reply
        self._queued.append(_Read(key, unpack, reply, self._clock()))
        self.run("read", self._read)
        return reply

    def ready(self) -> bool:
        """Return whether Redis may be called; start a probe where one is due."""
        if self._closed:
            return False
        if self.breaker.due():
            self.run("probe", self._probe)
        return not self.breaker.is_open

    def run(self, name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Start the task of a queue unless it runs already."""
        if name not in self._tasks or self._tasks[name].done():
            self._tasks[name] = asyncio.get_running_loop().create_task(work(), name=f"redis-{name}")

    async def call(self, command: Awaitable[T], limit_s: float) -> T | None:
        """Return the result of a command, None where it fails or takes longer than `limit_s`."""
        try:
            async with asyncio.timeout(limit_s):
                return await command
        except Exception:  # whatever the client raises, there is no answer
            self.errors += 1
            return None

    async def settle(self) -> None:
        """Return when no write and no probe is under way any more."""
        while tasks := [task for task in self._tasks.values() if not task.done()]:
            await asyncio.gather(*tasks)

    async def reach(self) -> bool:
        """Connect, however long that takes within a second, then return whether a round trip fits into the timeout."""
        for limit_s in (BACKGROUND_TIMEOUT_S, self.timeout_s):
            if await self.call(self.redis.ping(), limit_s) is None:
                return False
        return True

    async def aclose(self) -> None:
        """Cancel what is under way and close every connection."""
        self._closed = True
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        _fail(self._queued)  # a task that was cancelled before its first step has failed nothing
        await self.redis.aclose()

    async def _read(self) -> None:
        batch: list[_Read] = []
        try:
            while self._queued:
                batch, self._queued = self._queued[:_BATCH], self._queued[_BATCH:]
                if self._clock() - batch[0].since > self.timeout_s:  # it has queued for as long as it may wait for Redis
                    self.dropped += len(batch)
                    _fail(batch)
                    continue
                found = await self.call(self._find([one.key for one in batch]), self.timeout_s)
                if found is None:
                    self.breaker.failed()
                    return
                self.breaker.answered()
                for one, value in zip(batch, found, strict=True):
                    resolve(one.reply, None if value is None else one.unpack(value))
        finally:  # what is queued behind a failed call fails with it
            left, self._queued = batch + self._queued, []
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
        # No retries, no handshake beyond that of the url: the breaker decides when to call again.
        return Redis.from_url(
            url,
            max_connections=_CONNECTIONS,
            socket_timeout=None,
            socket_connect_timeout=BACKGROUND_TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
            driver_info=None,
        )
    except ValueError as error:
        raise SettingsError(f"{setting}: {error} (got {url.split('@')[-1]!r})") from error


def _fail(batch: list[_Read]) -> None:
    for one in batch:
        resolve(one.reply, _unavailable())


def _unavailable() -> StoreUnavailableError:
    return StoreUnavailableError("the store does not answer in time; try again")
