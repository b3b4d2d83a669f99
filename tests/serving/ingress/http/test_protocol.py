"""One connection: the size of a head is bounded, and a request that is not HTTP is answered with a problem."""

import json
import socket
import threading

import pytest
import uvicorn

from serving.ingress.http.protocol import MAX_HEAD_BYTES, HttpProtocol


async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@pytest.fixture(scope="module")
def port():
    """A real server with our protocol on a port of the loopback interface."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, http=HttpProtocol, ws="none", lifespan="off", log_config=None))
        thread = threading.Thread(target=server.run, args=([sock],))
        thread.start()
        while not server.started:
            pass
        yield sock.getsockname()[1]
        server.should_exit = True
        thread.join(30)


def exchange(port, *parts):
    """Send the parts and return the status and the body of the answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as caller:
        for part in parts:
            caller.sendall(part)
        reply = caller.makefile("rb").read()
    head, _, body = reply.partition(b"\r\n\r\n")
    return int(head.split()[1]), body


@pytest.mark.parametrize(
    "request_",
    [
        b"FOO / HTTP/1.1\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
    ],
)
def test_malformed_http_is_answered_with_a_problem(port, request_):
    status, body = exchange(port, request_)
    assert status in (200, 400)  # a bad chunk may come after the answer has begun
    if status == 400:
        assert json.loads(body)["type"] == "/problems/malformed-request"


def test_a_request_that_is_not_http_is_a_400(port):
    status, body = exchange(port, b"hello\r\n\r\n")
    assert (status, json.loads(body)["status"]) == (400, 400)


def test_a_head_beyond_the_bound_is_refused(port):
    head = b"GET / HTTP/1.1\r\nX: " + b"a" * (MAX_HEAD_BYTES + 1)
    status, body = exchange(port, head)
    assert (status, json.loads(body)["type"]) == (431, "/problems/head-too-large")


def test_the_bound_of_heads_does_not_apply_to_bodies_and_starts_anew_with_each_request(port):
    head = b"POST / HTTP/1.1\r\nHost: test\r\nX: " + b"a" * (MAX_HEAD_BYTES // 2)
    length = b"\r\nContent-Length: %d\r\n\r\n" % (4 * MAX_HEAD_BYTES)
    with socket.create_connection(("127.0.0.1", port), timeout=30) as caller:
        reply = caller.makefile("rb")
        for _ in range(4):
            caller.sendall(head)
            caller.sendall(length + b"b" * (4 * MAX_HEAD_BYTES))
            assert reply.readline().startswith(b"HTTP/1.1 200")
            while reply.readline() != b"\r\n":
                pass
            assert reply.read(2) == b"ok"
        reply.close()
