"""What is remembered of sessions: read back as it was written, by a real Redis, or not at all, and said so."""

import asyncio

import pytest

from serving.engines.memory import Memory
from serving.errors import StoreUnavailableError
from serving.stores.sessions import Sessions
from tests.serving.stores import real_redis


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    with real_redis(tmp_path_factory.mktemp("home")) as url:
        yield url


MEMORY = Memory("session", lambda request: "s", lambda request: True, lambda request, content: request, lambda *_: [], keep_s=60)


async def test_what_is_written_is_read_and_forgotten_in_time(url):
    sessions = Sessions(url, 5.0)
    try:
        assert await sessions.read(MEMORY, "nobody") is None
        await asyncio.gather(*(sessions.write(MEMORY, f"s-{number}", b"%d" % number) for number in range(200)))
        assert await sessions.read(MEMORY, "s-150") == b"150"
        await sessions.write(MEMORY, "s-150", b"\x00new")
        assert await sessions.read(MEMORY, "s-150") == b"\x00new"
        assert 50_000 < await sessions.link.redis.pttl("revenue-engine:sessions:1:session:s-150") <= 60_000
    finally:
        await sessions.aclose()


async def test_where_redis_is_not_there_whoever_waits_is_told():
    sessions = Sessions("redis://127.0.0.1:1/0", 0.2)
    try:
        for call in (sessions.write(MEMORY, "s", b"x"), sessions.read(MEMORY, "s")):
            with pytest.raises(StoreUnavailableError):
                await call
    finally:
        await sessions.aclose()
