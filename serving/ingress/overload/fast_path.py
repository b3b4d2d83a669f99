"""Plain requests, read and refused by compiled code: at several times the load that can be answered, the cost of a refusal decides.

A request is plain when it is whole, the only one in what was read, a POST to a known path in HTTP/1.1, and has no header that a refusal
would have to obey: none of `_SPECIAL` but the first three, each once, and `Origin` where every response is the same for all origins. Every
other request is parsed as usual.

A refusal takes about 10 microseconds here, most of them in the kernel, and several times as many through the event loop.
"""

from typing import NamedTuple

import numpy as np

from kernels.compile import on_cpu
from kernels.types import I32, I64, U8
from serving.ingress.http.headers import MAX_TIMEOUT_MS
from serving.ingress.overload.syscalls import DONT_WAIT, EVENT_BYTES, NO_SIGNAL, SOCKET_AT, epoll_wait, getsockopt, recv, send

READ_BYTES = 64 * 1024  # read from a socket at a time
MAX_IDS = 1024  # request ids of refusals that are kept for the log of one pass
ID_DIGITS = 32  # of a request id
GROUP = 16  # sockets for which only the last is asked how long its bytes have waited: those before it have waited longer
NOT_PLAIN = -1
REFUSE_NONE = -(2**62)  # a limit below the time that any request has left, which is negative once its timeout has passed
# Values of `got` of `refuse` besides a number of bytes.
GONE, HELD = -1, -2

_CR, _LF, _COLON, _SPACE, _TAB, _ZERO = 13, 10, 58, 32, 9, 48
_MAX_DIGITS = 9
_HEX = np.frombuffer(b"0123456789abcdef", np.uint8)

# Headers that decide how a request is read, or that a refusal would have to obey. A plain request may have the first three.
_SPECIAL = (
    *(b"content-length", b"x-request-timeout-ms", b"connection"),
    *(b"transfer-encoding", b"expect", b"upgrade", b"priority", b"x-request-id", b"origin"),
)
_LENGTH, _TIMEOUT, _CONNECTION, _ORIGIN, _ORDINARY, _MALFORMED = 0, 1, 2, len(_SPECIAL) - 1, len(_SPECIAL), -1
_KEEP_ALIVE = np.frombuffer(b"keep-alive", np.uint8)


def table(texts: "tuple[bytes, ...]") -> tuple[U8, I64]:
    """Return texts as uint8 [texts, longest], filled up with zeros, and their lengths int64 [texts]."""
    sizes = np.array([len(text) for text in texts], np.int64)
    rows = np.zeros((len(texts), max(1, sizes.max(initial=1))), np.uint8)
    for row, text in zip(rows, texts, strict=True):
        row[: len(text)] = np.frombuffer(text, np.uint8)
    return rows, sizes


_NAMES, _NAME_SIZES = table(_SPECIAL)


class Bounds(NamedTuple):
    """What defines a plain request: the request lines of the paths uint8 [paths, longest] and their sizes int64 [paths], then scalars."""

    lines: U8
    sizes: I64
    default_ms: int  # the timeout of a request without a timeout header
    max_bytes: int  # of a body
    by_origin: bool = False  # whether a response depends on the Origin of its request


class Refusals(NamedTuple):
    """For each path: a request with at most `limit_ms` int64 [paths] left is refused with the bytes `replies` uint8 [paths, longest].

    `limit_ms` is REFUSE_NONE at first. `sizes` int64 [paths] are the lengths of the replies, `id_offsets` int64 [paths, 2] where the
    ID_DIGITS of the request id belong in them; `counts` int64 [paths] is how many requests were refused. `group_ms`, int64 [2], holds the
    result of `min_socket_queue_ms`, zeros at first. `ids` uint8 [MAX_IDS, ID_DIGITS] are the request ids of the first refusals of a pass
    and `id_paths` int64 [MAX_IDS] their paths; `kept` int64 [1] is how many there are.
    """

    limit_ms: I64
    replies: U8
    sizes: I64
    id_offsets: I64
    counts: I64
    group_ms: I64
    ids: U8
    id_paths: I64
    kept: I64


def bounds(paths: "tuple[bytes, ...]", default_ms: int, max_bytes: int, by_origin: bool = False) -> Bounds:
    """Return the bounds of plain requests to `paths`."""
    return Bounds(*table(tuple(b"POST %b HTTP/1.1\r\n" % path for path in paths)), default_ms, max_bytes, by_origin)


def refusals(paths: int, longest: int) -> Refusals:
    """Return refusals for `paths` routes that refuse no request yet, with room for replies of `longest` bytes."""
    one = np.zeros(paths, np.int64)
    return Refusals(
        np.full(paths, REFUSE_NONE, np.int64),
        np.zeros((paths, longest), np.uint8),
        one,
        np.zeros((paths, 2), np.int64),
        one.copy(),
        np.zeros(2, np.int64),
        np.zeros((MAX_IDS, ID_DIGITS), np.uint8),
        np.zeros(MAX_IDS, np.int64),
        np.zeros(1, np.int64),
    )


