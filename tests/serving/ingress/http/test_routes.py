"""Hot routes: answered from the parser, in the order of the requests on the connection, and never for a caller who has disconnected."""

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
from serving.ingress.http.connections import Connections, Limits
from serving.ingress.http.exchange import Exchange
from serving.ingress.http.lifecycle import State
from serving.ingress.http.protocol import MAX_HEAD_BYTES, PARSE_BYTES
from serving.ingress.http.response import Response
from serving.ingress.http.routes import Outbox, Route, RouteTable
from tests.serving.wire import LOOPS, PATH, Caller, DeferredRoute, Echo, MemoryConnection, Serving, answers, cold, request, serving, table


@pytest.fixture(params=list(LOOPS))
def deferred(request: pytest.FixtureRequest) -> Iterator[tuple[Serving, DeferredRoute]]:
    """A server whose hot route answers in `release`."""
    route, state = DeferredRoute(), State(ready=True)
    with serving(cold, table(route, state, max_requests=3), state, request.param) as server:
        yield server, route
    assert state.in_flight == 0


@pytest.mark.parametrize("chunks", [0, 7])
async def test_a_request_may_be_split_anywhere(chunks: int) -> None:
    whole = request(b'{"a": [1, 2, 3]}', b"X-Number: 5", chunks=chunks)
    for at in range(len(whole) + 1):
        wire = MemoryConnection(table(route := Echo()))
        wire.send(whole[:at], whole[at:])
        ((status, headers, body),) = await wire.settled()
        assert (status, headers["x-route"], headers["x-number"], body) == (200, "hot", "5", b'{"a": [1, 2, 3]}')
        assert (route.begun, wire.closed) == ([body], False)


async def test_a_request_may_arrive_byte_by_byte() -> None:
    for whole in (request(b"body"), request(b"body", chunks=3)):
        wire = MemoryConnection(table(Echo()))
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
def test_answers_have_the_order_of_the_requests_however_these_are_mixed_and_split(asked: list[dict[str, Any]], cuts: list[int]) -> None:
    stream, expected, over = b"", [], False
    for number, one in enumerate(asked):
        last = one.pop("last")
        stream += request(one["body"], b"X-Number: %d" % number, *[b"Connection: close"] * last, **{k: one[k] for k in one if k != "body"})
        if not over:
            is_hot = (one["method"], one["path"]) == (b"POST", PATH)
            expected.append((str(number), "hot" if is_hot else "cold", "close" if last else None, one["body"]))
        over = over or last
    places = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})

    async def received() -> tuple[list[tuple[int, dict[str, str], bytes]], bool]:
        wire = MemoryConnection(table(Echo()))
        wire.send(*(stream[a:b] for a, b in itertools.pairwise(places)))
        return await wire.settled(), wire.closed

    got, closed = asyncio.run(received())
    assert [(headers["x-number"], headers["x-route"], headers.get("connection"), body) for _, headers, body in got] == expected
    assert closed == over


async def test_other_requests_are_answered_over_asgi_on_the_same_connection() -> None:
    wire = MemoryConnection(table(Echo()))
    for one in (
        request(b"x", b"Expect: 100-continue"),
        request(b"x", path=b"/%68ot"),
        request(b"x", path=b"http://test/hot"),
        request(b"", method=b"GET"),
    ):
        wire.sent = b""
        wire.send(one, request(b"y"))
        *_, (_, first, _), (_, second, body) = await wire.settled()
        assert (first["x-route"], second["x-route"], body) == ("cold", "hot", b"y"), one


