"""Cross-origin requests: off by default; for allowed origins every path and every kind of answer has the headers, for others none."""

import dataclasses
import time

import pytest

from serving import settings as configuration
from serving.errors import OverloadedError, SettingsError
from serving.ingress.cors import Cors
from serving.ingress.http.lifecycle import State
from serving.ingress.overload.reader import OverloadReader
from serving.ingress.overload.shedder import Shedder
from serving.scoring.answer import Answer
from tests.serving.greeting import ROUTE, Scripted, app, configured, encoded
from tests.serving.wire import PATH, Caller, Echo, MemoryConnection, cold, request, serving, table

SHOP, OTHER = "https://shop.example", "https://other.example"
JSON = b"Content-Type: application/json"
CASES = {
    "an answer": request(encoded(), JSON, path=ROUTE.encode()),
    "wrong fields": request(b"{}", JSON, path=ROUTE.encode()),
    "a wrong type": request(encoded(), path=ROUTE.encode()),
    "too large": request(b" " * 60_000, JSON, path=ROUTE.encode()),
    "health": request(b"", method=b"GET", path=b"/health/live"),
    "metrics": request(b"", method=b"GET", path=b"/metrics"),
    "a page": request(b"", method=b"GET", path=b"/docs"),
    "an asset": request(b"", method=b"GET", path=b"/docs/assets/swagger-ui.css"),
    "nothing": request(b"", method=b"GET", path=b"/nowhere"),
    "a wrong method": request(b"", method=b"GET", path=ROUTE.encode()),
}


def with_origin(data: bytes, origin: str | None) -> bytes:
    return data if origin is None else data.replace(b"Host: test\r\n", b"Host: test\r\nOrigin: %b\r\n" % origin.encode(), 1)


def headers_of(origins, sent, *, hot=True):
    """Return the headers of the answer of a server with these origins."""
    state = State(ready=True)
    application = app(Scripted(Answer(b"{}", "miss", 0.0)), configured(cors_origins=origins, max_body_bytes=50_000), state)
    with serving(application, application.route_table if hot else None, state) as server, Caller(server.port) as caller:
        return caller.send(sent.replace(b"Host: test", b"Host: test\r\nConnection: close")).answer()


@pytest.mark.parametrize("hot", [True, False], ids=["hot", "over ASGI"])
@pytest.mark.parametrize("case", CASES)
def test_an_allowed_page_may_read_every_kind_of_answer_and_no_other_page_any(case, hot):
    sent = CASES[case]
    status, without, _ = headers_of((), with_origin(sent, SHOP), hot=hot)
    assert not [name for name in without if name.startswith("access-control")]
    got, allowed, _ = headers_of((SHOP, "http://localhost:3000"), with_origin(sent, SHOP), hot=hot)
    assert (got, allowed["access-control-allow-origin"]) == (status, SHOP)
    assert "X-Request-Id" in allowed["access-control-expose-headers"]
    for origin in (OTHER, SHOP + ":8443", "null", None):
        got, refused, _ = headers_of((SHOP,), with_origin(sent, origin), hot=hot)
        assert got == status
        assert "access-control-allow-origin" not in refused
        assert "Origin" in refused["vary"].split(", ")
    assert "Origin" in allowed["vary"].split(", ")
    for origin in (OTHER, None):
        _, anyone, _ = headers_of(("*",), with_origin(sent, origin), hot=hot)
        assert (anyone["access-control-allow-origin"], "Origin" in anyone.get("vary", "")) == ("*", False)


PREFLIGHT = (b"Access-Control-Request-Method: POST", b"Access-Control-Request-Headers: content-type,x-request-id,x-request-timeout-ms")


@pytest.mark.parametrize("path", [ROUTE, "/health/live", "/metrics", "/openapi.json", "/nowhere"])
def test_a_preflight_request_is_answered_on_every_path_for_an_allowed_origin_only(path):
    sent = request(b"", *PREFLIGHT, method=b"OPTIONS", path=path.encode())
    state = State(ready=True)
    application = app(Scripted(Answer(b"{}", "miss", 0.0)), configured(cors_origins=(SHOP,)), state)
    with serving(application, application.route_table, state) as server:
        with Caller(server.port) as caller:
            head = caller.send(with_origin(sent, SHOP).replace(b"Host: test", b"Host: test\r\nConnection: close")).rest().decode()
        assert head.startswith("HTTP/1.1 204 ")
        assert f"access-control-allow-origin: {SHOP}\r\n" in head
        allowed = next(line for line in head.lower().split("\r\n") if line.startswith("access-control-allow-headers"))
        assert all(
            name in allowed for name in ("content-type", "x-request-id", "x-request-timeout-ms", "authorization", "content-encoding")
        )
        assert "post" in next(line for line in head.lower().split("\r\n") if line.startswith("access-control-allow-methods"))
        assert "content-length" not in head.lower()
        with Caller(server.port) as caller:
            status, refused, _ = caller.send(with_origin(sent, OTHER)).answer()
            assert status in (404, 405)
            assert "access-control-allow-origin" not in refused


