"""A hot route answers from the parser with the same bytes as over ASGI."""

import gzip
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import msgspec
import pytest

from serving.ingress.http.compression import MARK
from serving.ingress.http.headers import Headers
from serving.ingress.http.lifecycle import State
from serving.ingress.http.response import Response
from serving.ingress.http.routes import Reply, Route
from serving.scoring.answer import Answer
from tests.serving.greeting import ROUTE, Scripted, app, client, configured, encoded
from tests.serving.wire import Caller, Serving, answers, request, serving

LIMIT = 100_000
PATH = ROUTE.encode()
TYPE = b"Content-Type: application/json"
NEXT = b"GET /health/live HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"
GOOD = encoded()


def post(body: bytes, *headers: bytes, path: bytes = PATH, **how: int) -> bytes:
    return request(body, TYPE, *headers, path=path, **how)  # type: ignore[arg-type]


REQUESTS = {
    "plain": post(GOOD),
    "two at once": post(GOOD) + post(b"{}"),
    "with an id": post(GOOD, b"X-Request-Id: mine"),
    "with two ids": post(GOOD, b"X-Request-Id: mine", b"x-request-id: yours"),
    "keep-alive": post(GOOD, b"Connection: keep-alive"),
    "close": post(GOOD, b"Connection: close"),
    "close among others": post(GOOD, b"Connection: foo, Close"),
    "1.0": post(GOOD).replace(b"HTTP/1.1", b"HTTP/1.0"),
    "1.0 keep-alive": post(GOOD, b"Connection: keep-alive").replace(b"HTTP/1.1", b"HTTP/1.0"),
    "chunks": post(GOOD, chunks=5),
    "chunks with extensions": post(GOOD, chunks=1_000).replace(b"\r\n0\r\n", b"\r\n0;a=b\r\n"),
    "a list": post(b"[%b,{},7]" % GOOD),
    "no body": post(b""),
    "no length": b"POST %b HTTP/1.1\r\n%b\r\n\r\n" % (PATH, TYPE),
    "not JSON": post(b"{"),
    "wrong fields": post(encoded(hour=99, sessionId="")),
    "unknown fields": post(encoded(colour="red")),
    "no type": request(GOOD, path=PATH),
    "compressed, but it is not": post(GOOD, b"Content-Encoding: gzip"),
    "gzip": post(gzip.compress(GOOD), b"Content-Encoding: gzip"),
    "gzip by its other name": post(gzip.compress(GOOD), b"Content-Encoding: X-GZIP, identity"),
    "gzip of several members": post(gzip.compress(GOOD[:9]) + gzip.compress(GOOD[9:]), b"Content-Encoding: gzip"),
    "gzip twice": post(gzip.compress(gzip.compress(GOOD)), b"Content-Encoding: gzip, gzip"),
    "gzip that ends early": post(gzip.compress(GOOD)[:-1], b"Content-Encoding: gzip"),
    "gzip that is damaged": post(gzip.compress(GOOD)[:-8] + bytes(8), b"Content-Encoding: gzip"),
    "gzip of too much": post(gzip.compress(GOOD.ljust(LIMIT + 1)), b"Content-Encoding: gzip"),
    "gzip of very much": post(gzip.compress(b" " * 50_000_000), b"Content-Encoding: gzip"),
    "gzip of the limit": post(gzip.compress(GOOD.ljust(LIMIT)), b"Content-Encoding: gzip"),
    "gzip of a mark": post(gzip.compress(MARK + GOOD), b"Content-Encoding: gzip"),
    "another coding": post(GOOD, b"Content-Encoding: br"),
    "identity": post(GOOD, b"Content-Encoding: Identity"),
    "an empty coding": post(GOOD, b"Content-Encoding:"),
    "a mark": post(MARK + GOOD),
    "a mark before a list": post(MARK + b"[%b,{},7]" % GOOD),
    "two marks": post(MARK + MARK + GOOD),
    "empty parameters": request(GOOD, b"Content-Type: application/json;", path=PATH),
    "parameters": request(GOOD, b'Content-Type: Application/JSON ; ;charset="UTF-8"; profile="a;b\\"c" ;', path=PATH),
    "another charset": request(GOOD, b"Content-Type: application/json; charset=latin-1", path=PATH),
    "another type": request(GOOD, b"Content-Type: application/jsonl", path=PATH),
    "blanks after values": request(
        GOOD, b"Content-Type: application/json \t", b"X-Request-Timeout-Ms: 500 ", b"X-Request-Id: mine\t ", b"Priority: u=1 ", path=PATH
    ),
    "blanks after the length": post(GOOD).replace(b"\r\n\r\n", b" \t\r\n\r\n"),
    "no host": post(GOOD).replace(b"Host: test\r\n", b""),
    "two hosts": post(GOOD, b"Host: test"),
    "two hosts after one": post(GOOD) + post(GOOD, b"Host: test"),
    "an invalid host": post(GOOD).replace(b"Host: test", b"Host: te st"),
    "two in one host": post(GOOD).replace(b"Host: test", b"Host: a, b/c"),
    "an empty host": post(GOOD).replace(b"Host: test", b"Host: "),
    "an address as host": post(GOOD).replace(b"Host: test", b"Host: [::1]:8000"),
    "1.0 without a host": post(GOOD).replace(b"HTTP/1.1", b"HTTP/1.0").replace(b"Host: test\r\n", b""),
    "a wrong deadline": post(GOOD, b"X-Request-Timeout-Ms: soon"),
    "folded header": post(GOOD, b"X-Request-Id: a\r\n b"),
    "an empty header": post(GOOD, b"X-Request-Id:"),
    "too large": post(b" " * (LIMIT + 1)),
    "too large in chunks": post(b" " * (LIMIT + 1), chunks=10_000),
    "exactly the limit": post(GOOD.ljust(LIMIT)),
    "expecting": post(GOOD, b"Expect: 100-continue"),
    "expecting too much": post(b"", b"Expect: 100-continue").replace(b"Content-Length: 0", b"Content-Length: 100001"),
    "expecting something else": post(GOOD, b"Expect: wonders"),
    "two lengths": post(GOOD, b"Content-Length: 3"),
    "length and chunks": post(GOOD, b"Content-Length: 3", chunks=5),
    "a negative length": post(b"").replace(b"Content-Length: 0", b"Content-Length: -1"),
    "a broken chunk": post(GOOD, chunks=5).replace(b"\r\n5\r\n", b"\r\nx\r\n", 1),
    "another method": request(GOOD, TYPE, method=b"PUT", path=PATH),
    "get": request(b"", method=b"GET", path=PATH),
    "options": request(b"", method=b"OPTIONS", path=PATH),
    "a lower-case method": post(GOOD).replace(b"POST", b"post"),
    "a query": post(GOOD, path=PATH + b"?a=b"),
    "a fragment": post(GOOD, path=PATH + b"#a"),
    "a slash more": post(GOOD, path=PATH + b"/"),
    "two slashes": post(GOOD, path=b"/" + PATH),
    "percent-encoded": post(GOOD, path=b"/v1/%67reeting"),
    "absolute": post(GOOD, path=b"http://test" + PATH),
    "nowhere": post(GOOD, path=b"/v1/nowhere"),
    "an upgrade": post(b"", b"Upgrade: h2c", b"Connection: Upgrade"),
    "an upgrade without a connection": post(GOOD, b"Upgrade: h2c"),
    "an upgrade with a body": post(GOOD, b"Upgrade: h2c", b"HTTP2-Settings: AAMA", b"Connection: Upgrade, HTTP2-Settings"),
    "an upgrade with chunks": post(GOOD, b"Upgrade: websocket", b"Connection: Upgrade", chunks=5),
    "an upgrade of 1.0": post(GOOD, b"Upgrade: h2c", b"Connection: Upgrade").replace(b"HTTP/1.1", b"HTTP/1.0"),
    "no HTTP": b"hello\r\n\r\n",
}