OFFERS = {
    "h2c of curl": (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA"),
    "h2c of Java": (b"Connection: Upgrade, HTTP2-Settings", b"HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA", b"Upgrade: h2c"),
    "websocket": (b"Upgrade: websocket", b"Connection: keep-alive, Upgrade", b"Sec-WebSocket-Version: 13"),
    "TLS": (b"Upgrade: TLS/1.0, HTTP/2.0", b"connection: UPGRADE\t"),
    "without a connection header": (b"Upgrade: h2c",),
}


@pytest.mark.parametrize("path", [PATH, b"/cold"])
@pytest.mark.parametrize("chunks", [0, 3])
@pytest.mark.parametrize("offer", OFFERS)
async def test_an_offer_of_another_protocol_is_answered_over_http_1_1_and_the_connection_goes_on(
    offer: str, chunks: int, path: bytes
) -> None:
    """A body that looks like a request is a body: it has the length that its head states."""
    wire = MemoryConnection(table(Echo()))
    body = request(b"not a request")
    wire.send(request(b"before") + request(body, *OFFERS[offer], path=path, chunks=chunks) * 3 + request(b"after"))
    assert [got for _, _, got in await wire.settled()] == [b"before", body, body, body, b"after"]
    assert [headers["x-route"] for _, headers, _ in answers(wire.sent)][1] == ("hot" if path == PATH else "cold")
    assert not wire.closed


@pytest.mark.parametrize("chunks", [0, 3])
async def test_a_request_with_an_offer_may_be_split_anywhere(chunks: int) -> None:
    whole = request(b"body", *OFFERS["h2c of Java"], chunks=chunks)
    for at in range(len(whole) + 1):
        wire = MemoryConnection(table(Echo()))
        wire.send(whole[:at], whole[at:])
        assert [body for _, _, body in await wire.settled()] == [b"body"]


async def test_a_tunnel_is_refused_and_what_follows_is_never_parsed_as_a_request() -> None:
    wire = MemoryConnection(table(route := Echo()))
    wire.send(b"CONNECT test:80 HTTP/1.1\r\nHost: test:80\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n" + request(b"smuggled"))
    ((status, headers, _),) = await wire.settled()
    assert (status, headers["connection"], wire.closed, route.begun) == (400, "close", True, [])


async def test_trailers_are_not_headers() -> None:
    for path in (PATH, b"/cold"):
        wire = MemoryConnection(table(Echo()))
        wire.send(request(b"body", path=path, chunks=4)[:-2] + b"X-Number: 7\r\n\r\n")
        ((_, headers, body),) = await wire.settled()
        assert (headers["x-number"], body) == ("", b"body")


async def test_the_last_of_two_equal_headers_counts_and_names_are_case_insensitive() -> None:
    wire = MemoryConnection(table(Echo()))
    wire.send(request(b"", b"x-number: 1", b"X-NUMBER: 2"))
    ((_, headers, _),) = await wire.settled()
    assert headers["x-number"] == "2"


@pytest.mark.parametrize("text", [b"GET nothing\r\n\r\n", b"\x16\x03\x01\x02\x00\x01", b"X: " + b"a" * (MAX_HEAD_BYTES + PARSE_BYTES)])
async def test_malformed_data_is_answered_after_the_requests_before_it(text: bytes) -> None:
    wire = MemoryConnection(table(deferred := DeferredRoute()))
    wire.send(request(b"first") + text)
    assert await wire.settled() == []
    deferred.release()
    assert next((status, body) for status, _, body in await wire.settled()) == (200, b"first")
    wire.send(b"x" * MAX_HEAD_BYTES, b"x" * PARSE_BYTES)
    (_, (status, headers, _)) = await wire.settled()
    assert (status in (400, 431), headers["connection"], wire.closed) == (True, "close", True)


@pytest.mark.parametrize(("head", "status"), [(b"GET http:// HTTP/1.1", 400), (b"POST /hot HTTP/1.1", 500)])
async def test_an_internal_error_is_not_reported_as_the_callers(head: bytes, status: int) -> None:
    wire = MemoryConnection(RouteTable(None, State(ready=True)) if status == 500 else table(Echo()))  # type: ignore[arg-type]
    wire.send(head + b"\r\nHost: test\r\n\r\n")
    ((got, _, body),) = await wire.settled()
    assert (got, json.loads(body)["status"], b"NoneType" in body, wire.closed) == (status, status, False, True)


@pytest.mark.parametrize("broken", [b"x\r\n", b"1\r\nab\r\n", b"ffffffffffffffffff\r\n", b"1;" + b"a" * 2 * MAX_HEAD_BYTES])
async def test_a_malformed_body_fails_only_its_own_request(broken: bytes) -> None:
    state = State(ready=True)
    wire = MemoryConnection(table(route := Echo(), state))
    wire.send(request(b"first") + request(b"", chunks=1).removesuffix(b"0\r\n\r\n") + broken)
    (_, (status, headers, body)) = await wire.settled()
    assert (status, headers["connection"], wire.closed) == (json.loads(body)["status"], "close", True)
    assert (status in (400, 431), route.begun, state.in_flight) == (True, [b"first"], 0)


async def test_a_malformed_body_of_a_waiting_request_is_answered_in_order() -> None:
    wire = MemoryConnection(table(deferred := DeferredRoute()))
    wire.send(request(b"first") + request(b"", chunks=1).removesuffix(b"0\r\n\r\n") + b"x\r\n")
    await wire.settled()
    deferred.release()
    assert [status for status, _, _ in await wire.settled()] == [200, 400]
    assert (deferred.replies, wire.closed) == ([], True)


def exchanges() -> int:
    gc.collect()
    return sum(type(thing) is Exchange for thing in gc.get_objects())


async def test_the_number_of_requests_parsed_ahead_is_bounded() -> None:
    before = exchanges()
    wire = MemoryConnection(table(deferred := DeferredRoute()))
    one = b"POST /hot HTTP/1.1\r\nHost: test\r\n\r\n"
    wire.send(one * 5_000)
    assert wire.paused
    assert exchanges() - before <= PARSE_BYTES // len(one) + 2
    answered = 0
    while deferred.replies:
        assert len(deferred.replies) == 1, "one at a time"
        deferred.release()
        answered += 1
        for _ in range(4):
            await asyncio.sleep(0)
    assert (answered, wire.paused) == (5_000, False)


async def test_no_request_is_begun_for_a_client_that_does_not_read() -> None:
    wire = MemoryConnection(table(route := Echo()))
    wire.protocol.pause_writing()
    wire.send(request(b"1") + request(b"2", path=b"/cold"), request(b"3"))
    await wire.settled()
    assert (route.begun, wire.sent, wire.paused) == ([], b"", True)
    wire.protocol.resume_writing()
    assert [body for _, _, body in await wire.settled()] == [b"1", b"2", b"3"]
    assert not wire.paused


async def test_a_route_that_raises_is_a_500() -> None:
    def begin(headers: object, body: bytes, reply: object, unread_s: float) -> None:
        raise ZeroDivisionError("secret")

    state = State(ready=True)
    wire = MemoryConnection(RouteTable({PATH: Route(begin)}, state, 10, 10))  # type: ignore[arg-type]
    wire.send(request(b"x"))
    ((status, _, body),) = await wire.settled()
    assert (status, b"secret" in body, state.in_flight, wire.closed) == (500, False, 0, False)


async def test_an_answer_leaves_no_reference_cycle() -> None:
    wire = MemoryConnection(table(deferred := DeferredRoute()))
    gc.collect()
    gc.disable()
    try:
        for _ in range(5):
            wire.send(request(b"x"))
            deferred.release()
            await asyncio.sleep(0.001)
        left = sum(type(thing) is Exchange for thing in gc.get_objects())
    finally:
        gc.enable()
    assert left == 0


def test_the_request_of_a_caller_who_disconnects_is_cancelled(deferred: tuple[Serving, DeferredRoute]) -> None:
    server, route = deferred
    with Caller(server.port) as caller:
        caller.send(request(b"gone"))
        server.until(lambda: len(route.replies) == 1)
        assert server.state.in_flight == 1
        caller.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    server.until(lambda: route.cancelled == [b"gone"])
    assert server.state.in_flight == 0
    server.call(route.release)  # too late: the caller has disconnected, and nothing fails
    with Caller(server.port) as caller:
        caller.send(request(b"next"))
        server.until(lambda: len(route.replies) == 1)
        server.call(route.release)
        assert caller.answer()[2] == b"next"


def test_the_request_of_a_caller_who_disconnects_within_the_body_is_not_begun(deferred: tuple[Serving, DeferredRoute]) -> None:
    server, route = deferred
    with Caller(server.port) as caller:
        caller.send(request(b"whole")[:-1])
        server.until(lambda: server.state.in_flight == 1)
    server.until(lambda: server.state.in_flight == 0)
    assert (route.replies, route.cancelled) == ([], [])


def test_beyond_the_bound_a_request_is_refused_and_the_connection_stays_open(deferred: tuple[Serving, DeferredRoute]) -> None:
    server, route = deferred
    with Caller(server.port) as caller, Caller(server.port) as other, Caller(server.port) as third, Caller(server.port) as last:
        for one in (caller, other, third):
            one.send(request(b"x"))
        server.until(lambda: len(route.replies) == 3)
        last.send(request(b"y" * 50_000))
        status, headers, body = last.answer()
        assert (status, int(headers["retry-after"]) >= 1, json.loads(body)["type"]) == (429, True, "/problems/overloaded")
        for one in (caller, other, third):
            server.call(route.release)
            assert one.answer()[0] == 200
        last.send(request(b"z"))
        server.until(lambda: len(route.replies) == 1)
        server.call(route.release)
        assert last.answer()[2] == b"z"


def test_a_drain_answers_present_and_further_requests_and_cuts_none(deferred: tuple[Serving, DeferredRoute]) -> None:
    server, route = deferred
    with Caller(server.port) as busy, Caller(server.port) as idle:
        idle.send(request(b"before"))
        server.until(lambda: len(route.replies) == 1)
        server.call(route.release)
        assert "connection" not in idle.answer()[1]
        busy.send(request(b"here"))
        server.until(lambda: len(route.replies) == 1)
        cut = server.drain(10)
        server.until(lambda: server.state.draining)
        idle.send(request(b"further"))
        server.until(lambda: len(route.replies) == 2)
        for caller in (busy, idle):
            server.call(route.release)
            ((status, headers, _),) = answers(caller.rest())
            assert (status, headers["connection"]) == (200, "close")
        assert cut.result(20) == 0


def test_a_drain_closes_idle_connections_after_its_budget_and_counts_cut_requests(deferred: tuple[Serving, DeferredRoute]) -> None:
    server, route = deferred
    with Caller(server.port) as busy, Caller(server.port) as idle:
        busy.send(request(b"stuck"))
        server.until(lambda: len(route.replies) == 1)
        cut = server.drain(0.05)
        assert idle.rest() == b""
        assert cut.result(20) == 1
        server.call(route.release)
        ((_, headers, body),) = answers(busy.rest())
        assert (headers["connection"], body) == ("close", b"stuck")


def test_an_idle_connection_is_closed_after_its_bound_and_a_busy_one_is_not() -> None:
    class Long(DeferredRoute):
        def begin(self, headers: object, body: bytes, reply: object, unread_s: float) -> object:  # type: ignore[override]
            wait_s = 0.5 if b"long" in body else 0.0
            return asyncio.get_running_loop().call_later(wait_s, reply, Response(200, [], body)).cancel  # type: ignore[arg-type]

    state = State(ready=True)
    hot = table(Long(), state, connections=Connections(Limits(idle_s=0.2)))
    with serving(cold, hot, state) as server, Caller(server.port) as caller:
        for body in (b"short", b"long", b"short", b"long"):
            caller.send(request(body))
            assert caller.answer()[2] == body
        assert caller.rest() == b""
        server.until(lambda: hot.connections.closed["idle"] == 1)


def test_a_slow_reader_gets_a_large_answer_completely_and_then_the_next_one(deferred: tuple[Serving, DeferredRoute]) -> None:
    server, route = deferred
    with Caller(server.port) as caller:
        caller.send(request(b"a") + request(b"b"))
        for body in (b"a", b"b"):
            server.until(lambda: len(route.replies) == 1)
            server.call(lambda: route.release(10_000_000))
            status, _, got = caller.answer()
            assert (status, got == body * 10_000_000) == (200, True)


def test_a_body_that_never_ends_times_out(monkeypatch: pytest.MonkeyPatch, deferred: tuple[Serving, DeferredRoute]) -> None:
    monkeypatch.setattr(bodies, "DISCARD_S", 0.05)
    server, _ = deferred
    server.listener._table.connections.limits = Limits(body_s=0.05)
    endless = request(b"", b"Transfer-Encoding: chunked").replace(b"Content-Length: 0\r\n", b"")
    for part, status in ((b"1\r\n{\r\n", 408), (b"30d40\r\n" + b" " * 200_000 + b"\r\n", 413)):
        with Caller(server.port) as caller:
            ((got, headers, _),) = answers(caller.send(endless, part).rest())
            assert (got, headers["connection"]) == (status, "close")
    with Caller(server.port) as caller:
        ((got, _, _),) = answers(caller.send(request(b" " * 200_000)[:150_000]).rest())
        assert got == 413


async def test_the_size_of_a_discarded_body_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "DISCARD_BYTES", 100_000)
    wire = MemoryConnection(table(route := Echo(), max_body_bytes=10_000))
    wire.send(request(b" " * 1_000_000)[:150_000])
    ((status, headers, _),) = await wire.settled()
    assert (status, headers["connection"], wire.closed, route.begun) == (413, "close", True, [])


async def test_a_body_times_out_once_the_requests_before_it_are_answered() -> None:
    wire = MemoryConnection(table(deferred := DeferredRoute(), connections=Connections(Limits(body_s=0.01))))
    wire.send(request(b"first") + request(b"second")[:-1])
    await wire.settled()
    deferred.release()
    async with asyncio.timeout(10):
        while not wire.closed:
            await asyncio.sleep(0.001)
    assert [status for status, _, _ in answers(wire.sent)] == [200, 408]


async def test_an_answer_that_cannot_be_written_delays_no_other() -> None:
    received: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: received.append(context["exception"]))
    outbox = Outbox()
    broken = OSError("broken")

    def fail(answer: Response) -> None:
        raise broken

    for send in (received.append, fail, received.append):
        outbox.put(send, Response(200, b"", b""))
    assert received == [], "not at once"
    for _ in range(3):
        await asyncio.sleep(0)
    assert received == [Response(200, b"", b""), broken, Response(200, b"", b"")]
