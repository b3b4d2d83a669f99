"""Cheap refusals under load, made from the bytes of a request before they are parsed.

The time that refusals take is lost to answers: at four times the load that can be answered, refusals that cost a quarter of an answer would
leave no time to answer. So while a queue is full, a plain request (`serving.ingress.overload.fast_path`) is refused after reading only a
few of its headers. Every other request is parsed, and refused after that.
"""

import operator
import random
import time
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple, Protocol

import numpy as np

from serving.errors import OverloadedError
from serving.ingress import problems
from serving.ingress.cors import Cors
from serving.ingress.http.response import encode_headers
from serving.ingress.overload import fast_path
from serving.ingress.problems import KINDS, MEDIA_TYPE
from serving.ingress.request_log import AccessLog
from serving.ingress.retry_after import whole_seconds


class Sheddable(Protocol):
    """A hot route whose requests may be refused before they are parsed."""

    @property
    def pressed(self) -> bool:
        """Whether a request was refused recently: otherwise reading it here costs more than it saves."""

    def shed(self, deadline: float) -> OverloadedError | None:
        """Return why a request with this deadline (time.monotonic()) is refused, and count it; None where it is not refused."""

    def shed_likewise(self, times: int) -> None:
        """Count as many more requests that were refused for the same reason."""


_pressed = operator.attrgetter("pressed")
_kind = KINDS[OverloadedError]
_BODY = (
    b'{"type":"/problems/overloaded","title":"%b","status":%d,"detail":"%%b","requestId":"%%b","retryAfter":%%d}'
    % (_kind.title.encode(), _kind.status)
)  # fmt: skip
_REPLY = (
    b"HTTP/1.1 %d Too Many Requests\r\ncontent-type: %b\r\nx-request-id: %%b\r\nretry-after: %%d\r\n%%bcontent-length: %%d\r\n\r\n%%b"
    % (_kind.status, MEDIA_TYPE.encode())
)  # fmt: skip
_ID = bytes(fast_path.ID_DIGITS)  # zero bytes, which no error message contains


class RefusalTemplate(NamedTuple):
    """A refusal without its request id: `reply` has zero bytes in its place, twice, at `id_offsets`. `body_bytes`: of its body."""

    reply: bytes
    id_offsets: tuple[int, int]
    detail: str
    body_bytes: int


class Shedder:
    """Refuses plain requests on hot routes. `bounds` defines what is plain; `routes` is in the order of its paths."""

    def __init__(
        self,
        routes: Mapping[bytes, Sheddable],
        default_timeout_ms: int,
        max_body_bytes: int,
        cors: Cors | None = None,
        access_log: AccessLog | None = None,
    ) -> None:
        """`cors`: whose headers the refusals have; `access_log`: notes them."""
        self.routes = tuple(routes.values())
        self._paths = [path.decode() for path in routes]
        self._headers = b"" if cors is None else encode_headers(cors.pairs([], None))
        self._access_log = access_log
        self.bounds = fast_path.bounds(tuple(routes), default_timeout_ms, max_body_bytes, cors is not None and cors.by_origin)
        self._read(b"\r\n")  # compile now, not when it is needed

    @property
    def pressed(self) -> bool:
        """Whether a request was refused recently, on any route."""
        return any(map(_pressed, self.routes))

    def reply(self, data: bytes, unread_ms: int = 0) -> bytes | None:
        """Return the whole refusal if `data` is exactly one plain request that cannot be answered in time, else None.

        unread_ms: how long it has waited in the socket, which counts towards its timeout.
        """
        if not self.pressed:
            return None
        path, timeout_ms = self._read(data)
        template = None if path == fast_path.NOT_PLAIN else self.judge(path, timeout_ms - unread_ms)
        return None if template is None else self.fill(path, template)

    def fill(self, path: int, template: RefusalTemplate) -> bytes:
        """Return the refusal with a new request id, which is logged."""
        request_id = f"{random.getrandbits(128):032x}"
        self.log(path, template, request_id)
        return template.reply.replace(_ID, request_id.encode())

    def log(self, path: int, template: RefusalTemplate, digits: str) -> None:
        """Log requests that were refused; `digits`: their request ids, one after the other."""
        number, width = len(digits) // fast_path.ID_DIGITS, fast_path.ID_DIGITS
        wanted = number if self._access_log is not None else min(number, problems.LOG.room)
        ids = [digits[at : at + width] for at in range(0, wanted * width, width)]
        problems.LOG.note(_kind.status, OverloadedError.code, template.detail, ids, number)
        if self._access_log is not None:
            for each in ids:
                self._access_log.note("POST", self._paths[path], _kind.status, 0.0, template.body_bytes, each)

    def _read(self, data: bytes) -> tuple[int, int]:
        return fast_path.read(np.frombuffer(data, np.uint8), len(data), self.bounds)

    def judge(self, path: int, left_ms: int) -> RefusalTemplate | None:
        """Return the refusal of a plain request with `left_ms` left, None where it is not refused."""
        route = self.routes[path]
        error = route.shed(time.monotonic() + left_ms / 1000) if route.pressed else None
        return None if error is None else _template(error, self._headers)


@lru_cache(maxsize=1)  # within one iteration of the event loop most refusals have the same error
def _template(error: OverloadedError, headers: bytes) -> RefusalTemplate:
    """Return the bytes that `problems.response` and `response.encode` would make, with further headers and without the request id."""
    retry_s = whole_seconds(error.retry_after_s)
    body = _BODY % (str(error).encode(), _ID, retry_s)
    reply = _REPLY % (_ID, retry_s, headers, len(body), body)
    first = reply.index(_ID)
    return RefusalTemplate(reply, (first, reply.index(_ID, first + len(_ID))), str(error), len(body))