# The statuses that the standards require: RFC 9110 5.5, 5.6.6, 7.8, 8.4.1 and 12.5.3, RFC 9112 3.2, RFC 8259 8.1.
REQUIRED = {
    **dict.fromkeys(("an upgrade with a body", "an upgrade with chunks", "an upgrade of 1.0", "an upgrade without a connection"), 200),
    **dict.fromkeys(
        ("blanks after values", "blanks after the length", "empty parameters", "parameters", "identity", "an empty coding"), 200
    ),
    **dict.fromkeys(("a mark", "a mark before a list", "1.0 without a host", "an empty host", "an address as host"), 200),
    **dict.fromkeys(("gzip", "gzip by its other name", "gzip of several members", "gzip of the limit", "gzip of a mark"), 200),
    **dict.fromkeys(("no host", "two hosts", "an invalid host", "two in one host", "two marks"), 400),
    **dict.fromkeys(("gzip that ends early", "gzip that is damaged", "compressed, but it is not"), 400),
    **dict.fromkeys(("gzip of too much", "gzip of very much"), 413),
    **dict.fromkeys(("another coding", "gzip twice", "another charset", "another type"), 415),
}


@pytest.fixture(scope="module")
def both() -> Iterator[tuple[Serving, Serving]]:
    """The same application twice: with hot routes, and without."""
    with ExitStack() as stack:
        servers = []
        for is_hot in (True, False):
            state = State(ready=True)
            outcomes = [Answer(b'{"a":1}', "hit", 2.5, 0.001)]
            application = app(Scripted(*outcomes), configured(max_body_bytes=LIMIT, max_connections=5), state)
            servers.append(stack.enter_context(serving(application, application.route_table if is_hot else None, state)))
        yield servers[0], servers[1]


