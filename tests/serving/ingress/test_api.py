"""The application over ASGI, and over real sockets where the bytes on the wire matter."""

import asyncio
import re
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import msgspec
import pytest
import uvicorn

from serving.engines import ENGINES
from serving.errors import NotReadyError
from serving.ingress import docs
from serving.ingress.api import App, build
from serving.ingress.decoding.reading_process import ReadingProcess
from serving.ingress.http import body as bodies
from serving.ingress.http.lifecycle import State
from serving.ingress.problems import KINDS
from serving.metrics.collect import Metrics
from serving.scoring.answer import Answer, Cancel, Done
from serving.scoring.question import Question
from tests.serving.greeting import ROUTE, CountingScorer, Scripted, app, client, configured, encoded, question
from tests.serving.wire import LOOPS, serving

JSON = {"content-type": "application/json"}
ANSWER = Answer(b'{"a":1}', "miss", 0.0)


class Slow(Scripted):
    """A question that answers once `released` is set."""

    def __init__(self) -> None:
        super().__init__(ANSWER)
        self.released = asyncio.Event()
        self.waiting = asyncio.Event()

    def begin(self, request: Any, done: Done, **how: Any) -> Cancel:
        self.waiting.set()

        async def answer() -> None:
            await self.released.wait()
            super(Slow, self).begin(request, done, **how)

        return asyncio.create_task(answer()).cancel


@contextmanager
def served(application: App) -> Iterator[int]:
    """Serve the application on a loopback port in a thread; yield the port."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        config = uvicorn.Config(application, lifespan="off", log_config=None, http="httptools", ws="none")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([sock])))
        thread.start()
        try:
            yield sock.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(20)
            assert not thread.is_alive()


@pytest.fixture(scope="module", params=["asgi", *LOOPS])
def port(request: pytest.FixtureRequest) -> Iterator[int]:
    """The port of a server that has the application over ASGI, or with hot routes."""
    state = State(ready=True)
    application = app(Scripted(ANSWER), configured(max_body_bytes=100_000), state)
    if request.param == "asgi":
        with served(application) as port:
            yield port
    else:
        with serving(application, application.route_table, state, request.param) as server:
            yield server.port
    assert state.in_flight == 0


def exchange(port: int, *parts: bytes, read_between: bool = False) -> bytes:
    """Send the parts over one connection, then return everything until the server closes it."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        got = b""
        for part in parts:
            sock.sendall(part)
            if read_between:
                got += sock.recv(65536)
        while chunk := sock.recv(65536):
            got += chunk
    return got


def head(length: int | None, *more: bytes) -> bytes:
    lines = [b"POST " + ROUTE.encode() + b" HTTP/1.1", b"Host: test", b"Content-Type: application/json", *more]
    if length is not None:
        lines.append(b"Content-Length: %d" % length)
    return b"\r\n".join(lines) + b"\r\n\r\n"


async def test_a_question_is_answered() -> None:
    settings = configured()
    with question(settings, CountingScorer()) as greeting:
        async with client(app(greeting, settings)) as http:
            answer = await http.post(ROUTE, content=encoded(), headers={**JSON, "x-request-id": "r-1"})
    assert answer.status_code == 200
    assert answer.json()["sessionId"] == "s-1"
    assert answer.headers["x-request-id"] == "r-1"
    assert int(answer.headers["content-length"]) == len(answer.content)


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("GET", "/nowhere", 404, None),
        ("GET", ROUTE, 405, "POST"),
        ("PUT", ROUTE, 405, "POST"),
        ("POST", "/health/live", 405, "GET, HEAD"),
        ("DELETE", "/metrics", 405, "GET, HEAD"),
        ("POST", "/docs/assets/swagger-ui.css", 405, "GET, HEAD"),
        ("GET", "/docs/assets/none.js", 404, None),
        ("GET", "/docs/assets/../../__init__.py", 404, None),
        ("GET", ROUTE + "/", 404, None),
        ("POST", ROUTE + "/", 404, None),
        ("GET", "/problems/none", 404, None),
    ],
)
async def test_an_unknown_path_or_method_is_a_problem(method: str, path: str, status: int, allow: str | None) -> None:
    async with client(app(Scripted(ANSWER), configured())) as http:
        answer = await http.request(method, path, headers={"x-request-id": "r-2"})
    assert (answer.status_code, answer.headers.get("allow")) == (status, allow)
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.json()["status"], answer.json()["requestId"]) == (status, "r-2")


