"""The overload reader: refused connections are refused again cheaply, answered as soon as possible, and no request is overtaken or lost."""

import contextlib
import dataclasses
import fcntl
import termios
import time
from collections.abc import Iterator

import msgspec
import pytest

from serving.errors import OverloadedError
from serving.ingress.http.lifecycle import State
from serving.ingress.overload.reader import OverloadReader
from serving.ingress.overload.shedder import Shedder
from tests.serving.wire import LOOPS, PATH, Caller, DeferredRoute, Serving, cold, request, serving, table


class FullQuestion:
    """A question that refuses requests with less than `limit_s` left."""

    def __init__(self) -> None:
        self.limit_s, self.pressed, self.judged, self.likewise = 50.0, True, 0, 0

    def shed(self, deadline: float) -> OverloadedError | None:
        self.judged += 1
        return OverloadedError("7 requests wait already", 3.2) if deadline - time.monotonic() < self.limit_s else None

    def shed_likewise(self, times: int) -> None:
        self.likewise += times


class FullServer:
    """A server with an overload reader, a question that is full, and a route that answers in `release`."""

    def __init__(self, server: Serving, reader: OverloadReader, full: FullQuestion, route: DeferredRoute) -> None:
        self.server, self.reader, self.full, self.route = server, reader, full, route

    def wait_connections(self, number: int) -> None:
        """Wait until the overload reader has `number` connections."""
        self.server.until(lambda: self.reader.size == number)

    def wait_requests(self, number: int) -> None:
        """Wait until the route has `number` requests to answer."""
        self.server.until(lambda: len(self.route.replies) == number)

    def send_all(self, callers: list[Caller]) -> None:
        """Send from all callers, the one with the longest timeout first, and wait until each connection can be read from."""
        callers[0].send(request(b"two", b"X-Request-Timeout-Ms: 2000"))
        for caller in callers[1:]:
            caller.send(PLAIN)
        while not all(fcntl.ioctl(socket, termios.FIONREAD, bytes(4)) != bytes(4) for socket in self.reader._connections):
            pass

    def release(self) -> None:
        self.server.call(self.route.release)


@contextlib.contextmanager
def full_server(loop: str) -> Iterator[FullServer]:
    full, route, state = FullQuestion(), DeferredRoute(), State(ready=True)
    reader = OverloadReader(Shedder({PATH: full}, 1000, 100_000))
    with serving(cold, dataclasses.replace(table(route, state), overload_reader=reader), state, loop) as server:
        yield FullServer(server, reader, full, route)


each_loop = pytest.mark.parametrize("loop", LOOPS)
PLAIN = request(b"one")
LONG_TIMEOUT = request(b"long", b"X-Request-Timeout-Ms: 60000")


@each_loop
def test_a_refused_connection_is_refused_by_the_reader_with_the_same_problem(loop):
    with full_server(loop) as at, Caller(at.server.port) as caller:
        answers = []
        for _ in range(4):
            answers.append(caller.send(PLAIN).answer())
            at.wait_connections(1)
        assert {(status, headers["retry-after"]) for status, headers, _ in answers} == {(429, "4")}
        problems = [msgspec.json.decode(body) for _, _, body in answers]
        assert len({problem.pop("requestId") for problem in problems}) == 4
        assert all(problem == problems[0] for problem in problems)
        assert at.full.judged + at.full.likewise == 4


@each_loop
def test_each_of_many_requests_is_refused_and_counted_once(loop):
    with full_server(loop) as at:
        callers = [Caller(at.server.port) for _ in range(40)]
        for _ in range(5):
            for caller in callers:
                caller.send(PLAIN)
            assert {caller.answer()[0] for caller in callers} == {429}
            at.wait_connections(40)
        assert at.full.judged + at.full.likewise == 200
        for caller in callers:
            caller.sock.close()
        at.wait_connections(0)


@each_loop
def test_all_waiting_requests_are_read_in_one_iteration(loop):
    """Else they would wait while other requests are scored and answered, again and again, until their deadlines."""
    with full_server(loop) as at, contextlib.ExitStack() as stack:
        callers = [stack.enter_context(Caller(at.server.port)) for _ in range(400)]
        for caller in callers:
            assert caller.send(PLAIN).answer()[0] == 429
        at.wait_connections(400)
        judged = at.full.judged
        at.server.call(lambda: at.send_all(callers))  # on the loop: before the next read
        assert {caller.answer()[0] for caller in callers} == {429}
        at.wait_connections(400)
        assert at.full.judged == judged + 1  # of each read the first
        assert at.full.judged + at.full.likewise == 800


