"""Reads a request's body over ASGI, bounded in bytes and in time, so that a refusal reaches a client that is still sending."""

import asyncio

from starlette.types import Receive

from serving.errors import SlowRequestError, TooLargeError
from serving.ingress.headers import Headers

BODY_S = 15.0
# A client that is still sending does not read: what it has left is read and thrown away first, up to these.
DISCARD_BYTES = 64 * 1024 * 1024
DISCARD_S = 5.0


class DisconnectedError(Exception):
    """The client went away while it was sending; nobody is left to answer."""


async def read(headers: Headers, receive: Receive, limit: int) -> bytes:
    """Return the whole body. Raises TooLargeError beyond `limit` bytes, SlowRequestError, DisconnectedError."""
    declared = headers.get(b"content-length", b"")
    if declared.isdigit() and int(declared[:20]) > limit:
        # Who waits for 100 Continue has sent nothing yet, and never will.
        if headers.get(b"expect", b"").lower() != b"100-continue":
            await _discard(receive)
        raise _too_large(limit)
    try:
        async with asyncio.timeout(BODY_S):
            body = await _collect(receive, limit)
    except TimeoutError as error:
        raise SlowRequestError(f"the body was not here after {BODY_S:g} s") from error
    if body is None:
        await _discard(receive)
        raise _too_large(limit)
    return body


async def _next(receive: Receive) -> tuple[bytes, bool]:
    message = await receive()
    if message["type"] != "http.request":
        raise DisconnectedError
    return message.get("body", b""), message.get("more_body", False)


async def _collect(receive: Receive, limit: int) -> bytes | None:
    """Return the body, None as soon as it has more than `limit` bytes."""
    chunk, more = await _next(receive)
    chunks, size = [chunk], len(chunk)
    while more and size <= limit:
        chunk, more = await _next(receive)
        chunks.append(chunk)
        size += len(chunk)
    return None if size > limit else b"".join(chunks)


async def _discard(receive: Receive) -> None:
    left, more = DISCARD_BYTES, True
    try:
        async with asyncio.timeout(DISCARD_S):
            while more and left > 0:
                chunk, more = await _next(receive)
                left -= len(chunk)
    except TimeoutError:
        return


def _too_large(limit: int) -> TooLargeError:
    return TooLargeError(f"the body has more than {limit} bytes (server.max_body_bytes); send fewer items or interactions at a time")
