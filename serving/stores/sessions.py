"""What engines remember of entities from one request to the next, in Redis: bytes that an engine writes and reads.

A write is acknowledged before the request is answered. Writes that wait together are sent in one pipeline.
Key: `revenue-engine:sessions:1:TENANT:KIND:ENTITY`; TENANT is percent-encoded, KIND is `SessionMemory.kind`.
"""

import asyncio
import functools
import time
from collections.abc import Callable
from typing import NamedTuple

from serving.auth.principals import tenant_key
from serving.engines.session_memory import SessionMemory
from serving.errors import StoreUnavailableError
from serving.scoring.futures import resolve
from serving.stores.link import BACKGROUND_TIMEOUT_S, Link

_NAMESPACE = b"revenue-engine:sessions:1:"
_BATCH = 64
_MAX_UNWRITTEN = 4096


class _Write(NamedTuple):
    key: bytes
    value: bytes
    keep_ms: int
    reply: "asyncio.Future[None]"


class Sessions:
    """The session memory in the Redis at `url`. Whatever Redis does, no error but StoreUnavailableError is raised."""

    def __init__(self, url: str, timeout_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.link = Link(url, timeout_s, "features.redis_url", clock)
        self._unwritten: list[_Write] = []

    def read(self, tenant: str, memory: SessionMemory, entity: str) -> "asyncio.Future[bytes | None]":
        """Return what is remembered of a tenant's entity, or None; the future raises StoreUnavailableError where Redis does not answer."""
        return self.link.read(_key(tenant, memory, entity), bytes)

    def write(self, tenant: str, memory: SessionMemory, entity: str, value: bytes) -> "asyncio.Future[None]":
        """Replace what is remembered of a tenant's entity; the future raises StoreUnavailableError where Redis does not take it."""
        reply: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if len(self._unwritten) >= _MAX_UNWRITTEN or not self.link.ready():
            resolve(reply, _unavailable())
            return reply
        self._unwritten.append(_Write(_key(tenant, memory, entity), value, int(memory.keep_s * 1000), reply))
        self.link.run("write", self._write)
        return reply

    async def aclose(self) -> None:
        """Close every connection; writes that wait fail with StoreUnavailableError."""
        await self.link.aclose()
        left, self._unwritten = self._unwritten, []
        _fail(left)

    async def _write(self) -> None:
        batch: list[_Write] = []
        try:
            while self._unwritten:
                batch, self._unwritten = self._unwritten[:_BATCH], self._unwritten[_BATCH:]
                pipeline = self.link.redis.pipeline(transaction=False)
                for one in batch:
                    pipeline.set(one.key, one.value, px=one.keep_ms)
                if await self.link.call(pipeline.execute(), BACKGROUND_TIMEOUT_S) is None:
                    self.link.breaker.failed()
                    return
                for one in batch:
                    resolve(one.reply, None)
                batch = []
        finally:  # what waits behind a failed call fails with it
            left, self._unwritten = batch + self._unwritten, []
            _fail(left)


def _key(tenant: str, memory: SessionMemory, entity: str) -> bytes:
    return _prefix(tenant, memory.kind) + entity.encode()


@functools.lru_cache(maxsize=4096)
def _prefix(tenant: str, kind: str) -> bytes:
    return b"%b%b:%b:" % (_NAMESPACE, tenant_key(tenant), kind.encode())


def _fail(batch: list[_Write]) -> None:
    for one in batch:
        resolve(one.reply, _unavailable())


def _unavailable() -> StoreUnavailableError:
    return StoreUnavailableError("the session store does not answer in time; try again, or send the whole session without remember")
