"""Reads HTTP/1.1 replies and judges them, as cheaply as Python can: what the server under test does not get, the load generator takes."""

import re
from collections.abc import Sequence
from typing import TypeAlias

Reply: TypeAlias = tuple[int, bytes, bytes, bool]  # status, head, body, and whether the connection may be used again

MAX_HEAD_BYTES = 64 * 1024
MAX_CHUNK_HEAD = 1024
MAX_TEXT = 64
_START, _OK = b"HTTP/1.1 ", b"HTTP/1.1 200"
_NUMBER = rb"\s*(-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)"
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)\r\n", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:[ \t]*chunked\r\n", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nconnection:[ \t]*close", re.IGNORECASE)
_SIZE = re.compile(rb"([0-9a-fA-F]{1,8})[^\r\n]*\r\n")
_RETRY = re.compile(rb"\r\nretry-after:[ \t]*\d+(\r\n|$)", re.IGNORECASE)
_TIMING = re.compile(rb"\r\nserver-timing:([^\r\n]*)", re.IGNORECASE)
_DURATION = re.compile(rb"([\w-]+);dur=([-+.\deE]+)")


class NotHTTPError(Exception):
    """What came is no HTTP/1.1 reply."""


class Reader:
    """Splits what came into head and body. A server spells its heads in one way, so what was found before is looked for first."""

    def __init__(self) -> None:
        self._lengths: dict[int, bytes] = {}
        self._after = 0  # bytes of a head that follow its length

    def read(self, data: bytes) -> Reply | None:
        """Return the reply that `data` holds, None while it is not whole. Raises NotHTTPError."""
        head, end, body = data.partition(b"\r\n\r\n")
        line = self._lengths.get(len(body))
        if line is None or not data.startswith(line, len(head) - self._after):
            return self._slowly(head, end, body)
        keep = b"lose" not in head or _CLOSE.search(head) is None
        return (200 if head.startswith(_OK) else _status(head)), head, body, keep

    def _slowly(self, head: bytes, end: bytes, body: bytes) -> Reply | None:
        if not end:
            if len(head) > MAX_HEAD_BYTES or not head.startswith(_START[: len(head)]):
                raise NotHTTPError
            return None
        status, keep = _status(head), _CLOSE.search(head) is None
        if _CHUNKED.search(head + b"\r\n"):
            joined = _joined(body)
            return None if joined is None else (status, head, joined, keep)
        found = _LENGTH.search(head + b"\r\n")
        if found is None or len(body) > int(found[1]):
            raise NotHTTPError
        if len(body) < int(found[1]):
            return None
        self._lengths[len(body)] = found[0]
        self._after = len(head) - found.start()
        return status, head, body, keep


class Judge:
    """Says whether a body holds the right numbers: those after `marker`, as many as are expected of the request that was sent."""

    def __init__(self, expected: Sequence[Sequence[float]] | None, name: str, marker: str | None, tolerance: float) -> None:
        self._expected = expected
        self._tolerance = tolerance
        before = re.escape(marker.encode()) if marker is not None else rb'"%b"\s*:' % re.escape(name.encode())
        self._find = re.compile(before + _NUMBER + rb"(?=[^\d.eE+-]|$)").finditer
        # The bytes that were right before, marker and number and what ended it: most often they come again.
        self.right = [b""] * len(expected or ())

    def is_right(self, number: int, body: bytes) -> bool:
        """Return whether the reply to request `number` holds what is expected of it."""
        if self._expected is None:
            return True
        known = self.right[number]
        if known and known in body:
            return True
        wanted = self._expected[number]
        found = list(self._find(body))
        right = len(found) == len(wanted) and all(abs(float(f[1]) - w) <= self._tolerance for f, w in zip(found, wanted, strict=True))
        if right and len(found) == 1 and found[0].end() < len(body):
            self.right[number] = body[found[0].start() : found[0].end() + 1]
        return right


def states_retry(head: bytes) -> bool:
    """Return whether the head has a Retry-After."""
    return _RETRY.search(head) is not None


def stages(head: bytes) -> list[tuple[str, float]]:
    """Return the names and durations, ms, of a Server-Timing header."""
    found = _TIMING.search(head)
    return [(name.decode(), float(duration)) for name, duration in _DURATION.findall(found[1])] if found else []


def following(marker: bytes, text: bytes) -> tuple[str, bytes]:
    """Return what follows `marker`, up to the end of its line, string or member, and all of it from the marker to that end.

    ("(none)", b"") where the marker is not there.
    """
    _, found, rest = text.partition(marker)
    if not found:
        return "(none)", b""
    size = len(re.split(rb'["\r,}]', rest[:MAX_TEXT], maxsplit=1)[0])
    return rest[:size].decode("ascii", "replace"), marker + rest[: size + 1]


def _status(head: bytes) -> int:
    if not head.startswith(_START) or not head[9:12].isdigit():
        raise NotHTTPError
    return int(head[9:12])


def _joined(data: bytes) -> bytes | None:
    """Return the chunks of a body put together, None when the last has not come."""
    at, chunks = 0, list[bytes]()
    while (found := _SIZE.match(data, at)) is not None:
        end = found.end() + int(found[1], 16)
        if end + 2 > len(data):
            return None
        chunks.append(data[found.end() : end])
        at = end + 2
        if found.end() == end:
            if at < len(data):
                raise NotHTTPError
            return b"".join(chunks)
    if len(data) - at > MAX_CHUNK_HEAD:
        raise NotHTTPError
    return None
