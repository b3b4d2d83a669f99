"""Plain requests, read and refused by compiled code: at several times the load that can be answered, a refusal's cost decides everything.

A request is plain when it is whole, alone in what was read, a POST to a known path in HTTP/1.1, and says nothing that a refusal would have
to heed: no header of `_TELLING` but the harmless ones, each once. Whatever is not as plain as that goes the usual way.

A refusal takes about 10 microseconds here, most of them in the kernel, and several times as many through the loop.
"""

from typing import NamedTuple

import numpy as np

from kernels.compile import on_cpu
from kernels.types import I32, I64, U8
from serving.ingress.http.headers import MAX_TIMEOUT_MS
from serving.ingress.overload.syscalls import DONT_WAIT, EVENT_BYTES, NO_SIGNAL, SOCKET_AT, epoll_wait, getsockopt, recv, send

READ_BYTES = 64 * 1024  # looked at in one go
ID_DIGITS = 32  # of a request id
GROUP = 16  # sockets of which the last is asked how long it has lain unread: those before it came before it
NOT_PLAIN = -1
NOBODY = -(2**62)  # a limit below every patience: that of who has waited for longer than it wanted to is less than nothing
# What `got` of `refuse` is besides a number of bytes.
GONE, HELD = -1, -2

_CR, _LF, _COLON, _SPACE, _TAB, _ZERO = 13, 10, 58, 32, 9, 48
_MAX_DIGITS = 9
_HEX = np.frombuffer(b"0123456789abcdef", np.uint8)

# Every header that says how a request is to be read, or that a refusal would have to heed; the first three may be there.
_TELLING = (
    *(b"content-length", b"x-request-timeout-ms", b"connection"),
    *(b"transfer-encoding", b"expect", b"upgrade", b"priority", b"x-request-id"),
)
_LENGTH, _TIMEOUT, _CONNECTION, _NOT_TELLING, _MALFORMED = 0, 1, 2, len(_TELLING), -1
_KEEP_ALIVE = np.frombuffer(b"keep-alive", np.uint8)


def table(texts: "tuple[bytes, ...]") -> tuple[U8, I64]:
    """Return texts as uint8 [texts, longest], filled up with zeros, and their lengths int64 [texts]."""
    sizes = np.array([len(text) for text in texts], np.int64)
    rows = np.zeros((len(texts), max(1, sizes.max(initial=1))), np.uint8)
    for row, text in zip(rows, texts, strict=True):
        row[: len(text)] = np.frombuffer(text, np.uint8)
    return rows, sizes


_NAMES, _NAME_SIZES = table(_TELLING)


class Bounds(NamedTuple):
    """What plain requests are read by: request lines of the paths uint8 [paths, longest] and their sizes int64 [paths], then scalars."""

    lines: U8
    sizes: I64
    default_ms: int  # the patience of who states none
    max_bytes: int  # of a body


class Refusals(NamedTuple):
    """For each path: who waits at most `limit_ms` int64 [paths] is refused (NOBODY at first) in the bytes `replies` uint8 [paths, longest].

    `sizes` int64 [paths] are theirs, `marks` int64 [paths, 2] where in them the ID_DIGITS of the request's id belong; `counts` int64
    [paths] is how many were refused. `lain`, int64 [2], is what `min_socket_queue_ms` has found, zeros at first.
    """

    limit_ms: I64
    replies: U8
    sizes: I64
    marks: I64
    counts: I64
    lain: I64


def bounds(paths: "tuple[bytes, ...]", default_ms: int, max_bytes: int) -> Bounds:
    """Return the bounds of plain requests to `paths`."""
    return Bounds(*table(tuple(b"POST %b HTTP/1.1\r\n" % path for path in paths)), default_ms, max_bytes)


def refusals(paths: int, longest: int) -> Refusals:
    """Return what refuses nobody yet, with room for replies of so many bytes."""
    one = np.zeros(paths, np.int64)
    return Refusals(
        np.full(paths, NOBODY, np.int64),
        np.zeros((paths, longest), np.uint8),
        one,
        np.zeros((paths, 2), np.int64),
        one.copy(),
        np.zeros(2, np.int64),
    )


_SOL_TCP, _TCP_INFO = 6, 11
_INFO_BYTES, _LAST_RECEIVED = 104, 52  # of struct tcp_info; tcpi_last_data_recv in it


@on_cpu
def ready(epoll: int, events: U8, sockets: I32) -> int:
    """Write the descriptors that an epoll has news of, at most as many as `sockets`, int32, has room for, and return how many.

    events: uint8 [room * EVENT_BYTES], to work with. Nothing is waited for.
    """
    found = epoll_wait(epoll, events.ctypes, len(sockets), 0)
    for event in range(found):
        at = event * EVENT_BYTES + SOCKET_AT
        sockets[event] = events[at : at + 4].view(np.int32)[0]
    return int(max(found, 0))


@on_cpu
def unread_ms(socket: int) -> int:
    """Return how many milliseconds ago the last bytes came to a TCP socket, read or not, as Linux counts them; 0 where it does not know."""
    info = np.zeros(_INFO_BYTES, np.uint8)
    size = np.full(1, _INFO_BYTES, np.uint32)
    if getsockopt(socket, _SOL_TCP, _TCP_INFO, info.ctypes, size.ctypes) != 0 or size[0] < _LAST_RECEIVED + 4:
        return 0
    return int(info[_LAST_RECEIVED : _LAST_RECEIVED + 4].view(np.uint32)[0])


@on_cpu
def _telling(data: U8, begin: int, end: int) -> int:
    """Return which of _TELLING the header name data[begin:end] is, whatever its case."""
    for name in range(_NOT_TELLING):
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
    return _NOT_TELLING


