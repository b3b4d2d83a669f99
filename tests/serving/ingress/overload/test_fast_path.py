"""The compiled fast path: it reads requests as regular expressions do, refuses complete ones, and hands over all others."""

import re
import socket

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.ingress.http.headers import MAX_TIMEOUT_MS
from serving.ingress.overload import fast_path

PATHS = (b"/v1/a", b"/v1/longer")
DEFAULT_MS, MAX_BYTES = 1000, 100
BOUNDS = fast_path.bounds(PATHS, DEFAULT_MS, MAX_BYTES)
HEADERS = (
    "content-length",
    "X-Request-Timeout-Ms",
    "CONNECTION",
    "transfer-encoding",
    "expect",
    "Upgrade",
    "priority",
    "x-request-id",
    "Origin",
    "a",
)
VALUES = ("5", "05", "0", "60000", "60001", "1e3", "", " 5\t", "keep-alive", "Keep-Alive", "close", "9" * 12, "-5")


def naive(data: bytes, by_origin: bool) -> tuple[int, int]:
    """Return what `fast_path.read` returns, by regular expressions."""
    special = [name for name in fast_path._SPECIAL if name != b"origin" or by_origin]
    head, end, body = data.partition(b"\r\n\r\n")
    line, *fields = head.split(b"\r\n")
    paths = [b"POST %b HTTP/1.1" % path for path in PATHS]
    if not end or line not in paths or b"\n" in head.replace(b"\r\n", b""):
        return fast_path.NOT_PLAIN, 0
    parsed: dict[bytes, bytes] = {}
    for field in fields:
        found = re.fullmatch(rb"([^ \t:](?:[^:]*[^ \t:])?):[ \t]*(.*?)[ \t]*", field, re.DOTALL)
        if found is None or (found[1].lower() in special and found[1].lower() in parsed):
            return fast_path.NOT_PLAIN, 0
        parsed[found[1].lower()] = found[2]
    length, timeout = parsed.get(b"content-length", b""), parsed.get(b"x-request-timeout-ms", b"%d" % DEFAULT_MS)
    if not re.fullmatch(rb"\d{1,9}", length) or not re.fullmatch(rb"\d{1,9}", timeout) or int(length) != len(body) or len(body) > MAX_BYTES:
        return fast_path.NOT_PLAIN, 0
    if not 1 <= int(timeout) <= MAX_TIMEOUT_MS or parsed.get(b"connection", b"keep-alive").lower() != b"keep-alive":
        return fast_path.NOT_PLAIN, 0
    if parsed.keys() & set(special[3:]):
        return fast_path.NOT_PLAIN, 0
    return paths.index(line), int(timeout)


def read(data: bytes, by_origin: bool = False) -> tuple[int, int]:
    return fast_path.read(np.frombuffer(data, np.uint8), len(data), BOUNDS._replace(by_origin=by_origin))


def request(fields: list[tuple[str, str]], body: bytes = b"12345", path: bytes = PATHS[0]) -> bytes:
    head = "".join(f"{name}:{value}\r\n" for name, value in fields)
    return b"POST %b HTTP/1.1\r\n%b\r\n%b" % (path, head.encode(), body)


fields = st.lists(st.tuples(st.sampled_from(HEADERS), st.sampled_from(VALUES)), max_size=5)


@settings(deadline=None)  # the first compiles
@given(fields, st.sampled_from(PATHS), st.sampled_from([b"", b"12345", b"x" * 101]), st.booleans())
def test_a_request_is_read_as_by_the_naive_reader(fields, path, body, right):
    data = request([*fields, ("Content-Length", f" {len(body)}")] if right else fields, body, path)
    for by_origin in (False, True):
        assert read(data, by_origin) == naive(data, by_origin)


@given(fields, st.integers(0, 90), st.sampled_from([b"\r", b"\n", b":", b" ", b"\t", b"\0", b"\xff", b"\r\n"]), st.integers(0, 3))
def test_altered_bytes_are_read_as_by_the_naive_reader(fields, at, junk, removed):
    data = request([*fields, ("Content-Length", "5")])
    altered = data[:at] + junk + data[at + removed :]
    for by_origin in (False, True):
        assert read(altered, by_origin) == naive(altered, by_origin)


def test_an_incomplete_request_is_not_a_request():
    data = request([("Content-Length", "5")])
    assert read(data) == (0, DEFAULT_MS)
    assert {read(data[:size]) for size in range(len(data))} == {(fast_path.NOT_PLAIN, 0)}


@pytest.fixture
def pairs():
    """Yield three TCP connections: (caller, server's end) each."""
    with socket.create_server(("127.0.0.1", 0)) as listening_socket:
        ends = [(socket.create_connection(listening_socket.getsockname()), listening_socket.accept()[0]) for _ in range(3)]
        yield ends
        for pair in ends:
            for end in pair:
                end.close()


