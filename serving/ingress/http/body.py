"""The limits of a request body in bytes and in time, and how it is read over ASGI so that a refusal reaches a client still sending."""

import asyncio

from starlette.types import Receive

from serving.errors import SlowRequestError, TooLargeError
from serving.ingress.http.headers import Headers

# A client that is still sending does not read the response: the rest of its body is read and thrown away first, up to these limits.
DISCARD_BYTES = 64 * 1024 * 1024
DISCARD_S = 5.0


class DisconnectedError(Exception):
    """The client disconnected while it was sending."""


async def read(headers: Headers, receive: Receive, limit: int, seconds: float) -> bytes:
    """Return the whole body. Raises TooLargeError beyond `limit` bytes, SlowRequestError after `seconds`, DisconnectedError."""
    if declares_more(headers, limit):
        # A client that waits for 100 Continue has not sent a body, and will not send one.
        if headers.get(b"expect", b"").lower() != b"100-continue":
            await _discard(receive)
        raise too_large(limit)
    try:
        async with asyncio.timeout(seconds):
            body, more = await _collect(receive, limit)
    except TimeoutError as error:
        raise too_slow(seconds) from error
    if body is None:
        if more:
            await _discard(receive)
        raise too_large(limit)
    return body


def declares_more(headers: Headers, limit: int) -> bool:
    """Return whether the Content-Length of a request is more than `limit` bytes."""
    declared = headers.get(b"content-length", b"")
    return declared.isdigit() and int(declared[:20]) > limit


def too_large(limit: int) -> TooLargeError:
    """Return the error for a body of more than `limit` bytes."""
    return TooLargeError(f"the body has more than {limit} bytes (server.max_body_bytes); send fewer items or interactions at a time")


def too_slow(seconds: float, part: str = "body") -> SlowRequestError:
    """Return the error for a request whose body, or another part, is not complete after so many seconds."""
    return SlowRequestError(f"the {part} of the request was not complete after {seconds:g} s (server.{part}_timeout_s); send it at once")


async def _next(receive: Receive) -> tuple[bytes, bool]:
    message = await receive()
    if message["type"] != "http.request":
        raise DisconnectedError
    return message.get("body", b""), message.get("more_body", False)


async def _collect(receive: Receive, limit: int) -> tuple[bytes | None, bool]:
    """Return the body, None as soon as it has more than `limit` bytes, and whether more of it follows."""
    chunk, more = await _next(receive)
    chunks, size = [chunk], len(chunk)
    while more and size <= limit:
        chunk, more = await _next(receive)
        chunks.append(chunk)
        size += len(chunk)
    return (None if size > limit else b"".join(chunks)), more


async def _discard(receive: Receive) -> None:
    left, more = DISCARD_BYTES, True
    try:
        async with asyncio.timeout(DISCARD_S):
            while more and left > 0:
                chunk, more = await _next(receive)
                left -= len(chunk)
    except TimeoutError:
        return
