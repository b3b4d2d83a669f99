"""What goes back to the caller, before any HTTP framework has a say, and how the wire, ASGI and Starlette want it."""

from collections.abc import Iterable
from typing import NamedTuple

from starlette import responses as starlette
from starlette.types import Send
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

CLOSE = (b"connection", b"close")
_END, _CLOSING_END = b"\r\n", b"connection: close\r\n\r\n"


class Response(NamedTuple):
    """A whole response, after which `close` ends the connection.

    `headers` has everything but content-length and connection, which the transport adds: as pairs with names in lower case, or as `lines`,
    which is how they go over the wire and saves whoever answers often about a microsecond.
    """

    status: int
    headers: list[tuple[bytes, bytes]] | bytes
    body: bytes
    close: bool = False

    @property
    def pairs(self) -> list[tuple[bytes, bytes]]:
        """The headers one by one."""
        if not isinstance(self.headers, bytes):
            return self.headers
        return [(name, value) for name, _, value in (line.partition(b": ") for line in self.headers.split(b"\r\n")[:-1])]

    def closing(self) -> "Response":
        """Return the same answer, after which the connection is closed."""
        return self._replace(close=True)


def lines(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return headers as they go over the wire, each ended by CRLF. Names and values are the caller's to keep free of CR and LF."""
    return b"".join([b"%b: %b\r\n" % header for header in headers])


def written(answer: Response, close: bool) -> bytes:
    """Return the answer as it goes over the wire in HTTP/1.1; `close` says that the connection ends with it."""
    head = answer.headers if isinstance(answer.headers, bytes) else lines(answer.headers)
    length = b"content-length: %d\r\n" % len(answer.body)
    return b"".join((STATUS_LINE[answer.status], head, length, _CLOSING_END if close else _END, answer.body))


async def respond(answer: Response, send: Send) -> None:
    """Send the answer over ASGI."""
    await send({"type": "http.response.start", "status": answer.status, "headers": _whole(answer)})
    await send({"type": "http.response.body", "body": answer.body})


def to_starlette(answer: Response) -> starlette.Response:
    """Return the response as an object of Starlette's."""
    made = starlette.Response(answer.body, answer.status)
    made.raw_headers = _whole(answer)
    return made


def _whole(answer: Response) -> list[tuple[bytes, bytes]]:
    return [*answer.pairs, (b"content-length", b"%d" % len(answer.body)), *([CLOSE] if answer.close else [])]