async def test_every_problem_type_has_a_page() -> None:
    async with client(app(Scripted(ANSWER), configured())) as http:
        for cls, kind in KINDS.items():
            answer = await http.get(f"/problems/{getattr(cls, 'code', 'internal')}")
            assert (answer.status_code, answer.json()["status"], answer.json()["title"]) == (200, kind.status, kind.title)


async def test_live_does_not_mean_ready() -> None:
    settings, state = configured(), State()
    with question(settings) as greeting:
        async with client(app(greeting, settings, state)) as http:

            async def statuses() -> list[int]:
                return [
                    (await http.request(method, f"/health/{what}")).status_code for what in ("live", "ready") for method in ("GET", "HEAD")
                ]

            assert await statuses() == [200, 200, 503, 503]
            state.ready = True
            assert await statuses() == [200, 200, 503, 503], "no model is live yet"
            greeting.switch(CountingScorer())
            assert await statuses() == [200, 200, 200, 200]
            assert (await http.get("/health/ready")).json()["models"] == {"greeting": "greeting-1"}
            state.ready = False
            assert await statuses() == [200, 200, 503, 503], "the replica is no longer ready"
            state.ready, state.draining = True, True
            assert await statuses() == [200, 200, 503, 503]
            not_ready = await http.get("/health/ready")
    assert (not_ready.json()["type"], int(not_ready.headers["retry-after"]) >= 1) == ("/problems/not-ready", True)


async def test_while_draining_every_answer_closes_its_connection() -> None:
    state = State(ready=True)
    async with client(app(Scripted(ANSWER), configured(), state)) as http:

        async def connections() -> list[str | None]:
            gets = [await http.get(path) for path in ("/", "/health/live", "/metrics", "/docs", "/nowhere", "/docs/assets/swagger-ui.css")]
            posts = [await http.post(ROUTE, content=body, headers=JSON) for body in (encoded(), b"{")]
            return [answer.headers.get("connection") for answer in gets + posts]

        assert set(await connections()) == {None}
        state.draining = True
        assert set(await connections()) == {"close"}


async def test_a_drain_that_begins_while_a_request_is_answered_closes_that_connection_too() -> None:
    state, slow = State(ready=True), Slow()
    async with client(app(slow, configured(), state)) as http:
        request = asyncio.create_task(http.post(ROUTE, content=encoded(), headers=JSON))
        await slow.waiting.wait()
        assert state.in_flight == 1
        state.draining = True
        slow.released.set()
        answer = await request
    assert (answer.status_code, answer.headers["connection"], state.in_flight) == (200, "close", 0)


async def test_beyond_the_bound_requests_are_refused_but_health_is_answered() -> None:
    state, slow = State(ready=True), Slow()
    async with client(app(slow, configured(max_connections=2), state)) as http:
        two = [asyncio.create_task(http.post(ROUTE, content=encoded(), headers=JSON)) for _ in range(2)]
        while state.in_flight < 2:
            await asyncio.sleep(0)
        third = await http.post(ROUTE, content=encoded(), headers=JSON)
        health = [(await http.get(path)).status_code for path in ("/health/live", "/health/ready", "/metrics")]
        slow.released.set()
        answers = [(await one).status_code for one in two]
        again = await http.post(ROUTE, content=encoded(), headers=JSON)
    assert (third.status_code, int(third.headers["retry-after"]) >= 1) == (429, True)
    assert (health, answers, again.status_code, state.in_flight) == ([200, 200, 200], [200, 200], 200, 0)


async def test_the_docs_need_no_other_server() -> None:
    async with client(app(Scripted(ANSWER), configured())) as http:
        page = await http.get("/docs")
        assert page.status_code == 200
        links = re.findall(r'(?:src|href)="([^"]+)"', page.text)
        assert len(links) == 3
        for link in links:
            assert link.startswith("/docs/assets/"), link
            assert (await http.get(link)).status_code == 200
        assert "//" not in re.sub(r"<!--.*?-->", "", page.text, flags=re.DOTALL), "no address of another server, comments aside"


def test_swagger_ui_supports_openapi_3_1() -> None:
    """Version 4 shows an error instead of a document of OpenAPI 3.1."""
    script = (docs.assets() / "swagger-ui-bundle.js").read_text(encoding="utf-8")
    found = re.search(r'PACKAGE_VERSION:"(\d+)\.', script)
    assert found is not None
    assert int(found[1]) >= 5


