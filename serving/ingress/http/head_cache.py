"""The heads of recent requests on hot routes. One client's heads differ only in the length of the body, so few have to be parsed again.

No credential is kept. A head with an `Authorization` header is found by its other bytes and a keyed digest of the credential, and the
headers that are returned contain the credential that this request itself has sent.
"""

import hashlib
import secrets
from typing import NamedTuple

from serving.ingress.http.headers import AUTHORIZATION, Headers

MAX_HEADS, MAX_BYTES = 4096, 1024  # heads that are kept, and bytes of each
DIGEST_BYTES = 16
_END = b"\r\n\r\n"
# The two spellings that clients use; a head with another one is parsed every time.
_SPELLINGS = (b"\r\nAuthorization: ", b"\r\nauthorization: ")

# A head with another header is not kept: a request id comes once, and cookies and addresses are not to be stored.
_COMMON = frozenset({
    *(b"host", b"user-agent", b"accept", b"accept-encoding", b"accept-language", b"connection", b"origin"),
    *(b"content-type", b"content-length", b"x-request-timeout-ms", b"priority", b"cache-control", AUTHORIZATION),
})  # fmt: skip

_Key = bytes | tuple[bytes, bytes]  # a head, or a head without its credential and the credential's digest


class Head(NamedTuple):
    """A request before its body: the path, the headers, and the length of the body in bytes."""

    path: bytes
    headers: Headers
    length: int


class HeadCache:
    """Parsed heads by their bytes, the last MAX_HEADS different ones."""

    def __init__(self) -> None:
        self._heads: dict[_Key, Head] = {}
        self._has_credentials = False  # until a head with a credential is kept, no head is searched for one
        self._secret = secrets.token_bytes(32)

    def find(self, data: bytes) -> tuple[Head, bytes] | None:
        """Return the head and the body of the one whole request in `data`, None if it is anything else or its head is not kept."""
        end = data.find(_END) + len(_END)
        head = self._heads.get(data[:end])
        if head is None and self._has_credentials:
            head = self._find_with_credential(data[:end])
        return None if head is None or len(data) - end != head.length else (head, data[end:])

    def keep(self, data: bytes, head: Head) -> None:
        """Keep the head of `data`, if `data` is one whole request with it. The request must leave the connection open."""
        end = len(data) - head.length
        if end > MAX_BYTES or data.find(_END) + len(_END) != end or not _COMMON.issuperset(head.headers):
            return
        if AUTHORIZATION in head.headers:
            self._keep_with_credential(data[:end], head)
        else:
            self._put(data[:end], head)

    def _find_with_credential(self, head: bytes) -> Head | None:
        without, credential = _split(head)
        if not credential:
            return None
        found = self._heads.get((without, self._digest(credential)))
        return None if found is None else found._replace(headers={**found.headers, AUTHORIZATION: credential})

    def _keep_with_credential(self, data: bytes, head: Head) -> None:
        without, credential = _split(data)
        # The parser must have read the same credential, and it must not occur elsewhere in the head, where it would be stored.
        if credential and credential == head.headers[AUTHORIZATION] and credential not in without:
            headers = {name: value for name, value in head.headers.items() if name != AUTHORIZATION}
            self._put((without, self._digest(credential)), head._replace(headers=headers))
            self._has_credentials = True

    def _put(self, key: _Key, head: Head) -> None:
        if len(self._heads) >= MAX_HEADS:
            del self._heads[next(iter(self._heads))]
        self._heads[key] = head

    def _digest(self, credential: bytes) -> bytes:
        return hashlib.blake2b(credential, digest_size=DIGEST_BYTES, key=self._secret).digest()


def _split(head: bytes) -> tuple[bytes, bytes]:
    """Return a head without the value of its first `Authorization` header, and that value; an empty value where there is none."""
    for spelling in _SPELLINGS:
        at = head.find(spelling)
        if at >= 0:
            begin = at + len(spelling)
            end = head.find(b"\r\n", begin)
            return head[:begin] + head[end:], head[begin:end]
    return head, b""