@on_cpu
def _number(data: U8, begin: int, end: int) -> int:
    """Return the number in data[begin:end], -1 if it is none of at most _MAX_DIGITS digits."""
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
def _is_blank(letter: int) -> bool:
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
    """Return where the CRLF is that ends the line which begins at `at`, -1 where there is none, or another end."""
    end = at
    while end < size and data[end] != _LF:
        end += 1
    return end - 1 if at < end < size and data[end - 1] == _CR else -1


@on_cpu
def _header(data: U8, at: int, end: int) -> tuple[int, int, int]:
    """Return of the header line data[at:end] which of _TELLING it is, _NOT_TELLING or _MALFORMED, and where its value begins and ends."""
    colon = at
    while colon < end and data[colon] != _COLON:
        colon += 1
    if colon in (at, end) or _is_blank(data[at]) or _is_blank(data[colon - 1]):
        return _MALFORMED, at, at
    first, last = colon + 1, end
    while first < last and _is_blank(data[first]):
        first += 1
    while last > first and _is_blank(data[last - 1]):
        last -= 1
    return _telling(data, at, colon), first, last


@on_cpu
def read(data: U8, size: int, bounds: Bounds) -> tuple[int, int]:
    """Return the path, as its number, and the patience in ms of the plain request that data[:size] is; (NOT_PLAIN, 0) if it is none."""
    path = _path(data, size, bounds.lines, bounds.sizes)
    if path == NOT_PLAIN:
        return NOT_PLAIN, 0
    at = bounds.sizes[path]
    length, patience_ms, connections = -1, -1, 0
    end = _line_end(data, at, size)
    while end > at:
        name, first, last = _header(data, at, end)
        if name == _LENGTH and length == -1:
            length = _number(data, first, last)
            is_plain = length >= 0
        elif name == _TIMEOUT and patience_ms == -1:
            patience_ms = _number(data, first, last)
            is_plain = 1 <= patience_ms <= MAX_TIMEOUT_MS
        elif name == _CONNECTION and connections == 0:
            connections = 1
            is_plain = _is_keep_alive(data, first, last)
        else:
            is_plain = name == _NOT_TELLING
        if not is_plain:
            return NOT_PLAIN, 0
        at = end + 2
        end = _line_end(data, at, size)
    if end != at or length != size - at - 2 or length > bounds.max_bytes:
        return NOT_PLAIN, 0
    return path, patience_ms if patience_ms >= 0 else bounds.default_ms


@on_cpu
def _mark(reply: U8, marks: I64) -> None:
    """Write a new request id into a reply, in both places: 128 bits of chance as 32 hex digits."""
    chance = 0
    for digit in range(ID_DIGITS):
        if digit % 8 == 0:
            chance = np.random.randint(0, 1 << 32)
        letter = _HEX[chance & 15]
        reply[marks[0] + digit] = letter
        reply[marks[1] + digit] = letter
        chance >>= 4


@on_cpu
def min_socket_queue_ms(sockets: I32, at: int, lain: I64) -> int:
    """Return for how many ms sockets[at] has lain unread at the least: to ask each costs as much as reading from it.

    sockets: int32 [n], in the order in which bytes came; `lain`: int64 [2], zeros at first: what was found of a group, and where that ends.
    The last of a group may have no bytes but an end, long after its last ones: so it counts for no more than `at`, which has been read.
    """
    if at >= lain[1]:
        lain[1] = min(at + GROUP, len(sockets))
        lain[0] = min(unread_ms(sockets[at]), unread_ms(sockets[lain[1] - 1]))
    return int(lain[0])


@on_cpu
def refuse(sockets: I32, start: int, held: U8, data: U8, bounds: Bounds, refusals: Refusals) -> tuple[int, int, int, int, int, int]:
    """Read from `sockets` [start:] and refuse plain requests until one must be looked at.

    Return (its index, got, path, left_ms, socket_queue_ms, sent). sockets: int32 [n], TCP; the index is n where all were refused. got: how
    many bytes of it are in `data`, uint8 [READ_BYTES], or GONE: nothing came, since the peer has closed or there was nothing; or HELD:
    held[socket], uint8, said not to read. path is as of `read`, and left_ms what is left of the patience after socket_queue_ms of lying
    unread. sent: -1, or of a refusal how many bytes the kernel took, where that was less than all of them.
    """
    for at in range(start, len(sockets)):
        socket = sockets[at]
        if held[socket]:
            return at, HELD, NOT_PLAIN, 0, 0, -1
        got = recv(socket, data.ctypes, len(data), DONT_WAIT)
        if got <= 0:
            return at, GONE, NOT_PLAIN, 0, 0, -1
        path, patience_ms = read(data, got, bounds)
        if path == NOT_PLAIN:
            return at, got, path, 0, 0, -1
        limit_ms = refusals.limit_ms[path]
        socket_queue_ms = 0
        if patience_ms > limit_ms and patience_ms - min_socket_queue_ms(sockets, at, refusals.lain) > limit_ms:
            socket_queue_ms = unread_ms(socket)
            if patience_ms - socket_queue_ms > limit_ms:
                return at, got, path, patience_ms - socket_queue_ms, socket_queue_ms, -1
        reply, size = refusals.replies[path], refusals.sizes[path]
        _mark(reply, refusals.marks[path])
        sent = send(socket, reply.ctypes, size, DONT_WAIT | NO_SIGNAL)
        refusals.counts[path] += 1
        if sent != size:
            return at, got, path, patience_ms - socket_queue_ms, socket_queue_ms, max(sent, 0)
    return len(sockets), GONE, NOT_PLAIN, 0, 0, -1
