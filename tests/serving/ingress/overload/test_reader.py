"""At the gate: who was refused is refused again for less, answered as soon as there is room, and never overtaken, lost or cut."""

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
from tests.serving.wire import LOOPS, PATH, Caller, Held, Serving, cold, request, serving, table


class Full:
    """A question that refuses whoever waits less than `patience_s`."""

    def __init__(self) -> None:
        self.patience_s, self.pressed, self.judged, self.likewise = 50.0, True, 0, 0

    def shed(self, deadline: float) -> OverloadedError | None:
        self.judged += 1
        return OverloadedError("7 requests wait already", 3.2) if deadline - time.monotonic() < self.patience_s else None

    def shed_likewise(self, times: int) -> None:
        self.likewise += times


class Gated:
    """A server with a gate before a question that is full, and a route that answers when it is told to."""

    def __init__(self, server: Serving, gate: OverloadReader, full: Full, held: Held) -> None:
        self.server, self.gate, self.full, self.held = server, gate, full, held

    def at_gate(self, number: int) -> None:
        """Wait until so many connections are at the gate."""
        self.server.until(lambda: self.gate.size == number)

    def asked(self, number: int) -> None:
        """Wait until the route has so many requests to answer."""
        self.server.until(lambda: len(self.held.replies) == number)

    def all_come(self, callers: list[Caller]) -> None:
        """Send from callers at the gate, the most patient first, and wait until each of them can be read from."""
        callers[0].send(request(b"two", b"X-Request-Timeout-Ms: 2000"))
        for caller in callers[1:]:
            caller.send(PLAIN)
        while not all(fcntl.ioctl(socket, termios.FIONREAD, bytes(4)) != bytes(4) for socket in self.gate._connections):
            pass

    def let_go(self) -> None:
        self.server.call(self.held.let_go)


@contextlib.contextmanager
def gated(loop: str) -> Iterator[Gated]:
    full, held, state = Full(), Held(), State(ready=True)
    gate = OverloadReader(Shedder({PATH: full}, 1000, 100_000))
    with serving(cold, dataclasses.replace(table(held, state), overload_reader=gate), state, loop) as server:
        yield Gated(server, gate, full, held)


each_loop = pytest.mark.parametrize("loop", LOOPS)
PLAIN = request(b"one")
PATIENT = request(b"patient", b"X-Request-Timeout-Ms: 60000")


@each_loop
def test_who_was_refused_is_refused_at_the_gate_in_the_same_words(loop):
    with gated(loop) as at, Caller(at.server.port) as caller:
        answers = []
        for _ in range(4):
            answers.append(caller.send(PLAIN).answer())
            at.at_gate(1)
        assert {(status, headers["retry-after"]) for status, headers, _ in answers} == {(429, "4")}
        problems = [msgspec.json.decode(body) for _, _, body in answers]
        assert len({problem.pop("requestId") for problem in problems}) == 4
        assert all(problem == problems[0] for problem in problems)
        assert at.full.judged + at.full.likewise == 4


@each_loop
def test_of_many_at_the_gate_each_is_refused_and_counted_once(loop):
    with gated(loop) as at:
        callers = [Caller(at.server.port) for _ in range(40)]
        for _ in range(5):
            for caller in callers:
                caller.send(PLAIN)
            assert {caller.answer()[0] for caller in callers} == {429}
            at.at_gate(40)
        assert at.full.judged + at.full.likewise == 200
        for caller in callers:
            caller.sock.close()
        at.at_gate(0)


@each_loop
def test_however_many_have_come_none_is_left_unread_for_another_turn(loop):
    """Else they would wait for as long as scoring and writing what was taken, again and again, until their time is up."""
    with gated(loop) as at, contextlib.ExitStack() as stack:
        callers = [stack.enter_context(Caller(at.server.port)) for _ in range(400)]
        for caller in callers:
            assert caller.send(PLAIN).answer()[0] == 429
        at.at_gate(400)
        judged = at.full.judged
        at.server.call(lambda: at.all_come(callers))  # on the loop: before the next look
        assert {caller.answer()[0] for caller in callers} == {429}
        at.at_gate(400)
        assert at.full.judged == judged + 1  # of each look the first
        assert at.full.judged + at.full.likewise == 800


