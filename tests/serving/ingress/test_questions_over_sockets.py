"""Every question over real sockets, in the replica or a pool: half-closed callers, offers of HTTP/2, compression, curl and Java."""

import asyncio
import contextlib
import gzip
import shutil
import socket
import threading
from pathlib import Path

import msgspec
import pytest

from serving.app import Application
from serving.engines import ENGINES, named
from serving.ingress.http.listener import Listener
from serving.runtime.pool_socket import PoolSocket
from serving.runtime.socket_broker import READY
from serving.settings import Settings
from tests.serving.wire import Caller, answers, request
from training.registry.registry import Registry

POOLED = ("journey", "emotion")
TYPE = b"Content-Type: application/json"
HEADERS = (TYPE, b"Cache-Control: no-cache", b"X-Request-Timeout-Ms: 20000")
each_question = pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine.name)


async def served(settings: Settings, folder: Path, ready: threading.Event, ports: list[int], stopped: asyncio.Event) -> None:
    """Run a replica on a TCP socket, and a pool for each pooled question behind its unix socket, until `stopped`."""
    async with contextlib.AsyncExitStack() as stack:
        pools = {}
        for name in POOLED:
            pool_socket = PoolSocket(folder / name)
            pool = await stack.enter_async_context(Application(settings, engines=[named(name)], place="pool"))
            listener = Listener(pool.api, pool.state, pool.api.route_table)
            await listener.open(pool_socket.sock)
            pool_socket.notify(READY)
            stack.callback(pool_socket.close)
            stack.push_async_callback(listener.drain, 1)
            pools[name] = folder / name
        replica = await stack.enter_async_context(Application(settings, pools=pools))
        listener = Listener(replica.api, replica.state, replica.api.route_table)
        sock = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        await listener.open(sock)
        stack.push_async_callback(listener.drain, 1)
        ports.append(sock.getsockname()[1])
        ready.set()
        await stopped.wait()


@pytest.fixture(scope="module")
def port(tmp_path_factory, bundle_of):
    """The port of a server that answers all questions."""
    folder = tmp_path_factory.mktemp("served")
    registry = Registry(str(folder / "models"), folder / "fetched")
    for engine in ENGINES:
        registry.add(bundle_of(engine.name).path, alias="champion")
    settings = Settings(
        home=folder,
        models={"registry": str(folder / "models")},
        server={"cors_origins": ("https://shop.example",), "access_log": True},
        pool={"low_priority": False},
    )
    loop, ready, ports = asyncio.new_event_loop(), threading.Event(), []
    stopped = asyncio.Event()
    thread = threading.Thread(target=lambda: loop.run_until_complete(served(settings, folder, ready, ports, stopped)))
    thread.start()
    assert ready.wait(300)
    yield ports[0]
    loop.call_soon_threadsafe(stopped.set)
    thread.join(60)
    loop.close()


def body_of(engine) -> bytes:
    return msgspec.json.encode(engine.example)


@each_question
@pytest.mark.parametrize("items", [1, 3], ids=["one", "a list"])
def test_a_caller_who_closes_the_sending_half_is_answered_every_time(port, engine, items):
    body = body_of(engine) if items == 1 else b"[%b]" % b",".join([body_of(engine)] * items)
    for _ in range(20):
        with Caller(port) as caller:
            caller.send(request(body, *HEADERS, path=engine.route.encode()))
            caller.sock.shutdown(socket.SHUT_WR)
            ((status, _, got),) = answers(caller.rest())
        assert status == 200
        assert items == 1 or len(msgspec.json.decode(got)) == items


def test_pipelined_requests_to_all_questions_are_answered_after_the_half_was_closed(port):
    with Caller(port) as caller:
        caller.send(b"".join(request(body_of(engine), *HEADERS, path=engine.route.encode()) for engine in ENGINES))
        caller.sock.shutdown(socket.SHUT_WR)
        assert [status for status, _, _ in answers(caller.rest())] == [200] * len(ENGINES)


