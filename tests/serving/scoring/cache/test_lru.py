"""Answers kept in process: never more bytes than allowed, never one past its time."""

import tracemalloc
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.scoring.cache.lru import Entry, LruCache
from tests.contracts.cache import NOW, StoreContract, entry


class _MemoryStore:
    def __init__(self) -> None:
        self.memory = LruCache(4 << 20)

    async def put(self, key: bytes, entry: Entry) -> None:
        self.memory.put(key, entry, NOW)

    async def get(self, key: bytes) -> Entry | None:
        return self.memory.get(key, NOW)


class TestMemoryIsAStore(StoreContract):
    @pytest.fixture
    def store(self) -> _MemoryStore:
        return _MemoryStore()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 2**32))
def test_memory_stays_within_its_bytes_under_ten_times_as_many_keys_and_never_serves_what_it_should_not(budget: int, seed: int) -> None:
    random = Random(seed)
    memory, last, now = LruCache(budget), dict[bytes, Entry](), 0.0
    for _ in range(10 * budget // 450 + 50):
        now += random.expovariate(1.0)
        key = b"%d" % random.randrange(10 * budget // 450 + 5)
        if random.random() < 0.7:
            last[key] = Entry(random.randbytes(random.randrange(200)), now, now + random.expovariate(0.02), 0.0)
            memory.put(key, last[key], now)
        got = memory.get(key, now)
        assert memory.bytes <= budget
        assert got is None or (got == last[key] and now < got.expires_at)
    assert memory.bytes >= sum(len(k) + len(e.value) for k in last if (e := memory.get(k, now)))


def test_the_bytes_that_memory_counts_are_at_least_those_that_it_takes() -> None:
    budget = 1 << 20
    memory = LruCache(budget)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for i in range(10 * budget // 450):
            now = float(i)
            memory.put(b"purchase:purchase-20261122T093501Z-1a2b3c4d:%016d" % i, Entry(b"%050d" % i, now, now + 1e6, now / 3), now)
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert 0.5 * budget < taken <= budget
    assert memory.evictions > 0


def test_the_least_recently_used_entry_makes_room() -> None:
    memory = LruCache(1 << 20)
    memory.put(b"0", entry(b"x"), NOW)
    memory.max_bytes = 3 * memory.bytes
    for name in (b"1", b"2"):
        memory.put(name, entry(b"x"), NOW)
    assert memory.get(b"0", NOW) is not None
    memory.put(b"3", entry(b"x"), NOW)
    assert [memory.get(name, NOW) is not None for name in (b"0", b"1", b"2", b"3")] == [True, False, True, True]
    assert memory.evictions == 1


def test_an_entry_larger_than_the_budget_is_not_kept_and_pushes_nothing_out() -> None:
    memory = LruCache(2000)
    memory.put(b"small", entry(b"x"), NOW)
    memory.put(b"large", entry(bytes(2000)), NOW)
    assert (memory.get(b"small", NOW), memory.get(b"large", NOW), memory.evictions) == (entry(b"x"), None, 0)


def test_expired_entries_are_evicted_without_being_read() -> None:
    memory = LruCache(1 << 20)
    for i in range(100):
        memory.put(b"old %d" % i, entry(b"x", left_s=1.0), NOW)
    for i in range(10):
        memory.put(b"new %d" % i, entry(b"x"), NOW + 2.0)
    assert len(memory) == 10


def test_a_clock_set_back_does_not_prolong_a_life() -> None:
    memory = LruCache(1 << 20)
    memory.put(b"key", entry(b"x", left_s=5.0), NOW)
    assert memory.get(b"key", NOW - 3600.0) is None


def test_an_entry_opens_only_for_its_own_key() -> None:
    packed = entry(b"secret of a").pack(b"a")
    assert Entry.unpack(b"a", packed) == entry(b"secret of a")
    assert Entry.unpack(b"b", packed) is None
