"""RouteTable routes: answered from the parser, in turn with everything else on the connection, and never for a caller who has gone."""

import asyncio
import gc
import itertools
import json
import socket
import struct
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.ingress.http import body as bodies
from serving.ingress.http import listener as listening
from serving.ingress.http.exchange import Exchange
from serving.ingress.http.lifecycle import State
from serving.ingress.http.protocol import MAX_HEAD_BYTES, PARSE_BYTES
from serving.ingress.http.response import Response
from serving.ingress.http.routes import Outbox, Route, RouteTable
from tests.serving.wire import LOOPS, PATH, Caller, Echo, Held, Serving, Wire, answers, cold, request, serving, table


@pytest.fixture(params=list(LOOPS))
def held(request: pytest.FixtureRequest) -> Iterator[tuple[Serving, Held]]:
    """A server whose hot route answers when it is told to."""
    route, state = Held(), State(ready=True)
    with serving(cold, table(route, state, max_requests=3), state, request.param) as server:
        yield server, route
    assert state.in_flight == 0


@pytest.mark.parametrize("chunks", [0, 7])
async def test_a_request_may_be_cut_anywhere(chunks: int) -> None:
    whole = request(b'{"a": [1, 2, 3]}', b"X-Number: 5", chunks=chunks)
    for at in range(len(whole) + 1):
        wire = Wire(table(route := Echo()))
        wire.send(whole[:at], whole[at:])
        ((status, headers, body),) = await wire.settled()
        assert (status, headers["x-route"], headers["x-number"], body) == (200, "hot", "5", b'{"a": [1, 2, 3]}')
        assert (route.begun, wire.closed) == ([body], False)


async def test_a_request_may_come_byte_by_byte() -> None:
    for whole in (request(b"body"), request(b"body", chunks=3)):
        wire = Wire(table(Echo()))
        wire.send(*(whole[at : at + 1] for at in range(len(whole))))
        assert [body for _, _, body in await wire.settled()] == [b"body"]


ONE = st.fixed_dictionaries(
    {
        "body": st.sampled_from([b"", b"now", b"later", b"large" * 2000, b"later, large" * 2000]),
        "method": st.sampled_from([b"POST", b"POST", b"PUT"]),
        "path": st.sampled_from([PATH, PATH, b"/cold", PATH + b"?query"]),
        "chunks": st.sampled_from([0, 0, 1000]),
        "last": st.sampled_from([False] * 15 + [True]),
    }
)


@settings(deadline=None, max_examples=150)
@given(st.lists(ONE, min_size=1, max_size=12), st.lists(st.integers(0, 60_000), max_size=12))
def test_however_requests_are_mixed_and_cut_answers_come_in_their_order(asked: list[dict[str, Any]], cuts: list[int]) -> None:
    stream, expected, over = b"", [], False
    for number, one in enumerate(asked):
        last = one.pop("last")
        stream += request(one["body"], b"X-Number: %d" % number, *[b"Connection: close"] * last, **{k: one[k] for k in one if k != "body"})
        if not over:
            is_hot = (one["method"], one["path"]) == (b"POST", PATH)
            expected.append((str(number), "hot" if is_hot else "cold", "close" if last else None, one["body"]))
        over = over or last
    places = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})

    async def told() -> tuple[list[tuple[int, dict[str, str], bytes]], bool]:
        wire = Wire(table(Echo()))
        wire.send(*(stream[a:b] for a, b in itertools.pairwise(places)))
        return await wire.settled(), wire.closed

    got, closed = asyncio.run(told())
    assert [(headers["x-number"], headers["x-route"], headers.get("connection"), body) for _, headers, body in got] == expected
    assert closed == over


async def test_what_is_no_plain_request_goes_the_long_way_on_the_same_connection() -> None:
    wire = Wire(table(Echo()))
    for one in (
        request(b"x", b"Expect: 100-continue"),
        request(b"x", b"Upgrade: h2c"),
        request(b"x", path=b"/%68ot"),
        request(b"x", path=b"http://test/hot"),
        request(b"", method=b"GET"),
    ):
        wire.sent = b""
        wire.send(one, request(b"y"))
        *_, (_, first, _), (_, second, body) = await wire.settled()
        assert (first["x-route"], second["x-route"], body) == ("cold", "hot", b"y"), one


