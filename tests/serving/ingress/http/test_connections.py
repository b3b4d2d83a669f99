"""Connections: each wait for a client has a bound, the longest waits make room for new callers, and answered requests cost nothing here."""

import asyncio
import contextlib
import errno
import resource
import socket
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from serving.ingress.http import connections as module
from serving.ingress.http.connections import BODY, HEAD, IDLE, RESPONSE, Connections, Limits, Wait, default_max_open
from serving.ingress.http.lifecycle import State
from serving.ingress.http.routes import RouteTable
from tests.serving.wire import LOOPS, Caller, DeferredRoute, Echo, Serving, answers, cold, request, serving, table

HALF = request(b"body")[:20]
each_loop = pytest.mark.parametrize("loop", LOOPS)


@contextlib.contextmanager
def limited(loop: str = "uvloop", route: Any = None, **limits: Any) -> Iterator[tuple[Serving, Connections]]:
    """Serve a route that echoes, with these limits of connections."""
    connections, state = Connections(Limits(**limits)), State(ready=True)
    with serving(cold, table(route or Echo(), state, connections=connections), state, loop) as server:
        yield server, connections
    assert len(connections) == 0
    assert connections.opened == connections.closed.total()


@each_loop
@pytest.mark.parametrize("parts", [(HALF,), tuple(HALF[at : at + 1] for at in range(len(HALF))), (request(b"before"), HALF)])
def test_a_head_that_is_not_whole_in_time_is_answered_with_408_and_the_connection_closed(loop, parts):
    with limited(loop, head_s=0.5) as (server, connections), Caller(server.port) as caller:
        *before, (status, headers, body) = answers(caller.send(*parts).rest())
        assert (status, headers["connection"], msgspec.json.decode(body)["type"]) == (408, "close", "/problems/slow-request")
        assert [one[0] for one in before] == [200] * (len(parts) - 1 if parts[0] != HALF[:1] else 0)
        server.until(lambda: connections.closed[HEAD] == 1)


@each_loop
def test_a_connection_that_sends_nothing_is_closed_without_an_answer(loop):
    with limited(loop, head_s=0.1) as (server, connections), Caller(server.port) as caller:
        assert caller.rest() == b""
        server.until(lambda: connections.closed[HEAD] == 1)


@each_loop
def test_a_head_that_comes_byte_by_byte_has_no_longer_time(loop):
    """Each byte is sent after the one before it was read, until the server has had enough."""
    with limited(loop, head_s=0.1) as (server, connections), Caller(server.port) as caller, contextlib.suppress(OSError):
        caller.send(b"POST /hot HTTP/1.1\r\nHost: test\r\nX: ")
        while not connections.closed:
            caller.send(b"a")
            server.call(lambda: None)
    assert connections.closed[HEAD] == 1


@each_loop
def test_an_idle_connection_is_closed(loop):
    with limited(loop, idle_s=0.1) as (server, connections), Caller(server.port) as caller:
        assert caller.send(request(b"used")).answer()[0] == 200
        assert caller.rest() == b""
        server.until(lambda: connections.closed[IDLE] == 1)


