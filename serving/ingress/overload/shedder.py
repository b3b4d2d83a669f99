"""Refusals under load that cost next to nothing, from the bytes of a request before they are parsed.

What a refusal costs is lost to answers: at four times the load that can be answered, a refusal that cost a quarter of an answer would leave
nothing. So where a queue is full, a plain request (`serving.ingress.overload.fast_path`) is refused after a look at a few of its headers.
Whatever is not as plain as that goes the usual way, and is refused there.
"""

import math
import operator
import random
import time
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple, Protocol

import numpy as np

from serving.errors import OverloadedError
from serving.ingress.overload import fast_path
from serving.ingress.problems import KINDS, MAX_RETRY_S, MEDIA_TYPE


class Answer(Protocol):
    """What answers a hot path."""

    @property
    def pressed(self) -> bool:
        """Whether somebody was refused of late: else a look costs more than it saves."""

    def shed(self, deadline: float) -> OverloadedError | None:
        """Return why a request with this deadline (time.monotonic()) is refused, if it is, and count it."""

    def shed_likewise(self, times: int) -> None:
        """Count so many more that were refused for the same reason."""


_pressed = operator.attrgetter("pressed")
_kind = KINDS[OverloadedError]
_BODY = (
    b'{"type":"/problems/overloaded","title":"%b","status":%d,"detail":"%%b","requestId":"%%b","retryAfter":%%d}'
    % (_kind.title.encode(), _kind.status)
)  # fmt: skip
_REPLY = (
    b"HTTP/1.1 %d Too Many Requests\r\ncontent-type: %b\r\nx-request-id: %%b\r\nretry-after: %%d\r\ncontent-length: %%d\r\n\r\n%%b"
    % (_kind.status, MEDIA_TYPE.encode())
)  # fmt: skip
_ID = bytes(fast_path.ID_DIGITS)  # zeros, which no error speaks of


class Form(NamedTuple):
    """A response that lacks its request id, which stands in two places: at `marks` in `blank`, where there are zeros."""

    blank: bytes
    marks: tuple[int, int]

    def filled(self) -> bytes:
        """Return the response with an id of its own."""
        return self.blank.replace(_ID, b"%032x" % random.getrandbits(128))


class Shedder:
    """Refuses plain requests on hot paths. `bounds` says what is plain; `asked` is in the order of its paths."""

    def __init__(self, asked: Mapping[bytes, Answer], default_timeout_ms: int, max_body_bytes: int) -> None:
        self.asked = tuple(asked.values())
        self.bounds = fast_path.bounds(tuple(asked), default_timeout_ms, max_body_bytes)
        self._read(b"\r\n")  # compile now, not when it is needed

    @property
    def pressed(self) -> bool:
        """Whether somebody was refused of late, on any path."""
        return any(map(_pressed, self.asked))

    def reply(self, data: bytes, unread_ms: int = 0) -> bytes | None:
        """Return the whole response to `data` if it is exactly one plain request that is refused for want of time, else None.

        `unread_ms`: since when it has lain unread, while its caller's time ran.
        """
        if not self.pressed:
            return None
        path, patience_ms = self._read(data)
        refused = None if path == fast_path.NOT_PLAIN else self.judge(path, patience_ms - unread_ms)
        return None if refused is None else refused.filled()

    def _read(self, data: bytes) -> tuple[int, int]:
        return fast_path.read(np.frombuffer(data, np.uint8), len(data), self.bounds)

    def judge(self, path: int, patience_ms: int) -> Form | None:
        """Return the response to a plain request that is refused, None when it is not."""
        asked = self.asked[path]
        error = asked.shed(time.monotonic() + patience_ms / 1000) if asked.pressed else None
        return None if error is None else _form(error)


@lru_cache(maxsize=1)  # within a turn of the loop most are refused in the same words
def _form(error: OverloadedError) -> Form:
    """Return the response as `problems.answer` and `answer.written` would make it, but for its request id."""
    retry_s = math.ceil(min(max(error.retry_after_s, 1.0), MAX_RETRY_S))
    body = _BODY % (str(error).encode(), _ID, retry_s)
    blank = _REPLY % (_ID, retry_s, len(body), body)
    first = blank.index(_ID)
    return Form(blank, (first, blank.index(_ID, first + len(_ID))))
