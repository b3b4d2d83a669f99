"""A whole response, made before any HTTP framework is involved, and its encodings for HTTP/1.1, ASGI and Starlette."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from starlette import responses as starlette
from starlette.types import Send
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

CLOSE = (b"connection", b"close")
_END, _CLOSING_END = b"\r\n", b"connection: close\r\n\r\n"


class Response(NamedTuple):
    """A whole response; with `close` the connection ends after it.

    `headers` holds all headers except content-length and connection, which the transport adds. It is a list of pairs with names in lower
    case, or the bytes that go over the wire (`encode_headers`), which saves about a microsecond.
    """

    status: int
    headers: list[tuple[bytes, bytes]] | bytes
    body: bytes
    close: bool = False

    @property
    def pairs(self) -> list[tuple[bytes, bytes]]:
        """The headers as (name, value) pairs."""
        if not isinstance(self.headers, bytes):
            return self.headers
        return [(name, value) for name, _, value in (line.partition(b": ") for line in self.headers.split(b"\r\n")[:-1])]

    def with_headers(self, *more: tuple[bytes, bytes]) -> "Response":
        """Return the same response with more headers."""
        return self._replace(headers=self.headers + encode_headers(more) if isinstance(self.headers, bytes) else [*self.headers, *more])

    def varying(self, name: bytes) -> "Response":
        """Return the same response with the name of a request header in `Vary`."""
        if not isinstance(self.headers, bytes):
            return self._replace(headers=vary(self.headers, name))
        head, found, rest = self.headers.partition(b"\r\nvary: ")
        if not found:
            return self.with_headers((b"vary", name))
        return self._replace(headers=b"%b\r\nvary: %b, %b" % (head, name, rest))

    def closing(self) -> "Response":
        """Return the same response, after which the connection is closed."""
        return self._replace(close=True)


def vary(headers: Sequence[tuple[bytes, bytes]], name: bytes) -> list[tuple[bytes, bytes]]:
    """Return headers with the name of a request header in `Vary`."""
    others = [header for header in headers if header[0] != b"vary"]
    return [*others, (b"vary", b", ".join([name, *(value for key, value in headers if key == b"vary")]))]


def encode_headers(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return headers as they go over the wire, each ended by CRLF. The caller makes sure that no name or value contains CR or LF."""
    return b"".join([b"%b: %b\r\n" % header for header in headers])


def encode(response: Response, close: bool) -> bytes:
    """Return the response as HTTP/1.1 bytes; with `close` it announces the end of the connection."""
    head = response.headers if isinstance(response.headers, bytes) else encode_headers(response.headers)
    length = b"content-length: %d\r\n" % len(response.body)
    return b"".join((STATUS_LINE[response.status], head, length, _CLOSING_END if close else _END, response.body))


async def respond(response: Response, send: Send) -> None:
    """Send the response over ASGI."""
    await send({"type": "http.response.start", "status": response.status, "headers": _all_headers(response)})
    await send({"type": "http.response.body", "body": response.body})


def to_starlette(response: Response) -> starlette.Response:
    """Return the response as a Starlette response."""
    made = starlette.Response(response.body, response.status)
    made.raw_headers = _all_headers(response)
    return made


def _all_headers(response: Response) -> list[tuple[bytes, bytes]]:
    return [*response.pairs, (b"content-length", b"%d" % len(response.body)), *([CLOSE] if response.close else [])]