async def test_an_upgrade_is_not_taken_and_what_may_be_its_body_is_never_a_request() -> None:
    wire = Wire(table(route := Echo()))
    wire.send(request(b"before") + request(request(b"smuggled"), b"Upgrade: h2c", b"Connection: Upgrade"), request(b"after"))
    ((_, _, body), (_, headers, _)) = await wire.settled()
    assert (body, headers["x-route"], headers["connection"], wire.closed, route.begun) == (b"before", "cold", "close", True, [b"before"])


async def test_trailers_are_not_headers() -> None:
    for path in (PATH, b"/cold"):
        wire = Wire(table(Echo()))
        wire.send(request(b"body", path=path, chunks=4)[:-2] + b"X-Number: 7\r\n\r\n")
        ((_, headers, body),) = await wire.settled()
        assert (headers["x-number"], body) == ("", b"body")


async def test_the_last_of_two_equal_headers_counts_and_names_have_no_case() -> None:
    wire = Wire(table(Echo()))
    wire.send(request(b"", b"x-number: 1", b"X-NUMBER: 2"))
    ((_, headers, _),) = await wire.settled()
    assert headers["x-number"] == "2"


@pytest.mark.parametrize("text", [b"GET nothing\r\n\r\n", b"\x16\x03\x01\x02\x00\x01", b"X: " + b"a" * (MAX_HEAD_BYTES + PARSE_BYTES)])
async def test_what_is_wrong_is_told_after_what_came_before_it(text: bytes) -> None:
    wire = Wire(table(held := Held()))
    wire.send(request(b"first") + text)
    assert await wire.settled() == []
    held.let_go()
    assert next((status, body) for status, _, body in await wire.settled()) == (200, b"first")
    wire.send(b"x" * MAX_HEAD_BYTES, b"x" * PARSE_BYTES)
    (_, (status, headers, _)) = await wire.settled()
    assert (status in (400, 431), headers["connection"], wire.closed) == (True, "close", True)


@pytest.mark.parametrize(("head", "status"), [(b"GET http:// HTTP/1.1", 400), (b"POST /hot HTTP/1.1", 500)])
async def test_a_fault_of_ours_is_not_said_to_be_the_callers(head: bytes, status: int) -> None:
    wire = Wire(RouteTable(None, State(ready=True)) if status == 500 else table(Echo()))  # type: ignore[arg-type]
    wire.send(head + b"\r\n\r\n")
    ((got, _, body),) = await wire.settled()
    assert (got, json.loads(body)["status"], b"NoneType" in body, wire.closed) == (status, status, False, True)


@pytest.mark.parametrize("broken", [b"x\r\n", b"1\r\nab\r\n", b"ffffffffffffffffff\r\n", b"1;" + b"a" * 2 * MAX_HEAD_BYTES])
async def test_a_broken_body_is_the_fault_of_its_own_request(broken: bytes) -> None:
    state = State(ready=True)
    wire = Wire(table(route := Echo(), state))
    wire.send(request(b"first") + request(b"", chunks=1).removesuffix(b"0\r\n\r\n") + broken)
    (_, (status, headers, body)) = await wire.settled()
    assert (status, headers["connection"], wire.closed) == (json.loads(body)["status"], "close", True)
    assert (status in (400, 431), route.begun, state.in_flight) == (True, [b"first"], 0)


async def test_a_broken_body_of_a_request_that_waits_is_told_in_its_turn() -> None:
    wire = Wire(table(held := Held()))
    wire.send(request(b"first") + request(b"", chunks=1).removesuffix(b"0\r\n\r\n") + b"x\r\n")
    await wire.settled()
    held.let_go()
    assert [status for status, _, _ in await wire.settled()] == [200, 400]
    assert (held.replies, wire.closed) == ([], True)


def exchanges() -> int:
    gc.collect()
    return sum(type(thing) is Exchange for thing in gc.get_objects())


async def test_what_is_taken_ahead_of_its_turn_is_bounded() -> None:
    before = exchanges()
    wire = Wire(table(held := Held()))
    one = b"POST /hot HTTP/1.1\r\n\r\n"
    wire.send(one * 5_000)
    assert wire.paused
    assert exchanges() - before <= PARSE_BYTES // len(one) + 2
    answered = 0
    while held.replies:
        assert len(held.replies) == 1, "one at a time"
        held.let_go()
        answered += 1
        for _ in range(4):
            await asyncio.sleep(0)
    assert (answered, wire.paused) == (5_000, False)