async def test_the_index_lists_the_questions_and_docs() -> None:
    async with client(app(Scripted(ANSWER), configured())) as http:
        index = (await http.get("/")).json()
    assert index["questions"] == [{"name": "greeting", "route": ROUTE, "summary": "How should this session be greeted?"}]
    assert (index["docs"], index["openapi"]) == ("/docs", "/openapi.json")


async def test_an_exception_outside_scoring_is_a_problem_too() -> None:
    class Broken(Scripted):
        @property
        def version(self) -> str:  # type: ignore[override]
            raise ZeroDivisionError("secret")

    async with client(app(Broken(ANSWER), configured())) as http:
        answer = await http.get("/health/ready")
    assert (answer.status_code, answer.json()["type"]) == (500, "/problems/internal")
    assert "secret" not in answer.text


@pytest.mark.parametrize("megabytes", [1, 20])
def test_a_413_reaches_a_client_that_sends_everything_first(port: int, megabytes: int) -> None:
    size = megabytes * 1024 * 1024
    got = exchange(port, head(size), b" " * size)
    assert got.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close\r\n" in got
    assert msgspec.json.decode(got.partition(b"\r\n\r\n")[2])["type"] == "/problems/too-large"


def test_a_413_reaches_a_client_that_sends_chunks(port: int) -> None:
    chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
    got = exchange(port, head(None, b"Transfer-Encoding: chunked"), *[chunk] * 32, b"0\r\n\r\n")
    assert got.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close\r\n" in got


def test_a_client_that_expects_100_continue_is_refused_at_once(port: int) -> None:
    """It must not receive 100 Continue, and sends no body."""
    got = exchange(port, head(200_000, b"Expect: 100-continue"))
    assert got.startswith(b"HTTP/1.1 413 ")


def test_a_client_that_expects_100_continue_may_send_a_body_that_fits(port: int) -> None:
    content = encoded()
    got = exchange(port, head(len(content), b"Expect: 100-continue", b"Connection: close"), content, read_between=True)
    assert got.startswith(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert b"HTTP/1.1 200 " in got


def test_a_body_in_chunks_is_joined(port: int) -> None:
    content = encoded()
    chunks = [b"%x\r\n%b\r\n" % (1, content[i : i + 1]) for i in range(len(content))]
    got = exchange(port, head(None, b"Transfer-Encoding: chunked", b"Connection: close"), *chunks, b"0\r\n\r\n")
    assert got.startswith(b"HTTP/1.1 200 ")


def test_a_refused_body_that_fits_leaves_the_connection_open(port: int) -> None:
    content = encoded()
    got = exchange(port, head(1) + b"{" + head(len(content), b"Connection: close") + content)
    assert re.findall(rb"HTTP/1.1 (\d+)", got) == [b"400", b"200"]


def test_a_client_that_disconnects_while_sending_affects_no_other(port: int) -> None:
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", port)) as sock:
            sock.sendall(head(1000) + b"{")
    content = encoded()
    assert exchange(port, head(len(content), b"Connection: close") + content).startswith(b"HTTP/1.1 200 ")


async def trickle(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk
    await asyncio.Event().wait()


async def test_a_body_that_never_ends_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "DISCARD_S", 0.01)
    async with client(app(Scripted(ANSWER), configured(max_body_bytes=1024, body_timeout_s=0.01))) as http:
        slow = await http.post(ROUTE, content=trickle(b"{"), headers=JSON)
        large = await http.post(ROUTE, content=trickle(b"{", b" " * 2000), headers=JSON)
    assert [(a.status_code, a.headers["connection"]) for a in (slow, large)] == [(408, "close"), (413, "close")]


async def test_the_size_of_a_discarded_body_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "DISCARD_BYTES", 10_000)
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1000
            yield b" " * 1000

    async with client(app(Scripted(ANSWER), configured(max_body_bytes=1024))) as http:
        assert (await http.post(ROUTE, content=endless(), headers=JSON)).status_code == 413
    assert sent <= 15_000


async def test_the_real_engines_are_not_ready_without_models() -> None:
    settings = configured()
    with ThreadPoolExecutor(1) as executor:
        questions = [Question(engine, settings, executor) for engine in ENGINES]
        async with client(build(questions, State(ready=True), settings, Metrics(), ReadingProcess())) as http:
            for engine in ENGINES:
                answer = await http.post(engine.route, json=engine.example)
                assert (answer.status_code, answer.json()["type"]) == (503, f"/problems/{NotReadyError.code}")