@each_question
def test_compressed_bodies_marks_and_offers_of_http_2_are_answered_as_the_plain_body_is(port, engine):
    body, path = body_of(engine), engine.route.encode()
    offer = (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA")
    alternatives = [
        request(gzip.compress(body), *HEADERS, b"Content-Encoding: gzip", path=path),
        request(b"\xef\xbb\xbf" + body, *HEADERS, path=path),
        request(body, *HEADERS, *offer, path=path),
        request(body, b"Content-Type: application/json; ", *HEADERS[1:], b"Content-Encoding: Identity\t", path=path),
    ]
    with Caller(port) as caller:
        fields = set(msgspec.json.decode(caller.send(request(body, *HEADERS, path=path)).answer()[2]))
        for each in alternatives:
            status, _, got = caller.send(each).answer()
            assert (status, set(msgspec.json.decode(got))) == (200, fields)


@each_question
def test_a_large_list_is_compressed_for_a_caller_who_accepts_it(port, engine):
    items = b"[%b]" % b",".join([body_of(engine)] * 12)
    with Caller(port) as caller:
        for accepted, coding in ((b"gzip;q=0.5, *;q=0", "gzip"), (b"gzip;q=0", None)):
            sent = request(
                gzip.compress(items), *HEADERS, b"Content-Encoding: gzip", b"Accept-Encoding: " + accepted, path=engine.route.encode()
            )
            caller.send(sent)
            status, headers, body = caller.answer()
            assert (status, headers.get("content-encoding")) == (200, coding)
            assert len(msgspec.json.decode(gzip.decompress(body) if coding else body)) == 12


@each_question
def test_a_page_of_an_allowed_origin_may_read_the_answer_of_every_question_once(port, engine):
    """A pool process adds no header of its own: a browser refuses an answer that has one twice."""
    with Caller(port) as caller:
        caller.send(request(body_of(engine), *HEADERS, b"Origin: https://shop.example", path=engine.route.encode()))
        status, headers, _ = caller.answer()
    assert (status, headers["access-control-allow-origin"], headers["vary"]) == (200, "https://shop.example", "Origin")


@each_question
@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
def test_curl_with_http2_is_answered_over_http_1_1(port, engine, tmp_path):
    import subprocess

    (tmp_path / "body.json").write_bytes(body_of(engine))
    command = ["curl", "-sS", "--http2", "--compressed", "-H", "Content-Type: application/json", "-H", "X-Request-Timeout-Ms: 20000"]
    target = f"http://127.0.0.1:{port}{engine.route}"
    printed = "\n%{http_version} %{http_code}"
    made = subprocess.run(
        [*command, "--data-binary", f"@{tmp_path}/body.json", "-w", printed, target], capture_output=True, timeout=60, check=True
    )
    answer, _, last = made.stdout.decode().rpartition("\n")
    assert last == "1.1 200"
    assert isinstance(msgspec.json.decode(answer), dict)


JAVA = """
import java.net.URI; import java.net.http.*; import java.nio.file.*;
class Ask { public static void main(String[] a) throws Exception {
  HttpRequest request = HttpRequest.newBuilder(URI.create(a[0])).header("Content-Type", "application/json")
    .header("X-Request-Timeout-Ms", "20000").POST(HttpRequest.BodyPublishers.ofFile(Path.of(a[1]))).build();
  HttpResponse<String> response = HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofString());
  System.out.println(response.version() + " " + response.statusCode());
} }
"""


@pytest.mark.skipif(shutil.which("java") is None or shutil.which("javac") is None, reason="there is no Java compiler")
def test_a_stock_java_client_is_answered_over_http_1_1(port, tmp_path):
    import subprocess

    (tmp_path / "Ask.java").write_text(JAVA)
    for engine in (ENGINES[0], named("emotion")):
        (tmp_path / "body.json").write_bytes(body_of(engine))
        command = ["java", str(tmp_path / "Ask.java"), f"http://127.0.0.1:{port}{engine.route}", str(tmp_path / "body.json")]
        made = subprocess.run(command, capture_output=True, timeout=120, check=True)
        assert made.stdout.decode().strip() == "HTTP_1_1 200"