_SOL_TCP, _TCP_INFO = 6, 11
_INFO_BYTES, _LAST_RECEIVED = 104, 52  # of struct tcp_info; tcpi_last_data_recv in it


@on_cpu
def ready(epoll: int, events: U8, sockets: I32) -> int:
    """Write the descriptors that an epoll reports as readable into `sockets` and return how many; it does not wait.

    sockets: int32 [n], of which at most n are written; events: uint8 [n * EVENT_BYTES], scratch space.
    """
    found = epoll_wait(epoll, events.ctypes, len(sockets), 0)
    for event in range(found):
        at = event * EVENT_BYTES + SOCKET_AT
        sockets[event] = events[at : at + 4].view(np.int32)[0]
    return int(max(found, 0))


@on_cpu
def unread_ms(socket: int) -> int:
    """Return how many milliseconds ago the last bytes arrived at a TCP socket, read or not; 0 where the system does not report it."""
    info = np.zeros(_INFO_BYTES, np.uint8)
    size = np.full(1, _INFO_BYTES, np.uint32)
    if getsockopt(socket, _SOL_TCP, _TCP_INFO, info.ctypes, size.ctypes) != 0 or size[0] < _LAST_RECEIVED + 4:
        return 0
    return int(info[_LAST_RECEIVED : _LAST_RECEIVED + 4].view(np.uint32)[0])


@on_cpu
def _special(data: U8, begin: int, end: int) -> int:
    """Return the index in _SPECIAL of the header name data[begin:end] in any case, _ORDINARY if it is not there."""
    for name in range(_ORDINARY):
        if _NAME_SIZES[name] != end - begin:
            continue
        same = True
        for i in range(end - begin):
            letter = data[begin + i]
            if 65 <= letter <= 90:
                letter += 32
            if letter != _NAMES[name, i]:
                same = False
                break
        if same:
            return name
    return _ORDINARY


@on_cpu
def _number(data: U8, begin: int, end: int) -> int:
    """Return the number in data[begin:end], -1 if it is not one of at most _MAX_DIGITS digits."""
    if not 1 <= end - begin <= _MAX_DIGITS:
        return -1
    number = 0
    for i in range(begin, end):
        digit = data[i] - _ZERO
        if not 0 <= digit <= 9:
            return -1
        number = number * 10 + digit
    return number


@on_cpu
def _is_keep_alive(data: U8, begin: int, end: int) -> bool:
    if end - begin != len(_KEEP_ALIVE):
        return False
    same = True
    for i in range(end - begin):
        same &= data[begin + i] | 32 == _KEEP_ALIVE[i]  # the bit of lower case, which a hyphen has already
    return same


@on_cpu
def _is_space(letter: int) -> bool:
    return letter in (_SPACE, _TAB)


@on_cpu
def _path(data: U8, size: int, lines: U8, sizes: I64) -> int:
    for path in range(len(sizes)):
        if size < sizes[path]:
            continue
        same = True
        for i in range(sizes[path]):
            if data[i] != lines[path, i]:
                same = False
                break
        if same:
            return path
    return NOT_PLAIN


@on_cpu
def _line_end(data: U8, at: int, size: int) -> int:
    """Return the index of the CRLF that ends the line beginning at `at`, -1 where the line has no end or another one."""
    end = at
    while end < size and data[end] != _LF:
        end += 1
    return end - 1 if at < end < size and data[end - 1] == _CR else -1


@on_cpu
def _header(data: U8, at: int, end: int) -> tuple[int, int, int]:
    """Return the index in _SPECIAL (or _ORDINARY, _MALFORMED) of the header line data[at:end], and where its value begins and ends."""
    colon = at
    while colon < end and data[colon] != _COLON:
        colon += 1
    if colon in (at, end) or _is_space(data[at]) or _is_space(data[colon - 1]):
        return _MALFORMED, at, at
    first, last = colon + 1, end
    while first < last and _is_space(data[first]):
        first += 1
    while last > first and _is_space(data[last - 1]):
        last -= 1
    return _special(data, at, colon), first, last