async def test_a_client_that_does_not_read_gets_nothing_more_begun() -> None:
    wire = Wire(table(route := Echo()))
    wire.protocol.pause_writing()
    wire.send(request(b"1") + request(b"2", path=b"/cold"), request(b"3"))
    await wire.settled()
    assert (route.begun, wire.sent, wire.paused) == ([], b"", True)
    wire.protocol.resume_writing()
    assert [body for _, _, body in await wire.settled()] == [b"1", b"2", b"3"]
    assert not wire.paused


async def test_a_route_that_raises_against_its_word_is_a_500() -> None:
    def begin(headers: object, body: bytes, reply: object, unread_s: float) -> None:
        raise ZeroDivisionError("secret")

    state = State(ready=True)
    wire = Wire(RouteTable({PATH: Route(begin)}, state, 10, 10))  # type: ignore[arg-type]
    wire.send(request(b"x"))
    ((status, _, body),) = await wire.settled()
    assert (status, b"secret" in body, state.in_flight, wire.closed) == (500, False, 0, False)


async def test_an_answer_leaves_no_ring_for_the_garbage_collector() -> None:
    wire = Wire(table(held := Held()))
    gc.collect()
    gc.disable()
    try:
        for _ in range(5):
            wire.send(request(b"x"))
            held.let_go()
            await asyncio.sleep(0.001)
        left = sum(type(thing) is Exchange for thing in gc.get_objects())
    finally:
        gc.enable()
    assert left == 0


@pytest.mark.parametrize("leave", ["close", "reset", "half"])
def test_a_caller_who_goes_away_is_answered_no_more(held: tuple[Serving, Held], leave: str) -> None:
    server, route = held
    with Caller(server.port) as caller:
        caller.send(request(b"gone"))
        server.until(lambda: len(route.replies) == 1)
        assert server.state.in_flight == 1
        if leave == "half":
            caller.sock.shutdown(socket.SHUT_WR)
            assert caller.rest() == b""
        elif leave == "reset":
            caller.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    server.until(lambda: route.cancelled == [b"gone"])
    assert server.state.in_flight == 0
    server.call(route.let_go)  # too late: nobody is there, and nothing breaks
    with Caller(server.port) as caller:
        caller.send(request(b"next"))
        server.until(lambda: len(route.replies) == 1)
        server.call(route.let_go)
        assert caller.answer()[2] == b"next"


def test_a_caller_who_goes_away_within_the_body_is_not_asked_for(held: tuple[Serving, Held]) -> None:
    server, route = held
    with Caller(server.port) as caller:
        caller.send(request(b"whole")[:-1])
        server.until(lambda: server.state.in_flight == 1)
    server.until(lambda: server.state.in_flight == 0)
    assert (route.replies, route.cancelled) == ([], [])


def test_beyond_the_bound_a_request_is_refused_and_the_connection_stays(held: tuple[Serving, Held]) -> None:
    server, route = held
    with Caller(server.port) as caller, Caller(server.port) as other, Caller(server.port) as third, Caller(server.port) as last:
        for one in (caller, other, third):
            one.send(request(b"x"))
        server.until(lambda: len(route.replies) == 3)
        last.send(request(b"y" * 50_000))
        status, headers, body = last.answer()
        assert (status, int(headers["retry-after"]) >= 1, json.loads(body)["type"]) == (429, True, "/problems/overloaded")
        for one in (caller, other, third):
            server.call(route.let_go)
            assert one.answer()[0] == 200
        last.send(request(b"z"))
        server.until(lambda: len(route.replies) == 1)
        server.call(route.let_go)
        assert last.answer()[2] == b"z"


def test_a_drain_answers_what_is_here_and_what_still_comes_and_cuts_nothing(held: tuple[Serving, Held]) -> None:
    server, route = held
    with Caller(server.port) as busy, Caller(server.port) as idle:
        idle.send(request(b"before"))
        server.until(lambda: len(route.replies) == 1)
        server.call(route.let_go)
        assert "connection" not in idle.answer()[1]
        busy.send(request(b"here"))
        server.until(lambda: len(route.replies) == 1)
        cut = server.drain(10)
        server.until(lambda: server.state.draining)
        idle.send(request(b"still comes"))
        server.until(lambda: len(route.replies) == 2)
        for caller in (busy, idle):
            server.call(route.let_go)
            ((status, headers, _),) = answers(caller.rest())
            assert (status, headers["connection"]) == (200, "close")
        assert cut.result(20) == 0


