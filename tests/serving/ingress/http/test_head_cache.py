"""The head cache: a request with a cached head is answered as if it had been parsed, few heads are kept, and no credential is stored."""

import asyncio
import hashlib
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.ingress.http import head_cache
from serving.ingress.http.head_cache import Head, HeadCache
from serving.ingress.http.headers import Headers
from serving.ingress.http.response import Response
from serving.ingress.http.routes import Reply
from tests.serving.wire import PATH, MemoryConnection, answers, cold, request, table

TYPE = b"Content-Type: application/json"
HEAD = Head(PATH, {b"host": b"test", b"content-length": b"4"}, 4)


class RecordingRoute:
    """A route that answers with the body of the request and records the headers."""

    def __init__(self) -> None:
        self.headers: list[Headers] = []

    def begin(self, headers: Headers, body: bytes, reply: Reply, unread_s: float) -> Callable[[], object]:
        self.headers.append(headers)
        answer = Response(200, b"content-type: text/plain\r\n", body)
        if b"later" in body:
            return asyncio.get_running_loop().call_soon(reply, answer).cancel
        reply(answer)
        return lambda: None


def test_a_cached_head_is_found_with_another_body():
    known = HeadCache()
    known.keep(request(b"one!"), HEAD)
    assert known.find(request(b"two!")) == (HEAD, b"two!")


OTHERS = [request(b"three"), request(b"two!") + b"!", request(b"two!")[:-1], request(b"two!", TYPE), b"", b"\r\n\r\n"]


@pytest.mark.parametrize("data", OTHERS)
def test_only_a_complete_request_with_a_cached_head_is_found(data):
    known = HeadCache()
    known.keep(request(b"one!"), HEAD)
    assert known.find(data) is None


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (request(b"one!", b"X-Request-Id: mine"), b"x-request-id"),
        (request(b"one!", b"Authorization: Bearer x"), b"authorization"),  # the parser has read another credential
        (request(b"one!", b"Cookie: a=b"), b"cookie"),
        (request(b"one!", b"Accept: " + b"a" * head_cache.MAX_BYTES), b"accept"),
    ],
)
def test_a_head_with_an_id_a_cookie_or_another_credential_or_a_long_one_is_not_cached(data, name):
    known = HeadCache()
    known.keep(data, Head(PATH, {**HEAD.headers, name: b"..."}, 4))
    assert known.find(data) is None


def auth(token: bytes, name: bytes = b"Authorization") -> bytes:
    return name + b": " + token


def kept(known: HeadCache, token: bytes, name: bytes = b"Authorization") -> HeadCache:
    known.keep(request(b"one!", auth(token, name)), Head(PATH, {**HEAD.headers, b"authorization": token}, 4))
    return known


@pytest.mark.parametrize("name", [b"Authorization", b"authorization"])
def test_a_head_with_a_credential_is_found_with_the_same_credential_and_no_other(name):
    known = kept(HeadCache(), b"Bearer secret-1", name)
    found = known.find(request(b"two!", auth(b"Bearer secret-1", name)))
    assert found is not None
    assert (found[0].headers[b"authorization"], found[1]) == (b"Bearer secret-1", b"two!")
    for other in (auth(b"Bearer secret-2", name), auth(b"Bearer secret-1 ", name), auth(b"Bearer secret-", name), auth(b"", name)):
        assert known.find(request(b"two!", other)) is None
    assert known.find(request(b"two!")) is None


def every_byte_string(value: Any) -> Iterator[bytes]:
    """Yield all byte strings in keys and values, however deep."""
    if isinstance(value, bytes):
        yield value
    elif isinstance(value, dict):
        yield from every_byte_string(list(value.items()))
    elif isinstance(value, tuple | list):
        for each in value:
            yield from every_byte_string(each)


@given(st.from_regex(rb"[!-~]{12,60}", fullmatch=True), st.sampled_from([b"Authorization", b"authorization", b"AUTHORIZATION"]))
def test_no_credential_is_stored(token, name):
    """Neither its text nor an unkeyed digest of it is stored, and two servers have different keys for it."""
    first, second = (kept(HeadCache(), b"Bearer " + token, name) for _ in range(2))
    stored = list(every_byte_string(first._heads))
    assert bool(stored) == (name != b"AUTHORIZATION")
    assert not any(token in each for each in stored)
    assert not any(hashlib.blake2b(b"Bearer " + token, digest_size=size).digest() in each for each in stored for size in (16, 32, 64))
    if stored:
        assert first._heads.keys() != second._heads.keys()


