"""What the headers of a request state: request id, content type, timeout, priority, freshness."""

import random
import re
from collections.abc import Mapping

from serving.errors import FieldProblem, InvalidRequestError, UnsupportedMediaTypeError

Headers = Mapping[bytes, bytes]  # names in lower case

AUTHORIZATION = b"authorization"
MAX_TIMEOUT_MS = 60_000
TIMEOUT = "X-Request-Timeout-Ms"
_TIMEOUT = TIMEOUT.lower().encode()

_SANE_ID = re.compile(rb"[!-~](?:[ -~]{0,126}[!-~])?").fullmatch
_URGENCY = re.compile(rb"(?:^|,)\s*u=([0-7])\s*(?:,|$)").search
_JSON = re.compile(rb'application/json\s*(?:;\s*charset\s*=\s*"?utf-?8"?\s*)?', re.IGNORECASE).fullmatch


def request_id(headers: Headers) -> str:
    """Return the caller's X-Request-Id when it is 1 to 128 printable ASCII characters, else a new one of 32 hex digits."""
    given = headers.get(b"x-request-id")
    if given is not None and _SANE_ID(given):
        return given.decode("ascii")
    # Seeded from the operating system, again after each fork. The id has to be unique, not secret.
    return f"{random.getrandbits(128):032x}"


def require_json(headers: Headers) -> None:
    """Raise UnsupportedMediaTypeError unless the body is plain application/json in UTF-8."""
    given = headers.get(b"content-type", b"")
    if given != b"application/json" and not _JSON(given):
        shown = given[:100].decode("ascii", "replace") or "absent"
        raise UnsupportedMediaTypeError(f"Content-Type is {shown}; send application/json in UTF-8")
    encoding = headers.get(b"content-encoding", b"identity")
    if encoding != b"identity":
        shown = encoding[:100].decode("ascii", "replace")
        raise UnsupportedMediaTypeError(f"Content-Encoding is {shown}; send the body uncompressed")


def timeout_ms(headers: Headers, default: int) -> int:
    """Return how long the caller waits, in milliseconds. Raises InvalidRequestError where the header is not a number in range."""
    given = headers.get(_TIMEOUT)
    if given is None:
        return default
    if given.isdigit() and len(given) <= 9 and 1 <= int(given) <= MAX_TIMEOUT_MS:
        return int(given)
    raise InvalidRequestError([FieldProblem(TIMEOUT, f"Expected a whole number of milliseconds from 1 to {MAX_TIMEOUT_MS}")])


def priority(headers: Headers, default: int) -> int:
    """Return the caller's urgency, 0 first to 7 last (RFC 9218, `Priority: u=1`); `default` where the header is absent or malformed."""
    given = headers.get(b"priority")
    if given is None:
        return default
    found = _URGENCY(given)
    return int(found[1]) if found else default


def states_timeout(headers: Headers) -> bool:
    """Return whether the request has a timeout header."""
    return _TIMEOUT in headers


def fresh(headers: Headers) -> bool:
    """Return whether the caller refuses a cached answer (`Cache-Control: no-cache`)."""
    given = headers.get(b"cache-control")
    return given is not None and b"no-cache" in given.lower()
