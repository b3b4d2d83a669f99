"""What the headers of a request state: request id, content type and codings, timeout, priority, freshness, host."""

import random
import re
from collections.abc import Mapping, Sequence

from serving.errors import FieldProblem, InvalidRequestError, MalformedRequestError, UnsupportedMediaTypeError

Headers = Mapping[bytes, bytes]  # names in lower case

AUTHORIZATION = b"authorization"
MAX_TIMEOUT_MS = 60_000
TIMEOUT = "X-Request-Timeout-Ms"
_TIMEOUT = TIMEOUT.lower().encode()

_SANE_ID = re.compile(rb"[!-~](?:[ -~]{0,126}[!-~])?").fullmatch
_URGENCY = re.compile(rb"(?:^|,)\s*u=([0-7])\s*(?:,|$)").search
# RFC 9110 5.6.6: parameters may be empty. The charset must be UTF-8 (RFC 8259 8.1); JSON defines no parameter, and others are ignored.
_CHARSET = rb'charset\s*=\s*"?utf-?8"?'
_OTHER = rb'(?!charset\s*=)[!#$%&\'*+.^_`|~0-9a-z-]+\s*=\s*(?:[!#$%&\'*+.^_`|~0-9a-z-]+|"(?:[^"\\]|\\.)*")'
_JSON = re.compile(rb"application/json\s*(?:;\s*(?:(?:%b|%b)\s*)?)*" % (_CHARSET, _OTHER), re.IGNORECASE).fullmatch
CONTENT_ENCODING, ACCEPT_ENCODING = b"content-encoding", b"accept-encoding"
_GZIP = (b"gzip", b"x-gzip")  # RFC 9110 8.4.1.3: the same
# RFC 9112 3.2, RFC 3986 3.2.2: a name or an address, perhaps with a port; empty where the target has no authority.
_HOST = re.compile(rb"(?:[a-z0-9._~!$&'()*+,;=-]|%[0-9a-f]{2})*(?::[0-9]*)?|\[[0-9a-f:.v]+\](?::[0-9]*)?", re.IGNORECASE).fullmatch


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
    if CONTENT_ENCODING in headers and content_codings(headers):
        raise unsupported_coding(headers)


def content_codings(headers: Headers) -> Sequence[bytes]:
    """Return the codings of the body in the order in which they were applied, in lower case, without `identity`."""
    return [coding for each in headers[CONTENT_ENCODING].split(b",") if (coding := each.strip().lower()) not in (b"", b"identity")]


def is_gzip(codings: Sequence[bytes]) -> bool:
    """Return whether a body with these codings is compressed once, with gzip."""
    return len(codings) == 1 and codings[0] in _GZIP


def unsupported_coding(headers: Headers) -> UnsupportedMediaTypeError:
    """Return the error for a body with other codings than gzip."""
    shown = headers[CONTENT_ENCODING][:100].decode("ascii", "replace")
    return UnsupportedMediaTypeError(f"Content-Encoding is {shown}; send the body compressed with gzip, or as it is")


def accepts_gzip(headers: Headers) -> bool:
    """Return whether the caller accepts gzip for a response (RFC 9110 12.5.3): with a weight above 0, and not below that of identity."""
    given = headers.get(ACCEPT_ENCODING)
    if given is None:
        return False
    weights: dict[bytes, float] = {}
    for each in given.lower().split(b","):
        coding, *parameters = (part.strip() for part in each.split(b";"))
        weights[b"gzip" if coding in _GZIP else coding] = _weight(parameters)
    gzip = weights.get(b"gzip", weights.get(b"*", 0.0))
    return gzip > 0 and gzip >= weights.get(b"identity", 0.0)


def _weight(parameters: Sequence[bytes]) -> float:
    """Return the `q` of an element of a list, 1 where it has none; 0 where it is not a number."""
    for parameter in parameters:
        if parameter.startswith(b"q="):
            try:
                return float(parameter[2:])
            except ValueError:
                return 0.0
    return 1.0


def check_host(headers: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Return the Host of an HTTP/1.1 request. Raises MalformedRequestError unless there is exactly one, and a valid one (RFC 9112 3.2)."""
    hosts = [value for name, value in headers if name == b"host"]
    if len(hosts) != 1:
        raise MalformedRequestError(f"the request has {len(hosts)} Host headers; HTTP/1.1 requires one (RFC 9112 3.2)")
    if not _HOST(hosts[0]):
        raise MalformedRequestError(
            f"the Host header {hosts[0][:100]!r} is neither a name nor an address with an optional port (RFC 9112 3.2)"
        )
    return hosts[0]


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
