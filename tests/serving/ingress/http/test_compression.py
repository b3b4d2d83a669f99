"""Codings of bodies: what a body expands to is bounded, and a response is compressed only for a caller who accepts that."""

import asyncio
import gzip
import json
import random
import tracemalloc
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.errors import NotJSONError, TooLargeError
from serving.ingress.http import compression
from serving.ingress.http.compression import INLINE_BYTES, MAX_MEMBERS, MIN_COMPRESSED, Codings, Inflater
from serving.ingress.http.headers import Headers, accepts_gzip
from serving.ingress.http.lifecycle import State
from serving.ingress.http.response import Response
from serving.ingress.http.routes import Reply
from serving.scoring.answer import Answer
from tests.serving.greeting import ROUTE, Scripted, app, client, configured, encoded
from tests.serving.wire import Caller, DeferredRoute, MemoryConnection, answers, request, serving, table

LARGE = json.dumps({"numbers": list(range(5000))}).encode()
JSON = b"Content-Type: application/json"
PATH = ROUTE.encode()


class Sized:
    """A route that answers with as many bytes as its body states."""

    def begin(self, headers: Headers, body: bytes, reply: Reply, unread_s: float) -> Callable[[], object]:
        reply(Response(200, b"x-route: hot\r\n", b"a" * int(body)))
        return lambda: None


@settings(deadline=None)
@given(st.lists(st.binary(max_size=300), min_size=1, max_size=5), st.integers(1, 9), st.integers(1, 2000))
def test_a_body_is_decompressed_as_gzip_does_it_in_whatever_steps(parts, level, budget):
    body = b"".join(gzip.compress(part, level) for part in parts)
    inflater = Inflater(body, 10_000)
    while not inflater.run(budget):
        pass
    assert inflater.content == gzip.decompress(body)


def test_what_a_small_body_expands_to_is_never_held_whole():
    bomb = zlib.compressobj(9, zlib.DEFLATED, 31)
    body = b"".join([*(bomb.compress(bytes(1 << 20)) for _ in range(64)), bomb.flush()])
    tracemalloc.start()
    try:
        inflater = Inflater(body, 4 << 20)
        with pytest.raises(TooLargeError, match="4194304"):
            inflater.run(1 << 40)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 16 << 20


def test_the_number_of_members_is_bounded():
    for members, fails in ((MAX_MEMBERS, False), (MAX_MEMBERS + 1, True)):
        inflater = Inflater(gzip.compress(b"") * members, 1000)
        if fails:
            with pytest.raises(NotJSONError, match="members"):
                inflater.run(10**9)
        else:
            assert inflater.run(10**9)


@pytest.mark.parametrize(
    ("accepted", "gzips"),
    [
        (None, False), ("", False), ("gzip", True), ("GZIP", True), ("x-gzip", True), ("deflate, gzip;q=1.0, *;q=0.5", True), ("*", True),
        ("*;q=0", False), ("gzip;q=0", False), ("gzip ; q=0.000", False), ("gzip;q=0, *", False), ("br", False),
        ("identity, gzip;q=0.5", False),
        ("gzip;q=0.5, identity;q=0.1", True), ("gzip;q=soon", False), ("notgzip", False),
    ],
)  # fmt: skip
def test_a_response_is_compressed_only_for_a_caller_who_accepts_that(accepted, gzips):
    headers = {} if accepted is None else {b"accept-encoding": accepted.encode()}
    assert accepts_gzip(headers) is gzips


@pytest.mark.parametrize("size", [MIN_COMPRESSED - 1, MIN_COMPRESSED, INLINE_BYTES, INLINE_BYTES + 1, 500_000])
async def test_a_large_response_is_compressed_and_names_what_it_depends_on(size):
    wire = MemoryConnection(table(Sized()))
    wire.send(request(b"%d" % size, b"Accept-Encoding: gzip") + request(b"1"), request(b"%d" % size))
    async with asyncio.timeout(20):
        while len(found := answers(wire.sent)) < 3:
            await wire.settled()
    (_, first, coded), (_, _, small), (_, last, plain) = found
    assert (small, plain) == (b"a", b"a" * size)
    if size < MIN_COMPRESSED:
        assert (coded, first.keys() & {"vary", "content-encoding"}) == (plain, set())
    else:
        assert (first["content-encoding"], first["vary"], last["vary"]) == ("gzip", "Accept-Encoding", "Accept-Encoding")
        assert (gzip.decompress(coded), "content-encoding" in last) == (plain, False)


