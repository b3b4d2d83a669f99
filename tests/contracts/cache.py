"""What every store of answers must do, whether it keeps them in process or in Redis."""

from typing import Protocol

import pytest

from serving.scoring.cache.lru import Entry

NOW = 1_795_000_000.25


class Store(Protocol):
    """A store as the contract sees it; a put is done when it returns."""

    async def put(self, key: bytes, entry: Entry) -> None:
        """Keep `entry` under `key` as of NOW."""

    async def get(self, key: bytes) -> Entry | None:
        """Return what is kept under `key` as of NOW."""


def entry(value: bytes, left_s: float = 60.0) -> Entry:
    """Return an entry computed a second before NOW that has `left_s` seconds to live."""
    return Entry(value, NOW - 1.0, NOW + left_s, 0.125)


class StoreContract:
    """Subclass it with a fixture `store`."""

    async def test_a_key_that_was_never_put_is_absent(self, store: Store) -> None:
        assert await store.get(b"nobody") is None

    @pytest.mark.parametrize("value", [b"", b"{}", b"\x00\r\n\xff" * 5, bytes(1_000_000)], ids=["empty", "json", "binary", "megabyte"])
    async def test_what_comes_back_is_what_was_put_to_the_last_bit_of_its_times(self, store: Store, value: bytes) -> None:
        put = Entry(value, NOW - 1 / 3, NOW + 100 / 3, 1 / 7)
        await store.put(b"key", put)
        assert await store.get(b"key") == put

    async def test_keys_that_differ_in_one_bit_keep_apart(self, store: Store) -> None:
        keys = [b"purchase:v1:" + bytes([*range(8), last]) for last in range(256)]
        for key in keys:
            await store.put(key, entry(b"answer of " + key))
        assert [await store.get(key) for key in keys] == [entry(b"answer of " + key) for key in keys]

    async def test_the_last_put_wins(self, store: Store) -> None:
        for value in (b"first", b"second", b"third, and longer"):
            await store.put(b"key", entry(value))
        assert await store.get(b"key") == entry(b"third, and longer")

    @pytest.mark.parametrize("left_s", [0.0, -5.0])
    async def test_an_entry_that_has_expired_is_not_kept(self, store: Store, left_s: float) -> None:
        await store.put(b"key", entry(b"late", left_s))
        assert await store.get(b"key") is None