def test_a_drain_ends_idle_connections_with_its_budget_and_counts_what_it_cuts(held: tuple[Serving, Held]) -> None:
    server, route = held
    with Caller(server.port) as busy, Caller(server.port) as idle:
        busy.send(request(b"stuck"))
        server.until(lambda: len(route.replies) == 1)
        cut = server.drain(0.05)
        assert idle.rest() == b""
        assert cut.result(20) == 1
        server.call(route.let_go)
        ((_, headers, body),) = answers(busy.rest())
        assert (headers["connection"], body) == ("close", b"stuck")


def test_an_idle_connection_is_closed_in_its_time_and_a_busy_one_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "KEEP_ALIVE_S", 0.2)

    class Long(Held):
        def begin(self, headers: object, body: bytes, reply: object, unread_s: float) -> object:  # type: ignore[override]
            wait_s = 0.5 if b"long" in body else 0.0
            return asyncio.get_running_loop().call_later(wait_s, reply, Response(200, [], body)).cancel  # type: ignore[arg-type]

    state = State(ready=True)
    with serving(cold, table(Long(), state), state) as server, Caller(server.port) as caller:
        for body in (b"short", b"long", b"short", b"long"):
            caller.send(request(body))
            assert caller.answer()[2] == body
        assert caller.rest() == b""


def test_a_large_answer_reaches_a_slow_reader_whole_and_the_next_one_after_it(held: tuple[Serving, Held]) -> None:
    server, route = held
    with Caller(server.port) as caller:
        caller.send(request(b"a") + request(b"b"))
        for body in (b"a", b"b"):
            server.until(lambda: len(route.replies) == 1)
            server.call(lambda: route.let_go(10_000_000))
            status, _, got = caller.answer()
            assert (status, got == body * 10_000_000) == (200, True)


def test_a_body_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch, held: tuple[Serving, Held]) -> None:
    monkeypatch.setattr(bodies, "BODY_S", 0.05)
    monkeypatch.setattr(bodies, "DISCARD_S", 0.05)
    server, _ = held
    endless = request(b"", b"Transfer-Encoding: chunked").replace(b"Content-Length: 0\r\n", b"")
    for part, status in ((b"1\r\n{\r\n", 408), (b"30d40\r\n" + b" " * 200_000 + b"\r\n", 413)):
        with Caller(server.port) as caller:
            ((got, headers, _),) = answers(caller.send(endless, part).rest())
            assert (got, headers["connection"]) == (status, "close")
    with Caller(server.port) as caller:
        ((got, _, _),) = answers(caller.send(request(b" " * 200_000)[:150_000]).rest())
        assert got == 413


async def test_what_is_thrown_away_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "DISCARD_BYTES", 100_000)
    wire = Wire(table(route := Echo(), max_body_bytes=10_000))
    wire.send(request(b" " * 1_000_000)[:150_000])
    ((status, headers, _),) = await wire.settled()
    assert (status, headers["connection"], wire.closed, route.begun) == (413, "close", True, [])


async def test_a_body_waits_for_no_more_than_its_time_once_its_turn_has_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "BODY_S", 0.01)
    wire = Wire(table(held := Held()))
    wire.send(request(b"first") + request(b"second")[:-1])
    await wire.settled()
    held.let_go()
    async with asyncio.timeout(10):
        while not wire.closed:
            await asyncio.sleep(0.001)
    assert [status for status, _, _ in answers(wire.sent)] == [200, 408]


async def test_an_answer_that_cannot_be_written_holds_up_no_other() -> None:
    told: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context["exception"]))
    outbox = Outbox()
    broken = OSError("broken")

    def fail(answer: Response) -> None:
        raise broken

    for send in (told.append, fail, told.append):
        outbox.put(send, Response(200, b"", b""))
    assert told == [], "not at once"
    for _ in range(3):
        await asyncio.sleep(0)
    assert told == [Response(200, b"", b""), broken, Response(200, b"", b"")]
