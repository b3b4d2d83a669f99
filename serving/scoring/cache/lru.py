"""Cached answers: `Entry`, the bytes with their times, and `LruCache`, a bounded number of bytes of them in this process."""

from collections import OrderedDict
from struct import Struct
from typing import NamedTuple

import xxhash

_HEADER = Struct("<16sddd")  # checksum, computed_at, expires_at, cost_s
_CHECKSUM_BYTES = 16
_OVERHEAD_BYTES = 400  # an entry's objects and its slot while the table grows: up to 332 measured with tracemalloc, rounded up
_SWEEP = 16  # expired entries that a put removes: enough to keep up, few enough to cost nothing


class Entry(NamedTuple):
    """One answer: its bytes, when it was computed, when it expires (seconds since the epoch) and the seconds that computing took."""

    value: bytes
    computed_at: float
    expires_at: float
    cost_s: float

    def fresh(self, now: float) -> bool:
        """Return whether it may still be served. One from the future may not: the clock was set back, so its expiry is meaningless."""
        return self.computed_at <= now < self.expires_at

    def pack(self, key: bytes) -> bytes:
        """Return it as bytes, with a checksum over key, times and value."""
        body = _HEADER.pack(bytes(_CHECKSUM_BYTES), *self[1:])[_CHECKSUM_BYTES:] + self.value
        return xxhash.xxh3_128_digest(key + body) + body

    @classmethod
    def unpack(cls, key: bytes, packed: bytes) -> "Entry | None":
        """Return the entry that `pack` encoded for this key, or None where the bytes are truncated, altered or another key's."""
        if len(packed) < _HEADER.size or packed[:_CHECKSUM_BYTES] != xxhash.xxh3_128_digest(key + packed[_CHECKSUM_BYTES:]):
            return None
        return cls(packed[_HEADER.size :], *_HEADER.unpack_from(packed)[1:])


class LruCache:
    """Entries in this process, at most `max_bytes` of them with keys and overhead; the least recently used are evicted. For one event loop.

    `keep_s`: how long after its expiry `stale` still returns an entry.
    """

    def __init__(self, max_bytes: int, keep_s: float = 0.0) -> None:
        self.max_bytes = max_bytes
        self.keep_s = keep_s
        self.bytes = 0
        self.evictions = 0
        self._entries: OrderedDict[bytes, Entry] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: bytes, now: float) -> Entry | None:
        """Return the entry if there is a fresh one; one that is of no use any more is removed."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if not entry.fresh(now):
            if not self._useful(entry, now):
                self._remove(key)
            return None
        self._entries.move_to_end(key)
        return entry

    def stale(self, key: bytes, now: float) -> Entry | None:
        """Return the entry if there is one, fresh or expired less than `keep_s` ago."""
        entry = self._entries.get(key)
        return entry if entry is not None and self._useful(entry, now) else None

    def put(self, key: bytes, entry: Entry, now: float) -> None:
        """Keep `entry` if it is fresh and fits, and evict what it needs the room of."""
        if key in self._entries:
            self._remove(key)
        size = _size(key, entry)
        if size > self.max_bytes or not entry.fresh(now):
            return
        self._sweep(now)
        while self.bytes + size > self.max_bytes:
            self._remove(next(iter(self._entries)))
            self.evictions += 1
        self._entries[key] = entry
        self.bytes += size

    def _sweep(self, now: float) -> None:
        for _ in range(min(_SWEEP, len(self._entries))):
            oldest = next(iter(self._entries))
            if self._useful(self._entries[oldest], now):
                return
            self._remove(oldest)

    def _useful(self, entry: Entry, now: float) -> bool:
        return entry.computed_at <= now < entry.expires_at + self.keep_s

    def _remove(self, key: bytes) -> None:
        self.bytes -= _size(key, self._entries.pop(key))


def _size(key: bytes, entry: Entry) -> int:
    return len(key) + len(entry.value) + _OVERHEAD_BYTES