async def test_a_response_that_compression_does_not_shorten_is_sent_as_it_is():
    noise = random.Random(7).randbytes(9000)
    made: list[Response] = []
    Codings(10).compress({b"accept-encoding": b"gzip"}, Response(200, [], noise), made.append)
    assert made == [Response(200, [(b"vary", b"Accept-Encoding")], noise)]


async def test_a_response_that_is_compressed_already_is_not_compressed_again():
    made: list[Response] = []
    done = Response(200, b"content-encoding: gzip\r\nvary: Accept-Encoding\r\n", b"x" * 9000)
    Codings(10).compress({b"accept-encoding": b"gzip"}, done, made.append)
    assert made == [done]


async def test_a_caller_who_disconnects_while_their_body_is_decompressed_is_not_answered():
    body = gzip.compress(b"a" * 90_000)
    hot = table(route := DeferredRoute())
    wire = MemoryConnection(hot)
    wire.send(request(body, b"Content-Encoding: gzip"))
    wire.protocol.connection_lost(ConnectionResetError())
    for _ in range(50):
        await asyncio.sleep(0)
    assert (route.replies, wire.sent, hot.state.in_flight) == ([], b"", 0)


async def test_a_large_body_is_decompressed_in_a_thread_and_that_time_counts_as_unread(monkeypatch):
    threads: list[object] = []
    run = asyncio.to_thread

    async def to_thread(function, *arguments):
        threads.append(function)
        return await run(function, *arguments)

    monkeypatch.setattr(compression.asyncio, "to_thread", to_thread)
    wire = MemoryConnection(table(route := DeferredRoute()))
    wire.send(request(gzip.compress(b"a" * 90_000), b"Content-Encoding: gzip"))
    async with asyncio.timeout(20):
        while not route.replies:
            await asyncio.sleep(0)
    route.release()
    assert (await wire.settled())[0][2] == b"a" * 90_000
    assert len(threads) == 1
    assert route.unread_s[0] > 0


@pytest.mark.parametrize("hot", [True, False], ids=["hot", "over ASGI"])
def test_resources_and_lists_are_compressed_on_every_path(hot):
    state = State(ready=True)
    application = app(Scripted(Answer(b'{"a":%b}' % LARGE, "miss", 0.0)), configured(), state)
    with serving(application, application.route_table if hot else None, state) as server, Caller(server.port) as caller:
        sent = request(encoded(), JSON, b"Accept-Encoding: gzip", path=PATH)
        status, headers, body = caller.send(sent).answer()
        assert (status, headers["content-encoding"], headers["vary"]) == (200, "gzip", "Accept-Encoding")
        assert json.loads(gzip.decompress(body))["a"]["numbers"][-1] == 4999
        document = request(b"", b"Accept-Encoding: gzip", method=b"GET", path=b"/openapi.json")
        status, headers, body = caller.send(document).answer()
        assert (status, headers["content-encoding"]) == (200, "gzip")
        assert json.loads(gzip.decompress(body))["openapi"].startswith("3.1")


async def test_weights_count_for_resources_too():
    async with client(app(Scripted(Answer(b"{}", "miss", 0.0)), configured())) as http:
        for accepted, coding in (("gzip;q=0", None), ("identity;q=0.1, gzip;q=0.9", "gzip")):
            answer = await http.get("/openapi.json", headers={"accept-encoding": accepted})
            assert answer.headers.get("content-encoding") == coding
            assert "Accept-Encoding" in answer.headers["vary"]