class Refusing:
    """`refuse` with its arguments: a request for the second path with at most `limit_ms` left is answered with REPLY."""

    REPLY = b"no " + bytes(fast_path.ID_DIGITS) + b" sorry " + bytes(fast_path.ID_DIGITS)

    def __init__(self, limit_ms: int, reply: bytes = REPLY) -> None:
        self.held = np.zeros(4096, np.uint8)
        self.data = np.zeros(fast_path.READ_BYTES, np.uint8)
        self.refusals = fast_path.refusals(len(PATHS), len(reply))
        self.refusals.replies[1, :] = np.frombuffer(reply, np.uint8)
        self.refusals.sizes[1], self.refusals.id_offsets[1], self.refusals.limit_ms[1] = len(reply), (3, 42), limit_ms

    def __call__(self, ends: list[socket.socket], start: int = 0) -> tuple[int, int, int, int, int, int]:
        sockets = np.array([end.fileno() for end in ends], np.int32)
        return fast_path.refuse(sockets, start, self.held, self.data, BOUNDS, self.refusals)


def timed(milliseconds: int) -> bytes:
    return request([("X-Request-Timeout-Ms", str(milliseconds)), ("Content-Length", "5")], path=PATHS[1])


def test_requests_with_short_timeouts_are_refused_and_the_first_with_a_longer_one_is_handed_over(pairs):
    refuse, ends = Refusing(500), [end for _, end in pairs]
    for (caller, _), timeout_ms in zip(pairs, (400, 20_000, 300), strict=True):
        caller.sendall(timed(timeout_ms))
    at, got, path, left_ms, socket_queue_ms, sent = refuse(ends)
    assert (at, got, path, sent) == (1, len(timed(20_000)), 1, -1)
    assert 15_000 < left_ms <= 20_000
    assert left_ms + socket_queue_ms == 20_000
    assert bytes(refuse.data[:got]) == timed(20_000)
    assert refuse(ends, 2)[0] == 3
    assert refuse.refusals.counts.tolist() == [0, 2]
    replies = [pairs[i][0].recv(1000) for i in (0, 2)]
    ids = [re.fullmatch(rb"no ([0-9a-f]{32}) sorry (\1)", reply)[1] for reply in replies]
    assert len(set(ids)) == 2


def test_no_request_is_refused_before_the_batcher_refused_one_not_even_one_past_its_deadline(pairs):
    (caller, end), refuse = pairs[0], Refusing(fast_path.REFUSE_NONE)
    caller.sendall(timed(1))
    while fast_path.unread_ms(end.fileno()) < 20:
        pass
    at, _, path, left_ms, socket_queue_ms, _ = refuse([end])
    assert (at, path, refuse.refusals.counts.sum()) == (0, 1, 0)
    assert left_ms == 1 - socket_queue_ms < 0


def test_other_paths_other_requests_and_closed_connections_are_handed_over(pairs):
    refuse, ends = Refusing(10**6), [end for _, end in pairs]
    pairs[0][0].sendall(request([("Content-Length", "5")]))
    pairs[1][0].sendall(b"GET / HTTP/1.1\r\n")
    pairs[2][0].close()
    assert refuse(ends)[:3] == (0, len(request([("Content-Length", "5")])), 0)
    assert refuse(ends, 1)[:3] == (1, 16, fast_path.NOT_PLAIN)
    assert refuse(ends, 2)[:3] == (2, fast_path.GONE, fast_path.NOT_PLAIN)


def test_a_held_connection_is_not_read_from(pairs):
    (caller, end), refuse = pairs[0], Refusing(10**6)
    refuse.held[end.fileno()] = 1
    caller.sendall(timed(1))
    assert refuse([end])[:2] == (0, fast_path.HELD)
    assert end.recv(1000) == timed(1)


def test_a_refusal_that_is_written_in_part_is_reported(pairs):
    (caller, end), reply = pairs[0], Refusing.REPLY + bytes(8_000_000)
    refuse = Refusing(10**6, reply)
    caller.sendall(timed(1))
    at, _, path, _, _, sent = refuse([end])
    assert (at, path) == (0, 1)
    assert 0 < sent < len(reply)


def test_the_estimated_unread_time_is_never_longer_than_the_real_one(pairs):
    """Nor where the last connection was closed long after its last bytes."""
    pairs[2][0].sendall(b"x")
    pairs[2][1].recv(10)
    for caller, end in pairs[:2]:
        caller.sendall(b"x")
        while fast_path.unread_ms(end.fileno()) < 20:
            pass
    pairs[2][0].close()
    sockets = np.array([end.fileno() for _, end in pairs], np.int32)
    queued_ms = np.zeros(2, np.int64)
    least = [fast_path.min_socket_queue_ms(sockets[:2], at, queued_ms) for at in range(2)]
    assert all(ms <= fast_path.unread_ms(socket) for ms, socket in zip(least, sockets[:2], strict=True))
    assert queued_ms.tolist() == [least[0], 2]
    ended = np.zeros(2, np.int64)
    assert 20 <= fast_path.min_socket_queue_ms(sockets, 1, ended) <= fast_path.unread_ms(sockets[1]) <= fast_path.unread_ms(sockets[2])


def test_the_unread_time_grows_and_is_zero_for_other_sockets_than_tcp(pairs):
    caller, end = pairs[0]
    caller.sendall(b"x")
    ages = [fast_path.unread_ms(end.fileno())]
    while ages[-1] < 50:
        ages.append(fast_path.unread_ms(end.fileno()))
    assert ages == sorted(ages)
    one, other = socket.socketpair()
    with one, other:
        assert fast_path.unread_ms(one.fileno()) == 0