def exchanged(server: Serving, *parts: bytes) -> list[tuple[int, dict[str, str], bytes]]:
    """Return the answers until the connection ended, which `NEXT` requests, without the parts that differ every time."""
    with Caller(server.port) as caller:
        got = caller.send(b"".join(parts) + NEXT).rest()
    return answers(re.sub(rb"dur=[0-9.]+", b"dur=0", re.sub(rb"[0-9a-f]{32}", b"i" * 32, got)))


@pytest.mark.parametrize("name", REQUESTS)
def test_the_hot_route_and_asgi_give_the_same_answers(both: tuple[Serving, Serving], name: str) -> None:
    hot, asgi = (exchanged(server, REQUESTS[name]) for server in both)
    assert hot == asgi
    assert hot


@pytest.mark.parametrize("name", REQUIRED)
def test_the_answer_has_the_status_that_the_standards_require(both: tuple[Serving, Serving], name: str) -> None:
    assert exchanged(both[0], REQUESTS[name])[0][0] == REQUIRED[name]


@pytest.mark.parametrize("name", ["plain", "not JSON", "too large", "chunks", "get"])
def test_the_hot_route_and_asgi_both_close_connections_while_draining(both: tuple[Serving, Serving], name: str) -> None:
    got = []
    for server in both:
        server.state.draining = True
        got.append(exchanged(server, REQUESTS[name]))
        server.state.draining = False
    assert got[0] == got[1]
    assert [headers["connection"] for _, headers, _ in got[0]] == ["close"]


def test_the_hot_route_and_asgi_both_refuse_beyond_the_same_bound(both: tuple[Serving, Serving]) -> None:
    got = []
    for server in both:
        server.state.in_flight += 5
        got.append(exchanged(server, REQUESTS["plain"], REQUESTS["with an id"]))
        server.state.in_flight -= 5
    assert got[0] == got[1]
    assert [status for status, _, _ in got[0]] == [429, 429, 200]


class SumRoute:
    """A route that answers with the sum of a list of numbers."""

    def begin(self, headers: Headers, body: bytes, reply: Reply, unread_s: float) -> Callable[[], object]:
        numbers = msgspec.json.decode(body, type=list[float])
        reply(Response(200, b"content-type: application/json\r\n", msgspec.json.encode(sum(numbers))))
        return lambda: None


async def test_a_further_hot_route_needs_only_begin() -> None:
    state = State(ready=True)
    application = app(Scripted(Answer(b"{}", "miss", 0.0)), configured(max_body_bytes=1024), state)
    application.add_hot_route("/v1/bare", Route(SumRoute().begin))
    numbers = msgspec.json.encode([0.5] * 17)
    with serving(application, application.route_table, state) as server, Caller(server.port) as caller:
        status, headers, body = caller.send(request(numbers, path=b"/v1/bare")).answer()
        assert (status, headers, body) == (200, {"content-type": "application/json", "content-length": "3"}, b"8.5")
        assert caller.send(request(b" " * 2000, path=b"/v1/bare")).answer()[0] == 413
    async with client(application) as http:
        assert (await http.post("/v1/bare", content=numbers)).content == b"8.5"
        refused = await http.get("/v1/bare")
        assert (refused.status_code, refused.headers["allow"]) == (405, "POST")
        assert (await http.post("/v1/bare", content=b" " * 2000)).status_code == 413
