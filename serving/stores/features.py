"""The features of entities, in Redis: one packed vector each, with its version and its time, read in one round trip.

Key: `revenue-engine:features:1:TENANT:KIND:ENTITY`; the number is that of the value's layout, TENANT is percent-encoded, KIND is
`Lookup.kind`, ENTITY the id as the caller writes it.
"""

import asyncio
import functools
import time
from collections.abc import Callable, Sequence

import msgspec
import numpy as np
import xxhash
from redis import Redis, RedisError

from kernels.types import F64
from serving.auth.principals import tenant_key
from serving.engines.lookup import Lookup, Stored
from serving.errors import StoreUnavailableError
from serving.stores.link import Link

_NAMESPACE = b"revenue-engine:features:1:"  # the number is that of _Vector's layout
_PUBLISH_TIMEOUT_S = 10.0  # for one reply
_MAX_READ = 10_000  # entities that a replica keeps in memory


class _Vector(msgspec.Struct, array_like=True, frozen=True):
    """An entry: the hash of the features' names, and what `Stored` holds; the vector as little-endian float64."""

    names: int
    version: str
    as_of_s: float
    vector: bytes


_decode = msgspec.msgpack.Decoder(_Vector).decode
_encode = msgspec.msgpack.Encoder().encode


class Features:
    """The features of entities in the Redis at `url`, as requests read them; what was read is used again for `fresh_s`.

    `corrupt` counts values that cannot be read, or have other features than the lookup names.
    """

    def __init__(self, url: str, timeout_s: float, fresh_s: float = 0.0, clock: Callable[[], float] = time.monotonic) -> None:
        self.link = Link(url, timeout_s, "features.redis_url", clock)
        self.corrupt = 0
        self._fresh_s, self._clock = fresh_s, clock
        self._read: dict[bytes, tuple[float, Stored]] = {}  # in the order in which they were read

    def get(self, tenant: str, lookup: Lookup, entity: str) -> "asyncio.Future[Stored | None]":
        """Return the vector stored for a tenant's entity, or None; the future raises StoreUnavailableError where Redis does not answer."""
        name = feature_key(tenant, lookup, entity)
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
            self.corrupt += 1
            return None
        if found.names != _hash(lookup) or len(vector) != len(lookup.names):
            self.corrupt += 1
            return None
        stored = Stored(found.version, found.as_of_s, vector)
        if self._fresh_s > 0:
            self._read.pop(name, None)
            self._read[name] = self._clock() + self._fresh_s, stored
            if len(self._read) > _MAX_READ:
                del self._read[next(iter(self._read))]
        return stored


class Publisher:
    """Writes vectors into the Redis at `url`; each replaces the entity's last one whole, and expires after `keep_s`."""

    def __init__(self, url: str, keep_s: float) -> None:
        self._redis = Redis.from_url(url, socket_timeout=_PUBLISH_TIMEOUT_S, socket_connect_timeout=_PUBLISH_TIMEOUT_S)
        self._keep_ms = int(keep_s * 1000)

    def put(self, tenant: str, lookup: Lookup, version: str, entities: Sequence[str], as_of_s: Sequence[float], vectors: F64) -> None:
        """Store a tenant's vectors float64 [n, features]. Raises StoreUnavailableError when Redis does not take them."""
        names = _hash(lookup)
        rows = np.ascontiguousarray(vectors, "<f8")
        pipeline = self._redis.pipeline(transaction=False)
        for entity, moment, row in zip(entities, as_of_s, rows, strict=True):
            pipeline.set(feature_key(tenant, lookup, entity), _encode(_Vector(names, version, moment, row.tobytes())), px=self._keep_ms)
        try:
            pipeline.execute()
        except RedisError as error:
            raise StoreUnavailableError(
                f"the feature store did not take the published vectors: {error}; check that the server at features.redis_url is running"
            ) from error

    def close(self) -> None:
        """Close the connection."""
        self._redis.close()


def feature_key(tenant: str, lookup: Lookup, entity: str) -> bytes:
    """Return the key of a tenant's entity."""
    return _prefix(tenant, lookup.kind) + entity.encode()


@functools.lru_cache(maxsize=4096)
def _prefix(tenant: str, kind: str) -> bytes:
    return b"%b%b:%b:" % (_NAMESPACE, tenant_key(tenant), kind.encode())


def _hash(lookup: Lookup) -> int:
    return xxhash.xxh3_64_intdigest(",".join(lookup.names).encode())
