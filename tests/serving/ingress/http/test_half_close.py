"""A caller who closes the sending half after a request is answered like everybody: on the parser's path, over ASGI, and in order."""

import socket

import msgspec
import pytest

from serving.ingress.http.lifecycle import State
from tests.serving.wire import LOOPS, PATH, Caller, DeferredRoute, Echo, Serving, answers, cold, request, serving, table

PATHS = {"hot": PATH, "over ASGI": b"/cold"}


def half_closed(server: Serving, *parts: bytes) -> list[bytes]:
    """Return the bodies of the answers to what is sent before the sending half is closed."""
    with Caller(server.port) as caller:
        caller.send(*parts)
        caller.sock.shutdown(socket.SHUT_WR)
        return [body for _, _, body in answers(caller.rest())]


@pytest.fixture(params=LOOPS)
def echo(request):
    state = State(ready=True)
    with serving(cold, table(Echo(), state), state, request.param) as server:
        yield server
    assert state.in_flight == 0


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
@pytest.mark.parametrize("body", [b"now", b"later", b"later" * 10_000])
def test_one_request_is_answered(echo, path, body):
    for _ in range(20):
        assert half_closed(echo, request(body, path=path)) == [body]


def test_pipelined_requests_are_all_answered_in_order(echo):
    bodies = [b"%d %b" % (number, word) for number in range(30) for word in (b"now", b"later")]
    stream = b"".join(request(body, path=path) for body, path in zip(bodies, list(PATHS.values()) * 30, strict=True))
    assert half_closed(echo, stream) == bodies
    assert half_closed(echo, stream[:700], stream[700:]) == bodies


def test_many_small_pipelined_requests_that_are_parsed_in_several_steps_are_all_answered(echo):
    bodies = [b"%d" % number for number in range(2000)]
    assert half_closed(echo, b"".join(map(request, bodies))) == bodies


@pytest.mark.parametrize("loop", LOOPS)
def test_a_request_that_is_answered_after_the_half_was_closed_is_answered(loop):
    state, route = State(ready=True), DeferredRoute()
    with serving(cold, table(route, state), state, loop) as server, Caller(server.port) as caller:
        caller.send(request(b"first") + request(b"second"))
        caller.sock.shutdown(socket.SHUT_WR)
        for _ in range(2):
            server.until(lambda: len(route.replies) == 1)
            server.call(route.release)
        first, second = answers(caller.rest())
        assert (first[2], second[2], second[1]["connection"]) == (b"first", b"second", "close")
        assert (route.cancelled, state.in_flight) == ([], 0)


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
@pytest.mark.parametrize("cut", [1, 5, 40])
def test_a_request_that_is_cut_off_is_a_problem_after_the_answers_before_it(echo, path, cut):
    """It is not known whether the caller still reads; if so, they learn what was wrong."""
    with Caller(echo.port) as caller:
        caller.send(request(b"whole") + request(b"body", path=path)[:-cut])
        caller.sock.shutdown(socket.SHUT_WR)
        (status, _, body), (refused, headers, problem) = answers(caller.rest())
    assert (status, body, refused, headers["connection"]) == (200, b"whole", 400, "close")
    assert msgspec.json.decode(problem)["type"] == "/problems/malformed-request"


def test_an_idle_connection_whose_half_is_closed_is_closed(echo):
    with Caller(echo.port) as caller:
        assert caller.send(request(b"one")).answer()[2] == b"one"
        caller.sock.shutdown(socket.SHUT_WR)
        assert caller.rest() == b""
    with Caller(echo.port) as caller:
        caller.sock.shutdown(socket.SHUT_WR)
        assert caller.rest() == b""
