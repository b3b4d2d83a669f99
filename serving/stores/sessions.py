"""What is remembered of entities from one request to the next, in Redis: bytes that an engine has written, for an engine to read.

A write is answered: whoever is told that something is remembered can count on it. Writes that wait together travel in one pipeline.
"""

import asyncio
import time
from collections.abc import Callable
from typing import NamedTuple

from serving.engines.session_memory import SessionMemory
from serving.errors import StoreUnavailableError
from serving.scoring.futures import tell
from serving.stores.link import PATIENCE_S, Link

_NAMESPACE = b"revenue-engine:sessions:1:"
_BATCH = 64
_MAX_UNWRITTEN = 4096


class _Write(NamedTuple):
    key: bytes
    value: bytes
    keep_ms: int
    reply: "asyncio.Future[None]"


class Sessions:
    """What is remembered in the Redis at `url`. Nothing but StoreUnavailableError comes of what Redis does."""

    def __init__(self, url: str, timeout_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.link = Link(url, timeout_s, "features.redis_url", clock)
        self._unwritten: list[_Write] = []

    def read(self, memory: SessionMemory, entity: str) -> "asyncio.Future[bytes | None]":
        """Return what is remembered of an entity, None where nothing is; it raises StoreUnavailableError where Redis does not say."""
        return self.link.read(_key(memory, entity), bytes)

    def write(self, memory: SessionMemory, entity: str, value: bytes) -> "asyncio.Future[None]":
        """Remember this of an entity, instead of what was; the future raises StoreUnavailableError where Redis does not take it."""
        reply: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if len(self._unwritten) >= _MAX_UNWRITTEN or not self.link.ready():
            tell(reply, _unavailable())
            return reply
        self._unwritten.append(_Write(_key(memory, entity), value, int(memory.keep_s * 1000), reply))
        self.link.run("write", self._write)
        return reply

    async def aclose(self) -> None:
        """Close every connection; who waits for a write is told."""
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
                if await self.link.ask(pipeline.execute(), PATIENCE_S) is None:
                    self.link.breaker.failed()
                    return
                for one in batch:
                    tell(one.reply, None)
                batch = []
        finally:  # who queued behind a call that failed does not wait for another
            left, self._unwritten = batch + self._unwritten, []
            _fail(left)


def _key(memory: SessionMemory, entity: str) -> bytes:
    return b"%b%b:%b" % (_NAMESPACE, memory.kind.encode(), entity.encode())


def _fail(batch: list[_Write]) -> None:
    for one in batch:
        tell(one.reply, _unavailable())


def _unavailable() -> StoreUnavailableError:
    return StoreUnavailableError("sessions cannot be remembered now; try again, or send the whole session without remember")
