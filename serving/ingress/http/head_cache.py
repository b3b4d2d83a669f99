"""The heads of hot requests that came of late: a client's are the same but for the length, so that few need be parsed anew."""

from typing import NamedTuple

from serving.ingress.http.headers import Headers

MOST, MAX_BYTES = 4096, 1024  # heads that are kept, and of each
_END = b"\r\n\r\n"

# A head that says more is not kept: with the id of a request it comes once, and credentials and addresses are not ours to keep.
_COMMON = frozenset({
    *(b"host", b"user-agent", b"accept", b"accept-encoding", b"accept-language", b"connection", b"origin"),
    *(b"content-type", b"content-length", b"x-request-timeout-ms", b"priority", b"cache-control"),
})  # fmt: skip


class Head(NamedTuple):
    """What is known of a request before its body: its path, its headers, and of how many bytes the body is."""

    path: bytes
    headers: Headers
    length: int


class Heads:
    """Whole requests by the bytes of their heads, of the last MOST different ones."""

    def __init__(self) -> None:
        self._heads: dict[bytes, Head] = {}

    def find(self, data: bytes) -> tuple[Head, bytes] | None:
        """Return the head and the body of the one whole request that `data` is, None where it is another, or its head is not known."""
        end = data.find(_END) + len(_END)
        head = self._heads.get(data[:end])
        return None if head is None or len(data) - end != head.length else (head, data[end:])

    def keep(self, data: bytes, head: Head) -> None:
        """Know a head from now on, if `data` is one whole request with it, which leaves the connection open."""
        end = len(data) - head.length
        if end > MAX_BYTES or data.find(_END) + len(_END) != end or not _COMMON.issuperset(head.headers):
            return
        if len(self._heads) >= MOST:
            del self._heads[next(iter(self._heads))]
        self._heads[data[:end]] = head