@each_loop
def test_who_has_waited_for_longer_than_it_wanted_to_still_gets_its_refusal(loop):
    with gated(loop) as at, Caller(at.server.port) as caller:
        assert caller.send(PLAIN).answer()[0] == 429
        at.at_gate(1)
        at.server.call(lambda: time.sleep(0.05))  # the loop looks away, and the time runs
        caller.send(request(b"late", b"X-Request-Timeout-Ms: 1"))
        assert caller.answer()[0] == 429


@each_loop
def test_a_route_hears_how_long_its_request_has_lain_unread_at_the_gate(loop):
    with gated(loop) as at, Caller(at.server.port) as caller:
        assert caller.send(PLAIN).answer()[0] == 429
        at.at_gate(1)

        def look_away() -> None:
            caller.send(PATIENT)
            time.sleep(0.05)

        at.server.call(look_away)
        at.asked(1)
        assert 0.03 <= at.held.lain[0] < 20
        at.let_go()
        assert caller.answer()[0] == 200


@each_loop
def test_who_can_be_answered_is_answered_at_the_gate_and_then_refused_again(loop):
    with gated(loop) as at, Caller(at.server.port) as caller:
        assert caller.send(PLAIN).answer()[0] == 429
        at.at_gate(1)
        caller.send(PATIENT)
        at.asked(1)
        at.let_go()
        assert caller.answer()[::2] == (200, b"patient")
        assert caller.send(PLAIN).answer()[0] == 429
        at.at_gate(1)


@each_loop
def test_what_comes_behind_a_request_under_way_does_not_overtake_it(loop):
    with gated(loop) as at, Caller(at.server.port) as caller:
        assert caller.send(PLAIN).answer()[0] == 429
        at.at_gate(1)
        caller.send(PATIENT)
        at.asked(1)
        caller.send(PLAIN)
        at.at_gate(0)  # the loop lets it wait for its turn
        at.let_go()
        assert caller.answer()[::2] == (200, b"patient")
        at.asked(1)
        at.let_go()
        assert caller.answer()[::2] == (200, b"one")


@each_loop
def test_once_nobody_is_refused_any_more_the_loop_reads_again(loop):
    with gated(loop) as at, Caller(at.server.port) as caller:
        assert caller.send(PLAIN).answer()[0] == 429
        at.at_gate(1)
        at.full.pressed = False
        for _ in range(2):
            caller.send(PLAIN)
            at.asked(1)
            assert at.gate.size == 0
            at.let_go()
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
def test_whatever_is_not_plain_is_read_by_the_loop_whole_and_in_order(loop, parts):
    with gated(loop) as at, Caller(at.server.port) as caller:
        assert caller.send(PLAIN).answer()[0] == 429
        at.at_gate(1)
        caller.send(parts[0])
        at.at_gate(0)
        caller.send(*parts[1:])
        if b"/cold" not in parts[0]:
            at.asked(1)
            at.let_go()
        status, headers, body = caller.answer()
        assert (status, body[:1] in (b"o", b"x")) == (200, True)
        assert headers["x-route"] in ("hot", "cold")


@each_loop
def test_who_leaves_the_gate_by_closing_is_forgotten(loop):
    with gated(loop) as at:
        with Caller(at.server.port) as caller:
            assert caller.send(PLAIN).answer()[0] == 429
            at.at_gate(1)
        at.at_gate(0)


@each_loop
def test_a_drain_takes_everybody_from_the_gate_and_ends_each_connection_with_an_answer(loop):
    with gated(loop) as at, Caller(at.server.port) as caller:
        assert caller.send(PLAIN).answer()[0] == 429
        at.at_gate(1)
        cut = at.server.drain(20)
        at.at_gate(0)
        caller.send(PLAIN)
        at.asked(1)
        at.let_go()
        _, headers, body = caller.answer()
        assert (headers["connection"], body) == ("close", b"one")
        assert cut.result(20) == 0
