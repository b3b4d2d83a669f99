"""What is known of entities, in Redis: one packed vector each, with its version and its time, read in one round trip."""

import asyncio
import functools
import time
from collections.abc import Callable, Sequence

import msgspec
import numpy as np
import xxhash
from redis import Redis, RedisError

from kernels.types import F64
from serving.engines.lookup import Lookup, Stored
from serving.errors import StoreUnavailableError
from serving.stores.link import Link

_NAMESPACE = b"revenue-engine:features:1:"  # the number is that of _Packed's layout
_PATIENCE_S = 10.0  # of a publication, for one reply
_MAX_READ = 10_000  # entities that a replica remembers


class _Packed(msgspec.Struct, array_like=True, frozen=True):
    """An entry: the hash of the features' names, and what `Stored` holds; the vector as little-endian float64."""

    names: int
    version: str
    as_of_s: float
    vector: bytes


_decode = msgspec.msgpack.Decoder(_Packed).decode
_encode = msgspec.msgpack.Encoder().encode


class Features:
    """The features of entities in the Redis at `url`, for whoever answers requests; what was read is good for `fresh_s`."""

    def __init__(self, url: str, timeout_s: float, fresh_s: float = 0.0, clock: Callable[[], float] = time.monotonic) -> None:
        self.link = Link(url, timeout_s, "features.redis_url", clock)
        self.garbled = 0
        self._fresh_s, self._clock = fresh_s, clock
        self._read: dict[bytes, tuple[float, Stored]] = {}  # in the order in which they were read

    def get(self, lookup: Lookup, entity: str) -> "asyncio.Future[Stored | None]":
        """Return what is stored of an entity, None where nothing is; it raises StoreUnavailableError where Redis does not say."""
        name = key(lookup, entity)
        found = self._read.get(name)
        if found is not None and found[0] > self._clock():
            answer: asyncio.Future[Stored | None] = asyncio.get_running_loop().create_future()
            answer.set_result(found[1])
            return answer
        return self.link.read(name, functools.partial(self._unpacked, lookup, name))

    async def aclose(self) -> None:
        """Close every connection."""
        await self.link.aclose()

    def _unpacked(self, lookup: Lookup, name: bytes, packed: bytes) -> Stored | None:
        try:
            found = _decode(packed)
            vector = np.frombuffer(found.vector, "<f8")
        except (msgspec.MsgspecError, ValueError):
            self.garbled += 1
            return None
        if found.names != _hash(lookup) or len(vector) != len(lookup.names):
            self.garbled += 1
            return None
        stored = Stored(found.version, found.as_of_s, vector)
        if self._fresh_s > 0:
            self._read.pop(name, None)
            self._read[name] = self._clock() + self._fresh_s, stored
            if len(self._read) > _MAX_READ:
                del self._read[next(iter(self._read))]
        return stored


class Publisher:
    """Writes vectors into the Redis at `url`; each replaces the entity's last one whole, and is forgotten `keep_s` later."""

    def __init__(self, url: str, keep_s: float) -> None:
        self._redis = Redis.from_url(url, socket_timeout=_PATIENCE_S, socket_connect_timeout=_PATIENCE_S)
        self._keep_ms = int(keep_s * 1000)

    def put(self, lookup: Lookup, version: str, entities: Sequence[str], as_of_s: Sequence[float], vectors: F64) -> None:
        """Store the vectors float64 [n, features]. Raises StoreUnavailableError when Redis does not take them."""
        names = _hash(lookup)
        rows = np.ascontiguousarray(vectors, "<f8")
        pipeline = self._redis.pipeline(transaction=False)
        for entity, moment, row in zip(entities, as_of_s, rows, strict=True):
            pipeline.set(key(lookup, entity), _encode(_Packed(names, version, moment, row.tobytes())), px=self._keep_ms)
        try:
            pipeline.execute()
        except RedisError as error:
            raise StoreUnavailableError(f"the feature store does not take what is published: {error}; is it running?") from error

    def close(self) -> None:
        """Close the connection."""
        self._redis.close()


def key(lookup: Lookup, entity: str) -> bytes:
    """Return the key of an entity."""
    return b"%b%b:%b" % (_NAMESPACE, lookup.kind.encode(), entity.encode())


def _hash(lookup: Lookup) -> int:
    return xxhash.xxh3_64_intdigest(",".join(lookup.names).encode())