@pytest.mark.parametrize(
    "more",
    [[auth(b"token-1"), auth(b"token-2")], [auth(b"token-1"), auth(b"token-1", b"authorization")], [auth(b"token-1"), b"Origin: token-1"]],
)
def test_a_head_with_more_than_one_credential_is_not_cached(more):
    known = HeadCache()
    parsed = dict(line.lower().split(b": ") for line in more)
    known.keep(request(b"one!", *more), Head(PATH, {**HEAD.headers, **parsed}, 4))
    assert known.find(request(b"two!", *more)) is None
    assert not known._heads


TOKENS = st.sampled_from([b"Bearer a", b"Bearer b", b"Bearer aa", b"Basic YTpi", b"", b"a"])


@settings(deadline=None, max_examples=200)
@given(st.lists(st.tuples(TOKENS, st.sampled_from([b"Authorization", b"authorization"]), st.sampled_from([b"1", b"22"])), max_size=12))
def test_each_request_reaches_its_route_with_its_own_credential(asked):
    """Requests whose heads differ only in the credential share a cache; each is answered for the principal that sent it."""

    async def credentials() -> list[bytes | None]:
        hot = table(route := RecordingRoute())
        for token, name, body in asked:
            wire = MemoryConnection(hot)
            wire.send(request(body, *[auth(token, name)] * bool(token)))
            await wire.settled()
        return [headers.get(b"authorization") for headers in route.headers]

    assert asyncio.run(credentials()) == [token or None for token, _, _ in asked]


def test_the_oldest_head_is_evicted_beyond_the_bound(monkeypatch):
    monkeypatch.setattr(head_cache, "MAX_HEADS", 2)
    known, bodies = HeadCache(), (b"1", b"22", b"333")
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
                *(
                    [auth(b"Bearer a")],
                    [auth(b"Bearer b")],
                    [auth(b"Bearer b", b"authorization"), TYPE],
                    [auth(b" Bearer a ")],
                    [auth(b"")],
                ),
                *([auth(b"Bearer a"), auth(b"Bearer b")], [auth(b"Bearer a", b"AUTHORIZATION")]),
                *([b"Connection: close"], [b"Expect: 100-continue"], [b"Upgrade: h2c"], [b"Accept: a", b"Accept: b"], [b"Accept:"]),
            ]
        ),
    }
)


def whole(one: dict[str, Any]) -> bytes:
    return request(one["body"], *one["more"], path=one["path"], chunks=one["chunks"], method=one["method"])


@settings(deadline=None, max_examples=200)
@given(st.lists(ONE, min_size=1, max_size=6), st.lists(st.integers(0, 10_000), max_size=3), st.booleans())
def test_requests_and_answers_are_the_same_with_and_without_cached_heads(asked, cuts, together):
    """With cached heads: each request was sent before, alone, on a connection of its own."""
    stream = b"".join(map(whole, asked))
    ends = list(itertools.accumulate(len(whole(one)) for one in asked))
    places = sorted({0, len(stream), *([] if together else ends), *(cut % (len(stream) + 1) for cut in cuts)})

    async def exchanged(known: bool) -> tuple[Any, ...]:
        hot = table(route := RecordingRoute())
        for one in asked if known else []:
            before = MemoryConnection(hot)
            before.send(whole(one))
            await before.settled()
        route.headers.clear()
        wire = MemoryConnection(hot)
        for begin, end in itertools.pairwise(places):
            wire.send(stream[begin:end])
            await wire.settled()
        return wire.sent, wire.closed, route.headers

    assert asyncio.run(exchanged(known=True)) == asyncio.run(exchanged(known=False))


@pytest.mark.parametrize("more", [[TYPE], [TYPE, auth(b"Bearer secret")]])
async def test_a_request_with_a_cached_head_is_not_parsed(more):
    hot = table(route := RecordingRoute())
    first, second = MemoryConnection(hot, cold), MemoryConnection(hot, cold)
    first.send(request(b"one!", *more))
    await first.settled()

    class Unused:
        def feed_data(self, data: bytes) -> None:
            raise AssertionError(f"parsed {data!r}")

    second.protocol.parser = Unused()
    second.send(request(b"two!", *more))
    assert [body for _, _, body in await second.settled()] == [b"two!"]
    assert answers(first.sent)[0][2] == b"one!"
    assert route.headers[0] == route.headers[1]
    assert len(more) > 1 or route.headers[0] is route.headers[1]
