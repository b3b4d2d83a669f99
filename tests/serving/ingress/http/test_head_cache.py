"""Heads that are known: a request with one is answered as if it had been parsed, and few are kept."""

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.ingress.http import head_cache
from serving.ingress.http.head_cache import Head, Heads
from serving.ingress.http.headers import Headers
from serving.ingress.http.response import Response
from serving.ingress.http.routes import Reply
from tests.serving.wire import PATH, Wire, answers, cold, request, table

TYPE = b"Content-Type: application/json"
HEAD = Head(PATH, {b"host": b"test", b"content-length": b"4"}, 4)


class Noting:
    """Answers with what it is asked, and notes the headers."""

    def __init__(self) -> None:
        self.headers: list[Headers] = []

    def begin(self, headers: Headers, body: bytes, reply: Reply, unread_s: float) -> Callable[[], object]:
        self.headers.append(headers)
        answer = Response(200, b"content-type: text/plain\r\n", body)
        if b"later" in body:
            return asyncio.get_running_loop().call_soon(reply, answer).cancel
        reply(answer)
        return lambda: None


def test_a_head_that_is_kept_is_found_with_another_body():
    known = Heads()
    known.keep(request(b"one!"), HEAD)
    assert known.find(request(b"two!")) == (HEAD, b"two!")


OTHERS = [request(b"three"), request(b"two!") + b"!", request(b"two!")[:-1], request(b"two!", TYPE), b"", b"\r\n\r\n"]


@pytest.mark.parametrize("data", OTHERS)
def test_what_is_no_whole_request_with_a_known_head_is_not_found(data):
    known = Heads()
    known.keep(request(b"one!"), HEAD)
    assert known.find(data) is None


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (request(b"one!", b"X-Request-Id: mine"), b"x-request-id"),
        (request(b"one!", b"Authorization: Bearer x"), b"authorization"),
        (request(b"one!", b"Cookie: a=b"), b"cookie"),
        (request(b"one!", b"Accept: " + b"a" * head_cache.MAX_BYTES), b"accept"),
    ],
)
def test_a_head_that_comes_once_or_tells_who_asks_or_is_long_is_not_kept(data, name):
    known = Heads()
    known.keep(data, Head(PATH, {**HEAD.headers, name: b"..."}, 4))
    assert known.find(data) is None


def test_the_oldest_goes_where_there_are_too_many(monkeypatch):
    monkeypatch.setattr(head_cache, "MOST", 2)
    known, bodies = Heads(), (b"1", b"22", b"333")
    for body in bodies:
        known.keep(request(body), Head(PATH, {}, len(body)))
    assert [known.find(request(body)) is not None for body in bodies] == [False, True, True]


ONE = st.fixed_dictionaries(
    {
        "body": st.sampled_from([b"", b"body", b"later", b"b\r\n\r\ndy", b"large" * 1000]),
        "path": st.sampled_from([PATH, PATH, PATH, b"/cold"]),
        "chunks": st.sampled_from([0, 0, 0, 3]),
        "method": st.sampled_from([b"POST", b"POST", b"POST", b"PUT"]),
        "more": st.sampled_from(
            [
                *([], [TYPE], [b"X-Request-Timeout-Ms: 50"], [b"Connection: keep-alive"], [b"Priority: u=1", TYPE], [b"X-Request-Id: a"]),
                *([b"Connection: close"], [b"Expect: 100-continue"], [b"Upgrade: h2c"], [b"Accept: a", b"Accept: b"], [b"Accept:"]),
            ]
        ),
    }
)


def whole(one: dict[str, Any]) -> bytes:
    return request(one["body"], *one["more"], path=one["path"], chunks=one["chunks"], method=one["method"])


@settings(deadline=None, max_examples=200)
@given(st.lists(ONE, min_size=1, max_size=6), st.lists(st.integers(0, 10_000), max_size=3), st.booleans())
def test_however_much_is_known_the_same_is_asked_and_answered(asked, cuts, together):
    """Each request has come before, alone, on a connection of its own; or nothing has."""
    stream = b"".join(map(whole, asked))
    ends = list(itertools.accumulate(len(whole(one)) for one in asked))
    places = sorted({0, len(stream), *([] if together else ends), *(cut % (len(stream) + 1) for cut in cuts)})

    async def told(known: bool) -> tuple[Any, ...]:
        hot = table(route := Noting())
        for one in asked if known else []:
            before = Wire(hot)
            before.send(whole(one))
            await before.settled()
        route.headers.clear()
        wire = Wire(hot)
        for begin, end in itertools.pairwise(places):
            wire.send(stream[begin:end])
            await wire.settled()
        return wire.sent, wire.closed, route.headers

    assert asyncio.run(told(known=True)) == asyncio.run(told(known=False))


async def test_a_request_that_is_asked_again_is_not_parsed():
    hot = table(route := Noting())
    first, second = Wire(hot, cold), Wire(hot, cold)
    first.send(request(b"one!", TYPE))
    await first.settled()

    class Deaf:
        def feed_data(self, data: bytes) -> None:
            raise AssertionError(f"parsed {data!r}")

    second.protocol.parser = Deaf()
    second.send(request(b"two!", TYPE))
    assert [body for _, _, body in await second.settled()] == [b"two!"]
    assert answers(first.sent)[0][2] == b"one!"
    assert route.headers[0] is route.headers[1]