@each_loop
def test_the_body_of_a_request_that_was_answered_without_it_is_not_waited_for(loop, monkeypatch):
    monkeypatch.setattr(module, "DISCARD_S", 0.05)

    async def refuse(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 404, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    connections, state = Connections(Limits(body_s=0.05)), State(ready=True)
    with serving(refuse, table(Echo(), state, connections=connections), state, loop) as server, Caller(server.port) as caller:
        assert caller.send(request(b"x" * 100, path=b"/cold")[:-1]).answer()[0] == 404
        assert caller.rest() == b""
        server.until(lambda: connections.closed[BODY] == 1)


@each_loop
def test_a_client_that_does_not_read_its_response_is_disconnected(loop):
    route = DeferredRoute()
    with limited(loop, route, response_s=0.1) as (server, connections), Caller(server.port) as caller:
        caller.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        caller.send(request(b"x" * 1000))
        server.until(lambda: len(route.replies) == 1)
        server.call(lambda: route.release(20_000))
        server.until(lambda: connections.closed[RESPONSE] == 1)


@each_loop
def test_the_longest_waiting_connections_make_room_for_new_callers(loop):
    with limited(loop, max_open=8, head_s=60.0) as (server, connections), contextlib.ExitStack() as stack:
        first = stack.enter_context(Caller(server.port))
        assert first.send(request(b"used")).answer()[0] == 200
        server.call(lambda: None)
        silent = [stack.enter_context(Caller(server.port).send(HALF)) for _ in range(40)]
        server.until(lambda: connections.opened == 41)
        for body in (b"one", b"two", b"three"):
            new = stack.enter_context(Caller(server.port))
            assert new.send(request(body)).answer()[2] == body
        assert first.rest() == b""
        assert silent[0].rest() == b""
        assert server.call(lambda: len(connections)) <= 8
        assert server.call(lambda: connections.closed["evicted"]) >= 36


@each_loop
def test_a_caller_whose_request_is_being_answered_is_never_closed_for_others(loop):
    route = DeferredRoute()
    with limited(loop, route, max_open=8, head_s=60.0) as (server, connections), contextlib.ExitStack() as stack:
        busy = [stack.enter_context(Caller(server.port)).send(request(b"busy")) for _ in range(4)]
        server.until(lambda: len(route.replies) == 4)
        others = [stack.enter_context(Caller(server.port)).send(HALF) for _ in range(40)]
        server.until(lambda: connections.closed["evicted"] >= 36)
        for _ in busy:
            server.call(route.release)
        assert [caller.answer()[2] for caller in busy] == [b"busy"] * 4
        assert others[0].rest() == b""


@each_loop
def test_where_every_connection_is_being_answered_new_callers_wait_and_are_served_after_it(loop, monkeypatch, caplog):
    from serving.ingress.http import listener

    monkeypatch.setattr(listener, "RETRY_S", 0.01)
    route = DeferredRoute()
    with limited(loop, route, max_open=2) as (server, _), contextlib.ExitStack() as stack:
        busy = [stack.enter_context(Caller(server.port)).send(request(b"busy")) for _ in range(2)]
        server.until(lambda: len(route.replies) == 2)
        new = stack.enter_context(Caller(server.port)).send(request(b"new"))
        server.until(lambda: "server.max_open_connections" in caplog.text)
        for caller in busy:
            server.call(route.release)
            assert caller.answer()[2] == b"busy"
        server.until(lambda: len(route.replies) == 1)
        server.call(route.release)
        assert new.answer()[2] == b"new"


@each_loop
def test_a_flood_of_half_heads_does_not_keep_new_callers_out(loop):
    with limited(loop, max_open=50, head_s=60.0) as (server, connections), contextlib.ExitStack() as stack:
        for number in range(400):
            stack.enter_context(Caller(server.port)).send(HALF)
            if number % 40 == 39:
                new = stack.enter_context(Caller(server.port))
                assert new.send(request(b"new")).answer()[2] == b"new"
        assert server.call(lambda: len(connections)) <= 50


def test_without_a_free_descriptor_the_longest_waiting_connection_makes_room():
    from serving.ingress.http.listener import Listener

    class Scarce:
        """A listening socket without a descriptor for a second caller until one is closed."""

        def __init__(self, sock: socket.socket, connections: Connections) -> None:
            self._sock, self._connections, self._accepted = sock, connections, 0

        def __getattr__(self, name: str) -> Any:
            return getattr(self._sock, name)

        def accept(self) -> Any:
            if self._accepted > self._connections.closed.total():
                raise OSError(errno.EMFILE, "too many open files")
            accepted = self._sock.accept()
            self._accepted += 1
            return accepted

    async def run() -> None:
        connections, state = Connections(), State(ready=True)
        with socket.create_server(("127.0.0.1", 0)) as sock:
            listener = Listener(cold, state, table(Echo(), state, connections=connections))
            await listener.open(Scarce(sock, connections))  # type: ignore[arg-type]
            with socket.create_connection(sock.getsockname()) as silent, socket.create_connection(sock.getsockname()) as caller:
                caller.sendall(request(b"served", b"Connection: close"))
                caller.setblocking(False)
                got = b""
                async with asyncio.timeout(20):
                    while chunk := await asyncio.get_running_loop().sock_recv(caller, 65536):
                        got += chunk
                assert answers(got)[0][2] == b"served"
                silent.settimeout(20)
                assert silent.recv(1) == b""
            assert connections.closed["evicted"] == 1
            await listener.drain(5)

    asyncio.run(run())


class Clock:
    """An event loop's time that the test sets, and its one timer."""

    def __init__(self) -> None:
        self.now, self.timers = 1000.0, 0
        self._due: Any = None

    def time(self) -> float:
        return self.now

    def call_later(self, _: float, call: Any, *arguments: Any) -> Any:
        self.timers += 1
        self._due = lambda: call(*arguments)
        return self

    def cancel(self) -> None:
        self._due = None

    def go(self, seconds: float) -> None:
        self.now += seconds
        self._due()


class FakeConnection:
    """A connection with the wait that the test sets."""

    def __init__(self, wait: Wait | None) -> None:
        self.wait, self.ended, self.checks = wait, "", 0

    def check_wait(self) -> Wait | None:
        self.checks += 1
        return self.wait

    def time_out(self, kind: str) -> None:
        self.ended = kind

    def evict(self) -> None:
        self.ended = "evicted"


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(module.asyncio, "get_running_loop", lambda: clock)
    return clock


@pytest.mark.parametrize(("kind", "bound_s"), [(HEAD, 10.0), (BODY, 15.0 + module.DISCARD_S), (IDLE, 75.0), (RESPONSE, 60.0)])
def test_each_kind_of_wait_ends_at_its_bound_and_not_before(clock, kind, bound_s):
    connections, one = Connections(), FakeConnection(None)
    connections.add(one)
    one.wait = Wait(kind, clock.now)
    connections.note(one)
    while clock.now < 1000 + bound_s - 1:
        clock.go(1)
        assert one.ended == ""
    for _ in range(3):
        clock.go(1)
    assert one.ended == kind


def test_a_connection_that_was_used_meanwhile_is_closed_after_its_last_wait(clock):
    connections, one = Connections(), FakeConnection(None)
    connections.add(one)
    for _ in range(300):
        clock.go(1)
        one.wait = Wait(IDLE, clock.now)
        assert one.ended == ""
    began = clock.now
    while not one.ended:
        clock.go(1)
    assert 75 <= clock.now - began <= 77


def test_one_timer_serves_all_connections_and_each_is_looked_at_once_in_a_bound(clock):
    connections, many = Connections(), [FakeConnection(None) for _ in range(1000)]
    for one in many:
        connections.add(one)
        one.wait = Wait(IDLE, clock.now)
    assert clock.timers == 1
    for _ in range(70):
        clock.go(1)
    assert clock.timers == 71
    assert max(one.checks for one in many) == 1


def test_the_longest_wait_of_any_kind_is_closed_first_and_a_wait_that_began_anew_is_not(clock):
    connections = Connections(Limits(max_open=3))
    first, second, third = (FakeConnection(None) for _ in range(3))
    for one, kind in ((first, IDLE), (second, HEAD), (third, IDLE)):
        connections.add(one)
        one.wait = Wait(kind, clock.now)
        connections.note(one)
        clock.now += 5
    first.wait = Wait(IDLE, clock.now)
    assert connections.room == 0
    assert connections.make_room()
    assert [one.ended for one in (first, second, third)] == ["", "evicted", ""]
    assert connections.room == 1
    connections.remove(second)
    assert (connections.room, connections.closed["evicted"]) == (1, 1)
    assert connections.make_room()
    assert third.ended == "evicted"


def test_a_connection_that_does_not_end_after_it_was_closed_is_cut(clock):
    connections, one = Connections(), FakeConnection(None)
    connections.add(one)
    one.wait = Wait(HEAD, clock.now)
    while not one.ended:
        clock.go(1)
    assert one.ended == HEAD
    while one.ended != "evicted":
        clock.go(1)
    connections.remove(one)
    assert (len(connections), connections.closed) == (0, {HEAD: 1})


async def test_an_answered_request_moves_no_connection(monkeypatch):
    connections = Connections()
    from tests.serving.wire import MemoryConnection

    wire = MemoryConnection(table(Echo(), connections=connections))

    def unexpected(*_: Any) -> None:
        raise AssertionError("moved")

    monkeypatch.setattr(connections, "_move", unexpected)
    for number in range(100):
        wire.send(request(b"%d" % number))
        await wire.settled()
    assert len(answers(wire.sent)) == 100


@pytest.mark.parametrize(
    ("soft", "expected"),
    [
        (100, module.MIN_DEFAULT_OPEN),
        (1024, 768),
        (4096, 3584),
        (65_536, module.MAX_DEFAULT_OPEN),
        (resource.RLIM_INFINITY, module.MAX_DEFAULT_OPEN),
    ],
)
def test_the_default_bound_leaves_descriptors_for_everything_else(monkeypatch, soft, expected):
    monkeypatch.setattr(resource, "getrlimit", lambda which: (soft, soft))
    assert default_max_open() == expected


def test_a_table_has_connections_of_its_own():
    assert RouteTable().connections is not RouteTable().connections
