"""The shared cache in Redis: slow, down, intermittent or with corrupt replies, it changes no answer."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from redis import Redis

from serving.errors import SettingsError
from serving.runtime import processes
from serving.scoring.answer import Answer
from serving.scoring.cache.lru import Entry
from serving.scoring.cache.redis import SharedCache, measure_shared, shared_pays
from serving.stores.breaker import Breaker
from tests.contracts.cache import NOW, StoreContract, entry
from tests.serving.cache_fixtures import (
    TIMEOUT_S,
    TTL_S,
    Clock,
    Counted,
    FakeRedis,
    ask,
    loop_iterations,
    over,
    polite,
    run_valkey,
    written,
)


@pytest.fixture
async def shared(emptied: str) -> AsyncIterator[SharedCache]:
    store = SharedCache(emptied, TIMEOUT_S)
    yield store
    await store.aclose()


class _SharedStore:
    def __init__(self, shared: SharedCache) -> None:
        self.shared = shared

    async def put(self, key: bytes, entry: Entry) -> None:
        self.shared.put(key, entry, NOW)
        await self.shared.settle()

    async def get(self, key: bytes) -> Entry | None:
        return await self.shared.get(key)


class TestSharedIsAStore(StoreContract):
    @pytest.fixture
    def store(self, shared: SharedCache) -> _SharedStore:
        return _SharedStore(shared)


async def test_entries_expire_in_redis_with_the_answer(shared: SharedCache, emptied: str) -> None:
    shared.put(b"key", entry(b"x", left_s=7.0), NOW)
    await shared.settle()
    with Redis.from_url(emptied) as client:
        (name,) = client.keys("*")
        assert 0 < client.pttl(name) <= 7000


async def test_callers_that_wait_together_travel_together() -> None:
    async with FakeRedis(polite) as server:
        shared = SharedCache(server.url, 5.0)
        assert await asyncio.gather(*(shared.get(b"%d" % i) for i in range(1000))) == [None] * 1000
        assert server.commands.count(b"MGET") <= 1 + 1000 // 64
        assert (server.connections, shared.errors, shared.dropped) == (1, 0, 0)
        await shared.aclose()


async def test_a_read_does_not_queue_longer_than_it_may_wait() -> None:
    ticks = Clock(0.0)

    def reply(command: list[bytes]) -> bytes:
        ticks.now += 1.0
        return polite(command)

    async with FakeRedis(reply) as slow:
        shared = SharedCache(slow.url, 0.5, ticks)
        await asyncio.gather(*(shared.get(b"%d" % i) for i in range(640)))
        assert slow.commands.count(b"MGET") == 1
        assert (shared.dropped, shared.errors) == (640 - 64, 0)
        await shared.aclose()


async def test_reads_and_writes_that_wait_are_bounded() -> None:
    async with FakeRedis(lambda command: None) as silent:
        shared = SharedCache(silent.url, 5.0)
        for i in range(10_000):
            shared.put(b"%d" % i, entry(b"x"), NOW)
        assert shared.dropped == 10_000 - 4096
        reads = [asyncio.create_task(shared.get(b"%d" % i)) for i in range(10_000)]
        await loop_iterations()
        assert sum(read.done() for read in reads) == 10_000 - 4096
        await shared.aclose()
        assert await asyncio.gather(*reads) == [None] * 10_000


async def test_large_answers_that_wait_to_be_written_are_bounded_in_bytes() -> None:
    async with FakeRedis(lambda command: None) as silent:
        shared = SharedCache(silent.url, 5.0)
        for i in range(32):
            shared.put(b"%02d" % i, entry(bytes(1 << 20)), NOW)
        assert shared.dropped == 32 - 7
        await shared.aclose()


async def test_a_call_queued_behind_one_that_failed_does_not_wait_for_another() -> None:
    async with FakeRedis(lambda command: b"-ERR busy\r\n") as busy:
        shared = SharedCache(busy.url, 5.0, Clock(0.0))
        assert await asyncio.gather(*(shared.get(b"%d" % i) for i in range(640))) == [None] * 640
        assert (busy.commands.count(b"MGET"), shared.errors) == (1, 1)
        await shared.aclose()


async def test_closing_fails_calls_that_have_just_begun() -> None:
    async with FakeRedis(polite) as server:
        shared = SharedCache(server.url, TIMEOUT_S)
        asked = asyncio.create_task(shared.get(b"key"))
        await loop_iterations(1)
        await shared.aclose()
        await loop_iterations()
        assert asked.done()
        assert await asked is None


async def test_a_closed_store_is_a_miss_and_opens_no_connection() -> None:
    async with FakeRedis(polite) as server:
        shared = SharedCache(server.url, TIMEOUT_S)
        await shared.aclose()
        shared.put(b"key", entry(b"x"), NOW)
        assert await shared.get(b"key") is None
        assert server.connections == 0


def test_the_breaker_waits_twice_as_long_after_each_probe_that_fails_and_trusts_slowly() -> None:
    ticks = Clock(0.0)
    breaker = Breaker(ticks)
    for _ in range(int(Breaker.LIMIT) - 1):
        breaker.failed()
    assert breaker.opened == 0
    breaker.failed()
    waits: list[float] = []
    for _ in range(7):
        start = ticks.now
        assert breaker.is_open
        while not breaker.due():
            ticks.now += 0.25
        waits.append(ticks.now - start)
        breaker.open()
    assert waits == [0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0]
    breaker.close()
    breaker.failed()
    assert breaker.is_open  # on probation one failure is enough


def test_a_failure_among_many_answers_never_opens_the_breaker() -> None:
    breaker = Breaker(Clock(0.0))
    for _ in range(1000):
        breaker.failed()
        for _ in range(20):
            breaker.answered()
    assert breaker.opened == 0


async def test_a_round_trip_is_measured_where_redis_answers_and_infinite_where_it_does_not(shared: SharedCache) -> None:
    assert 0.0 < await measure_shared(shared) < TIMEOUT_S
    nowhere = SharedCache("unix:///nowhere/valkey.sock", TIMEOUT_S)
    assert await measure_shared(nowhere) == float("inf")
    await nowhere.aclose()


def test_auto_asks_redis_only_for_what_costs_more_than_asking() -> None:
    assert shared_pays("auto", 0.001, 0.002)
    assert not shared_pays("auto", 0.002, 0.001)
    assert not shared_pays("auto", float("inf"), 10.0)
    assert shared_pays("always", 0.002, 0.001)
    assert not shared_pays("never", 0.001, 10.0)


@pytest.mark.parametrize("url", ["http://:secret@host", "127.0.0.1:6379", "redis://:secret@host:port"])
def test_an_address_that_is_no_redis_url_names_the_setting_and_keeps_the_secret(url: str) -> None:
    with pytest.raises(SettingsError, match=r"cache\.redis_url") as caught:
        SharedCache(url, TIMEOUT_S)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "spoil", [lambda packed: b"", lambda packed: packed[:-1], lambda packed: b"\xff" + packed[1:], lambda packed: b"{}"]
)
async def test_what_redis_garbles_is_a_miss_and_counted(emptied: str, spoil: Callable[[bytes], bytes]) -> None:
    first, second = (over(SharedCache(emptied, TIMEOUT_S)) for _ in range(2))
    await ask(first, b"key", Counted(b"before"))
    await written(first)
    with Redis.from_url(emptied) as client:
        for name in client.keys("*"):
            client.set(name, spoil(client.get(name)))
    assert await ask(second, b"key", Counted(b"anew")) == Answer(b"anew", "miss", 0.0)
    assert second.errors == 1
    await first.aclose()
    await second.aclose()


async def test_redis_killed_under_load_changes_no_answer_and_is_used_again_when_it_is_back(tmp_path: Path) -> None:
    server, url = run_valkey(tmp_path)
    ticks = Clock(0.0)
    shared = SharedCache(url, TIMEOUT_S, ticks)
    store = over(shared)
    for i in range(300):
        if i == 50:
            server.send_signal(signal.SIGKILL)
            server.wait()
        assert (await ask(store, b"%d" % i, Counted(b"answer %d" % i))).body == b"answer %d" % i
    assert (shared.breaker.is_open, shared.breaker.opened) == (True, 1)
    assert shared.dropped >= 200  # not even tried: nobody waits for a Redis that is down

    server, _ = run_valkey(tmp_path)
    ticks.now += Breaker.FIRST_S
    await ask(store, b"probe", Counted())
    await shared.settle()
    assert (shared.breaker.is_open, shared.breaker.opened) == (False, 1)
    await ask(store, b"new", Counted(b"kept by the new Redis"))
    await written(store)
    neighbour = over(SharedCache(url, TIMEOUT_S))
    assert await ask(neighbour, b"new", Counted(b"never")) == Answer(b"kept by the new Redis", "hit-shared", 0.0)
    await store.aclose()
    await neighbour.aclose()
    assert processes.end([server.pid], 5.0) == []
    server.wait()


async def test_a_redis_that_never_answers_is_waited_for_a_few_times_and_then_no_more() -> None:
    async with FakeRedis(lambda command: None) as silent:
        ticks = Clock(0.0)
        shared = SharedCache(silent.url, 0.005, ticks)
        store = over(shared)
        for i in range(100):
            assert (await ask(store, b"%d" % i, Counted(b"%d" % i))).body == b"%d" % i
        assert silent.commands.count(b"MGET") <= Breaker.LIMIT
        assert (shared.errors, shared.breaker.opened) == (Breaker.LIMIT, 1)
        assert shared.dropped >= 100 - Breaker.LIMIT

        ticks.now += Breaker.FIRST_S
        tried = silent.commands.count(b"MGET")
        for i in range(100, 200):
            await ask(store, b"%d" % i, Counted())
        await shared.settle()
        assert silent.commands.count(b"PING") == 1  # one probe, and no request waited for it
        assert silent.commands.count(b"MGET") == tried
        assert shared.breaker.is_open
        await store.aclose()


@pytest.mark.parametrize("url", ["redis://:secret@127.0.0.1:1/0", "unix:///nowhere/valkey.sock", "redis://no-such-host.invalid"])
async def test_a_redis_that_is_not_there_costs_nothing_but_hits(url: str) -> None:
    store = over(SharedCache(url, TIMEOUT_S))
    for i in range(20):
        assert (await ask(store, b"%d" % i, Counted(b"%d" % i))).body == b"%d" % i
    assert store.errors > 0
    await store.aclose()


@pytest.mark.parametrize("reply", [b"-NOAUTH Authentication required.\r\n", b"*0\r\n", b"+OK\r\n", b"nonsense\r\n", b":7\r\n"])
async def test_no_reply_of_redis_fails_a_request(reply: bytes) -> None:
    async with FakeRedis(lambda command: reply) as odd:
        store = over(SharedCache(odd.url, TIMEOUT_S))
        for i in range(20):
            assert (await ask(store, b"%d" % i, Counted(b"%d" % i))).body == b"%d" % i
        assert store.errors > 0
        assert store.shared_hits == 0
        await store.aclose()


async def test_a_redis_that_answers_every_other_time_is_given_up_too() -> None:
    asked = iter(range(10**6))
    async with FakeRedis(lambda command: polite(command) if command[0] != b"MGET" or next(asked) % 2 else None) as flapping:
        shared = SharedCache(flapping.url, 0.02, Clock(0.0))
        store = over(shared)
        for i in range(200):
            assert (await ask(store, b"%d" % i, Counted(b"%d" % i))).body == b"%d" % i
        assert shared.breaker.is_open
        assert flapping.commands.count(b"MGET") < 20
        await store.aclose()


async def test_a_reply_that_comes_too_late_is_never_taken_for_the_next_ones(emptied: str) -> None:
    """The connection of a call that was given up still has that call's reply on its way."""
    late = asyncio.Event()
    known = Entry(b"answer of a", NOW, NOW + TTL_S, 0.0).pack(b"a")

    def reply(command: list[bytes]) -> bytes | None:
        if command[0] == b"MGET" and not late.is_set():
            late.set()
            return None
        return b"*1\r\n$%d\r\n%s\r\n" % (len(known), known) if command[0] == b"MGET" else polite(command)

    async with FakeRedis(reply) as mixed:
        store = over(SharedCache(mixed.url, TIMEOUT_S, Clock(0.0)))
        assert (await ask(store, b"a", Counted(b"computed a"))).body == b"computed a"
        assert (await ask(store, b"b", Counted(b"computed b"))).body == b"computed b"
        assert mixed.connections >= 2
        await store.aclose()
