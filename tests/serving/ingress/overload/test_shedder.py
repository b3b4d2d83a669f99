"""Refusals before parsing: only of plain requests, with the same bytes as after parsing, and never in place of an answer."""

import dataclasses
import time

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.errors import OverloadedError
from serving.ingress import problems
from serving.ingress.http.lifecycle import State
from serving.ingress.http.response import encode
from serving.ingress.overload.reader import OverloadReader
from serving.ingress.overload.shedder import Shedder
from tests.serving.cache_fixtures import loop_iterations
from tests.serving.wire import PATH, DeferredRoute, MemoryConnection, answers, table
from tests.serving.wire import request as wired

BODY = b'{"sessionId": "s-1"}'
PLAIN = {"host": "127.0.0.1", "Content-Type": "application/json", "Content-Length": str(len(BODY))}


class FullQuestion:
    """A question whose queue lasts `wait_s` seconds."""

    def __init__(self, wait_s: float = 3.2, *, pressed: bool = True) -> None:
        self.wait_s, self.pressed = wait_s, pressed
        self.refused = 0

    def shed(self, deadline: float) -> OverloadedError | None:
        if deadline - time.monotonic() > self.wait_s:
            return None
        self.refused += 1
        return OverloadedError("7 requests wait already", self.wait_s)

    def shed_likewise(self, times: int) -> None:
        self.refused += times


def request(
    headers: dict[str, str] = PLAIN, path: str = "/v1/a", version: str = "HTTP/1.1", method: str = "POST", body: bytes = BODY
) -> bytes:
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"{method} {path} {version}\r\n{head}\r\n".encode() + body


def shed(data: bytes, full: FullQuestion | None = None) -> bytes | None:
    return Shedder({b"/v1/a": full or FullQuestion()}, 1000, 1000).reply(data)


def test_a_plain_request_is_refused_with_the_same_bytes_as_after_parsing():
    reply = shed(request())
    assert reply is not None
    problem = msgspec.json.decode(reply.partition(b"\r\n\r\n")[2])
    assert reply == encode(problems.response(OverloadedError("7 requests wait already", 3.2), problem["requestId"]), close=False)
    assert problem["retryAfter"] == 4


@pytest.mark.parametrize(
    "data",
    [
        request(path="/v1/b"),
        request(path="/v1/a?x=1"),
        request(method="GET"),
        request(version="HTTP/1.0"),
        request(body=BODY[:-1]),
        request() + request(),
        request()[:-30],
        request({name: value for name, value in PLAIN.items() if name != "Content-Length"}),
        request({**PLAIN, "content-length": "20"}),
        request({**PLAIN, "Content-Length": "+20"}),
        request({**PLAIN, "X-Request-Timeout-Ms": "0"}),
        request({**PLAIN, "X-Request-Timeout-Ms": "soon"}),
        request({**PLAIN, "Content-Length": "2000"}, body=b"x" * 2000),
        *[request({**PLAIN, name: "1"}) for name in ("X-Request-Id", "expect", "Connection", "UPGRADE", "Transfer-Encoding", "Priority")],
        b"",
        b"\r\n\r\n",
    ],
)
def test_data_other_than_one_plain_request_is_not_shed(data):
    assert shed(data) is None


def test_the_timeout_of_the_request_decides_else_the_default():
    assert shed(request({**PLAIN, "x-request-timeout-ms": "5000"})) is None
    assert shed(request({**PLAIN, "X-Request-Timeout-Ms": "3000"})) is not None
    assert shed(request(), FullQuestion(0.5)) is None


def test_without_overload_no_request_is_shed():
    full = FullQuestion(pressed=False)
    assert shed(request(), full) is None
    assert full.refused == 0


@given(st.binary(max_size=200), st.integers(0, 200))
def test_any_bytes_get_a_valid_refusal_or_none(junk, at):
    data = request()
    for altered in (junk, data[:at] + junk + data[at:]):
        reply = shed(altered)
        assert reply is None or reply.startswith(b"HTTP/1.1 429 Too Many Requests\r\n")


async def test_on_a_connection_only_complete_plain_requests_are_shed() -> None:
    """In pieces, behind an unanswered one, or once the overload has ended, a request is parsed and scored like any other."""
    full, route = FullQuestion(), DeferredRoute()
    hot = dataclasses.replace(table(route), overload_reader=OverloadReader(Shedder({PATH: full}, 1000, 1000)))
    wire = MemoryConnection(hot)
    plain = wired(b"one")
    wire.send(plain)
    await loop_iterations()
    assert (full.refused, route.replies) == (1, [])
    wire.send(plain[:10], plain[10:])
    await loop_iterations()
    assert [body for body, _ in route.replies] == [b"one"]
    wire.send(plain)
    await loop_iterations()
    route.release()
    await loop_iterations()
    assert (full.refused, [body for body, _ in route.replies]) == (1, [b"one"])
    route.release()
    await loop_iterations()
    wire.send(plain)
    full.pressed = False
    await loop_iterations()
    wire.send(plain)
    await loop_iterations()
    route.release()
    await loop_iterations()
    assert [status for status, _, _ in answers(wire.sent)] == [429, 200, 200, 429, 200]


async def test_a_draining_server_closes_the_connection_instead_of_shedding() -> None:
    full, route = FullQuestion(), DeferredRoute()
    reader = OverloadReader(Shedder({PATH: full}, 1000, 1000))
    wire = MemoryConnection(dataclasses.replace(table(route, State(ready=True, draining=True)), overload_reader=reader))
    wire.send(wired(b"one"))
    await loop_iterations()
    route.release()
    await loop_iterations()
    assert full.refused == 0
    assert wire.closed


async def test_data_within_a_request_is_not_shed_even_if_it_resembles_a_request() -> None:
    """The head may have begun in the bytes that ended the request before."""
    full, route = FullQuestion(), DeferredRoute()
    wire = MemoryConnection(dataclasses.replace(table(route), overload_reader=OverloadReader(Shedder({PATH: full}, 1000, 1000))))
    wire.send(wired(b"")[:10], wired(b"")[10:] + b"GET /cold HTTP/1.1\r\nX: ")
    await loop_iterations()
    route.release()
    await loop_iterations()
    wire.send(wired(b"one"))
    await loop_iterations()
    assert (full.refused, route.replies) == (0, [])
    assert [headers.get("x-route") for _, headers, _ in answers(wire.sent)] == ["hot", "cold"] + [None] * (len(answers(wire.sent)) - 2)