@on_cpu
def read(data: U8, size: int, bounds: Bounds) -> tuple[int, int]:
    """Return the index of the path and the timeout in ms of the plain request data[:size]; (NOT_PLAIN, 0) if it is not plain."""
    path = _path(data, size, bounds.lines, bounds.sizes)
    if path == NOT_PLAIN:
        return NOT_PLAIN, 0
    at = bounds.sizes[path]
    length, timeout_ms, connections = -1, -1, 0
    end = _line_end(data, at, size)
    while end > at:
        name, first, last = _header(data, at, end)
        if name == _LENGTH and length == -1:
            length = _number(data, first, last)
            is_plain = length >= 0
        elif name == _TIMEOUT and timeout_ms == -1:
            timeout_ms = _number(data, first, last)
            is_plain = 1 <= timeout_ms <= MAX_TIMEOUT_MS
        elif name == _CONNECTION and connections == 0:
            connections = 1
            is_plain = _is_keep_alive(data, first, last)
        else:
            is_plain = name == _ORDINARY or (name == _ORIGIN and not bounds.by_origin)
        if not is_plain:
            return NOT_PLAIN, 0
        at = end + 2
        end = _line_end(data, at, size)
    if end != at or length != size - at - 2 or length > bounds.max_bytes:
        return NOT_PLAIN, 0
    return path, timeout_ms if timeout_ms >= 0 else bounds.default_ms


@on_cpu
def _write_id(reply: U8, id_offsets: I64) -> None:
    """Write a new request id into both places of a reply: 128 random bits as 32 hex digits."""
    bits = 0
    for digit in range(ID_DIGITS):
        if digit % 8 == 0:
            bits = np.random.randint(0, 1 << 32)
        letter = _HEX[bits & 15]
        reply[id_offsets[0] + digit] = letter
        reply[id_offsets[1] + digit] = letter
        bits >>= 4


@on_cpu
def _keep_id(refusals: Refusals, path: int) -> None:
    """Keep the request id of the reply to be sent, if there is room."""
    kept = refusals.kept[0]
    if kept < len(refusals.ids):
        begin = refusals.id_offsets[path, 0]
        refusals.ids[kept] = refusals.replies[path, begin : begin + ID_DIGITS]
        refusals.id_paths[kept] = path
        refusals.kept[0] = kept + 1


@on_cpu
def min_socket_queue_ms(sockets: I32, at: int, group_ms: I64) -> int:
    """Return the least number of ms for which the bytes of sockets[at] can have waited. To ask for each costs as much as to read it.

    sockets: int32 [n], in the order in which bytes arrived. group_ms: int64 [2], zeros at first: the result for a group of sockets, and the
    index where the group ends. The last socket of a group may only have been closed, long after its last bytes, so its time is bounded by
    that of the first, whose request has been read.
    """
    if at >= group_ms[1]:
        group_ms[1] = min(at + GROUP, len(sockets))
        group_ms[0] = min(unread_ms(sockets[at]), unread_ms(sockets[group_ms[1] - 1]))
    return int(group_ms[0])


@on_cpu
def refuse(sockets: I32, start: int, held: U8, data: U8, bounds: Bounds, refusals: Refusals) -> tuple[int, int, int, int, int, int]:
    """Read from sockets[start:] and refuse plain requests, up to the first one that Python code has to decide on.

    Return (its index, got, path, left_ms, socket_queue_ms, sent). sockets: int32 [n], TCP; the index is n where all were refused. got: how
    many bytes of it are in `data`, uint8 [READ_BYTES]; or GONE: the client has closed the connection, or there was nothing to read; or
    HELD: held[socket], uint8, is set, and it was not read. path: as `read` returns it. left_ms: the timeout less socket_queue_ms, the time
    that the request has waited in the socket. sent: -1, or how many bytes of a refusal the kernel took, where it did not take all of them.
    """
    for at in range(start, len(sockets)):
        socket = sockets[at]
        if held[socket]:
            return at, HELD, NOT_PLAIN, 0, 0, -1
        got = recv(socket, data.ctypes, len(data), DONT_WAIT)
        if got <= 0:
            return at, GONE, NOT_PLAIN, 0, 0, -1
        path, timeout_ms = read(data, got, bounds)
        if path == NOT_PLAIN:
            return at, got, path, 0, 0, -1
        limit_ms = refusals.limit_ms[path]
        socket_queue_ms = 0
        if timeout_ms > limit_ms and timeout_ms - min_socket_queue_ms(sockets, at, refusals.group_ms) > limit_ms:
            socket_queue_ms = unread_ms(socket)
            if timeout_ms - socket_queue_ms > limit_ms:
                return at, got, path, timeout_ms - socket_queue_ms, socket_queue_ms, -1
        reply, size = refusals.replies[path], refusals.sizes[path]
        _write_id(reply, refusals.id_offsets[path])
        _keep_id(refusals, path)
        sent = send(socket, reply.ctypes, size, DONT_WAIT | NO_SIGNAL)
        refusals.counts[path] += 1
        if sent != size:
            return at, got, path, timeout_ms - socket_queue_ms, socket_queue_ms, max(sent, 0)
    return len(sockets), GONE, NOT_PLAIN, 0, 0, -1
