"""Refusals under load that cost next to nothing, from the bytes of a request before they are parsed.

What a refusal costs is lost to answers: at four times the load that can be answered, a refusal that cost a quarter of an answer would leave
nothing. So where a queue is full, a plain request that came in one piece is refused after a look at a few of its headers. Whatever is not
as plain as that goes the usual way, and is refused there.
"""

import math
import random
import re
import time
from collections.abc import Mapping
from functools import lru_cache
from typing import Protocol

from serving.errors import OverloadedError
from serving.ingress.headers import MAX_TIMEOUT_MS
from serving.ingress.problems import KINDS, MAX_RETRY_S, MEDIA_TYPE


class Asked(Protocol):
    """What answers a hot path."""

    @property
    def pressed(self) -> bool:
        """Whether somebody was refused of late: else a look costs more than it saves."""

    def shed(self, deadline: float) -> OverloadedError | None:
        """Return why a request with this deadline (time.monotonic()) is refused, if it is."""


# Every header that says how a request is to be read, or that a refusal would have to heed.
_TELLING = re.compile(
    rb"\r\n(content-length|x-request-timeout-ms|transfer-encoding|connection|expect|upgrade|priority|x-request-id)[ \t]*:[ \t]*([^\r\n]*)",
    re.IGNORECASE,
).findall
_LENGTH, _TIMEOUT = b"content-length", b"x-request-timeout-ms"
_PLAIN = {_LENGTH, _TIMEOUT}

_kind = KINDS[OverloadedError]
_BODY = (
    b'{"type":"/problems/overloaded","title":"%b","status":%d,"detail":"%%b","requestId":"%%b","retryAfter":%%d}'
    % (_kind.title.encode(), _kind.status)
)  # fmt: skip
_REPLY = (
    b"HTTP/1.1 %d Too Many Requests\r\ncontent-type: %b\r\nx-request-id: %%b\r\nretry-after: %%d\r\ncontent-length: %%d\r\n\r\n%%b"
    % (_kind.status, MEDIA_TYPE.encode())
)  # fmt: skip


class Shedder:
    """Refuses plain requests on hot paths."""

    def __init__(self, asked: Mapping[bytes, Asked], default_timeout_ms: int, max_body_bytes: int) -> None:
        self._asked = {b"POST %b HTTP/1.1" % path: one for path, one in asked.items()}
        self._default_s = default_timeout_ms / 1000
        self._max_body_bytes = max_body_bytes

    def reply(self, data: bytes) -> bytes | None:
        """Return the whole response to `data` if it is exactly one plain request that is refused for want of time, else None."""
        asked = self._asked.get(data[: data.find(b"\r\n")])
        if asked is None or not asked.pressed:
            return None
        end = data.find(b"\r\n\r\n")
        telling = _TELLING(data, 0, end + 2)
        said = {name.lower(): value for name, value in telling}
        length = said.get(_LENGTH, b"")
        if end < 0 or not said.keys() <= _PLAIN or len(said) < len(telling) or not length.isdigit():
            return None
        if int(length[:20]) != len(data) - end - 4 or int(length[:20]) > self._max_body_bytes:
            return None
        patience_s = self._patience(said.get(_TIMEOUT))
        error = None if patience_s is None else asked.shed(time.monotonic() + patience_s)
        return None if error is None else _written(error)

    def _patience(self, stated: bytes | None) -> float | None:
        """Return how many seconds the caller waits, None for what is no sensible number."""
        if stated is None:
            return self._default_s
        return int(stated) / 1000 if stated.isdigit() and len(stated) <= 9 and 1 <= int(stated) <= MAX_TIMEOUT_MS else None


@lru_cache(maxsize=1)  # within a turn of the loop most are refused in the same words
def _form(error: OverloadedError) -> bytes:
    """Return the response as `problems.answer` and `answer.written` would make it, but for its two request ids."""
    retry_s = math.ceil(min(max(error.retry_after_s, 1.0), MAX_RETRY_S))
    body = _BODY % (str(error).replace("%", "%%").encode(), b"%032x", retry_s)
    length = len(body % 0)
    return _REPLY % (b"%032x", retry_s, length, body)


def _written(error: OverloadedError) -> bytes:
    request_id = random.getrandbits(128)
    return _form(error) % (request_id, request_id)
