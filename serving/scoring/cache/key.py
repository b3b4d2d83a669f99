"""The key of a cached answer."""

import functools

import msgspec
import numpy as np
import xxhash

from serving.auth.principals import tenant_key

_encode = msgspec.msgpack.Encoder(order="deterministic", enc_hook=np.ndarray.tobytes).encode


def answer_key(tenant: str, engine: str, version: str, request: msgspec.Struct) -> bytes:
    """Return `TENANT:ENGINE:VERSION:` and 16 bytes: a 128-bit hash of the decoded request, in which null equals absent."""
    return _prefix(tenant, engine, version) + xxhash.xxh3_128_digest(_encoded(request))


@functools.lru_cache(maxsize=4096)
def _prefix(tenant: str, engine: str, version: str) -> bytes:
    return b"%b:%b:%b:" % (tenant_key(tenant), engine.encode(), version.encode())


def _encoded(request: msgspec.Struct) -> bytes:
    try:
        return _encode(request)
    except OverflowError:  # MessagePack ends at 64 bits, a JSON integer does not
        return msgspec.json.encode(request, order="deterministic", enc_hook=np.ndarray.tobytes)