def test_a_large_answer_varies_by_both():
    state = State(ready=True)
    application = app(Scripted(Answer(b'{"a":"%b"}' % (b"x" * 9000), "miss", 0.0)), configured(cors_origins=(SHOP,)), state)
    for table_ in (application.route_table, None):
        with serving(application, table_, state) as server, Caller(server.port) as caller:
            _, headers, _ = caller.send(with_origin(request(encoded(), JSON, b"Accept-Encoding: gzip", path=ROUTE.encode()), SHOP)).answer()
        assert (headers["vary"], headers["content-encoding"]) == ("Origin, Accept-Encoding", "gzip")


async def test_the_request_id_of_a_caller_does_not_become_a_header():
    wire = MemoryConnection(table(Echo(), cors=Cors((SHOP,))))
    wire.send(request(b"", b"X-Number: vary: x", b"Origin: " + SHOP.encode()))
    ((_, headers, _),) = await wire.settled()
    assert (headers["x-number"], headers["vary"]) == ("vary: x", "Origin")


class FullQuestion:
    """A question that refuses every request."""

    pressed = True

    def shed(self, deadline: float) -> OverloadedError | None:
        return OverloadedError("7 requests wait already", deadline - time.monotonic())

    def shed_likewise(self, times: int) -> None:
        """Count nothing."""


@pytest.mark.parametrize(("origins", "by_origin"), [((SHOP,), True), (("*",), False), ((SHOP, OTHER), True)])
def test_refusals_before_parsing_have_the_headers_too(origins, by_origin):
    cors = Cors(origins)
    shedder = Shedder({PATH: FullQuestion()}, 1000, 1000, cors)
    plain = shedder.reply(request(b"body"))
    assert plain is not None
    assert (b"\r\nvary: Origin\r\n" in plain, b"\r\naccess-control-allow-origin: *\r\n" in plain) == (by_origin, not by_origin)
    foreign = shedder.reply(with_origin(request(b"body"), SHOP))
    assert (foreign is None) == by_origin, "a refusal that depends on the origin is made after parsing"


@pytest.mark.parametrize("origins", [(SHOP,), ("*",)])
def test_a_connection_that_is_read_by_the_overload_reader_has_them(origins):
    cors, state = Cors(origins), State(ready=True)
    reader = OverloadReader(Shedder({PATH: FullQuestion()}, 1000, 100_000, cors))
    hot = dataclasses.replace(table(Echo(), state, cors=cors), overload_reader=reader)
    with serving(cold, hot, state) as server, Caller(server.port) as caller:
        for _ in range(3):
            status, headers, _ = caller.send(request(b"body")).answer()
            assert status == 429
            assert (headers.get("vary"), headers.get("access-control-allow-origin")) == (
                ("Origin", None) if origins == (SHOP,) else (None, "*")
            )
            server.until(lambda: reader.size == 1)
        status, headers, _ = caller.send(with_origin(request(b"body"), SHOP)).answer()
        assert status == (200 if origins == (SHOP,) else 429)
        assert headers["access-control-allow-origin"] == origins[0]


@pytest.mark.parametrize(
    "origin", ["shop.example", "https://shop.example/", "https://shop.example/path", "https://", "null", "https://*.shop.example"]
)
def test_what_is_no_origin_is_refused_with_the_form_of_one(origin):
    with pytest.raises(SettingsError, match="scheme://host"):
        configuration.load(server={"cors_origins": [origin]})


def test_origins_are_read_as_browsers_send_them(monkeypatch):
    monkeypatch.setenv("REVENUE_ENGINE_SERVER__CORS_ORIGINS", '["HTTPS://Shop.Example", "http://[::1]:3000"]')
    assert configuration.load().server.cors_origins == ("https://shop.example", "http://[::1]:3000")