@each_loop
def test_a_request_past_its_deadline_is_still_refused(loop):
    with full_server(loop) as at, Caller(at.server.port) as caller:
        assert caller.send(PLAIN).answer()[0] == 429
        at.wait_connections(1)
        at.server.call(lambda: time.sleep(0.05))  # the loop is busy past the deadline
        caller.send(request(b"late", b"X-Request-Timeout-Ms: 1"))
        assert caller.answer()[0] == 429


@each_loop
def test_a_route_gets_the_seconds_that_its_request_was_unread(loop):
    with full_server(loop) as at, Caller(at.server.port) as caller:
        assert caller.send(PLAIN).answer()[0] == 429
        at.wait_connections(1)

        def block() -> None:
            caller.send(LONG_TIMEOUT)
            time.sleep(0.05)

        at.server.call(block)
        at.wait_requests(1)
        assert 0.03 <= at.route.unread_s[0] < 20
        at.release()
        assert caller.answer()[0] == 200


@each_loop
def test_a_request_that_can_be_answered_is_answered_and_the_next_one_refused(loop):
    with full_server(loop) as at, Caller(at.server.port) as caller:
        assert caller.send(PLAIN).answer()[0] == 429
        at.wait_connections(1)
        caller.send(LONG_TIMEOUT)
        at.wait_requests(1)
        at.release()
        assert caller.answer()[::2] == (200, b"long")
        assert caller.send(PLAIN).answer()[0] == 429
        at.wait_connections(1)


@each_loop
def test_a_request_does_not_overtake_the_one_before_it(loop):
    with full_server(loop) as at, Caller(at.server.port) as caller:
        assert caller.send(PLAIN).answer()[0] == 429
        at.wait_connections(1)
        caller.send(LONG_TIMEOUT)
        at.wait_requests(1)
        caller.send(PLAIN)
        at.wait_connections(0)  # the loop keeps it until the first is answered
        at.release()
        assert caller.answer()[::2] == (200, b"long")
        at.wait_requests(1)
        at.release()
        assert caller.answer()[::2] == (200, b"one")


@each_loop
def test_when_the_overload_ends_the_loop_reads_again(loop):
    with full_server(loop) as at, Caller(at.server.port) as caller:
        assert caller.send(PLAIN).answer()[0] == 429
        at.wait_connections(1)
        at.full.pressed = False
        for _ in range(2):
            caller.send(PLAIN)
            at.wait_requests(1)
            assert at.reader.size == 0
            at.release()
            assert caller.answer()[0] == 200


@each_loop
@pytest.mark.parametrize(
    "parts",
    [
        (PLAIN[:20], PLAIN[20:]),
        (PLAIN + PLAIN,),
        (request(b"x" * 90_000),),
        (request(b"one", b"X-Request-Id: mine"),),
        (request(b"one", b"Connection: close"),),
        (request(b"one", path=b"/cold"),),
    ],
    ids=["in pieces", "two at once", "large", "named", "the last", "elsewhere"],
)
def test_requests_that_are_not_plain_are_read_by_the_loop_completely_and_in_order(loop, parts):
    with full_server(loop) as at, Caller(at.server.port) as caller:
        assert caller.send(PLAIN).answer()[0] == 429
        at.wait_connections(1)
        caller.send(parts[0])
        at.wait_connections(0)
        caller.send(*parts[1:])
        if b"/cold" not in parts[0]:
            at.wait_requests(1)
            at.release()
        status, headers, body = caller.answer()
        assert (status, body[:1] in (b"o", b"x")) == (200, True)
        assert headers["x-route"] in ("hot", "cold")


@each_loop
def test_a_closed_connection_is_removed(loop):
    with full_server(loop) as at:
        with Caller(at.server.port) as caller:
            assert caller.send(PLAIN).answer()[0] == 429
            at.wait_connections(1)
        at.wait_connections(0)


@each_loop
def test_a_drain_removes_all_connections_and_closes_each_with_an_answer(loop):
    with full_server(loop) as at, Caller(at.server.port) as caller:
        assert caller.send(PLAIN).answer()[0] == 429
        at.wait_connections(1)
        cut = at.server.drain(20)
        at.wait_connections(0)
        caller.send(PLAIN)
        at.wait_requests(1)
        at.release()
        _, headers, body = caller.answer()
        assert (headers["connection"], body) == ("close", b"one")
        assert cut.result(20) == 0
