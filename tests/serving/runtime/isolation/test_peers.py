"""Both ends of a unix socket: even where another user can reach it, nothing is sent to that user and nothing is taken from them."""

import asyncio
import contextlib
import os
import socket

import msgspec
import pytest

from serving.engines import named
from serving.ingress.http.lifecycle import State
from serving.ingress.http.listener import Listener
from serving.ingress.pool_client import PoolClient
from serving.metrics.collect import Metrics
from serving.runtime.isolation.peers import ForeignPeerError, OwnUserSocket, require_own_user
from serving.runtime.pool_socket import PoolSocket
from serving.runtime.socket_broker import READY, Lease, SocketBroker, bind
from tests.serving import other_user
from tests.serving.other_user import as_other_user

EMOTION = named("emotion")

# Listens at a path and answers every connection with what it is given.
FORGER = """
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
os.chmod(sys.argv[1], 0o777)
listener.listen()
print("listening", flush=True)
while True:
    connection, _ = listener.accept()
    if sys.argv[2] == "descriptor":
        socket.send_fds(connection, [b"\\0"], [socket.create_server(("127.0.0.1", 0)).fileno()])
    else:
        received = connection.recv(65536)
        print("received" if received else "nothing", flush=True)
        body = b'{"status":"ready","models":{"emotion":"forged"},"choices":{},"frustration":1.0}'
        with contextlib.suppress(OSError):
            connection.sendall(b"HTTP/1.1 200 OK\\r\\ncontent-length: %d\\r\\n\\r\\n%b" % (len(body), body))
"""

# Connects to a path, sends a request, and prints what comes back: how many bytes and how many descriptors.
INTRUDER = """
sock = socket.socket(socket.AF_UNIX)
sock.connect(sys.argv[1])
try:
    sock.sendall(b"GET / HTTP/1.1\\r\\nhost: pool\\r\\n\\r\\n")
    received, descriptors, _, _ = socket.recv_fds(sock, 65536, 4)
except (BrokenPipeError, ConnectionResetError):
    received, descriptors = b"", []
print(len(received), len(descriptors))
"""


@contextlib.contextmanager
def forger(path, what):
    child = other_user.start(FORGER, path, what)
    try:
        assert child.stdout.readline() == "listening\n"
        yield child
    finally:
        child.kill()
        child.communicate()


def test_a_connection_within_one_user_passes_both_ways(tmp_path):
    with OwnUserSocket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as caller:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        caller.connect(str(tmp_path / "s"))
        require_own_user(caller)
        with listener.accept()[0] as accepted:
            accepted.sendall(b"here")
            assert caller.recv(4) == b"here"


@as_other_user
def test_the_broker_passes_its_socket_to_no_other_user(caplog):
    with other_user.reachable_folder() as folder:
        broker = SocketBroker(bind("127.0.0.1", 0), folder / "listen.sock")
        os.chmod(folder / "listen.sock", 0o777)
        broker.start()
        try:
            assert other_user.run(INTRUDER, folder / "listen.sock") == "0 0"
            assert broker.attached == 0
            Lease(folder / "listen.sock").close()
        finally:
            broker.close()
    assert f"runs as uid {other_user.uid()}" in caplog.text


@as_other_user
def test_a_replica_takes_no_socket_from_another_user():
    with (
        other_user.reachable_folder() as folder,
        forger(folder / "listen.sock", "descriptor"),
        pytest.raises(ForeignPeerError, match=f"uid {other_user.uid()}"),
    ):
        Lease(folder / "listen.sock")


@as_other_user
async def test_a_pool_process_answers_no_other_user():
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"a text of somebody"})

    with other_user.reachable_folder() as folder:
        pool = PoolSocket(folder / "pool-emotion")
        listener = Listener(app, State())
        await listener.open(pool.sock)
        pool.notify(READY)
        os.chmod(folder / "pool-emotion", 0o777)
        try:
            assert await asyncio.to_thread(other_user.run, INTRUDER, folder / "pool-emotion") == "0 0"
            reader, writer = await asyncio.open_unix_connection(folder / "pool-emotion")
            writer.write(b"GET / HTTP/1.1\r\nhost: pool\r\n\r\n")
            assert await reader.readuntil(b"somebody")
            writer.close()
        finally:
            await listener.drain(0.1)
            pool.close()


@as_other_user
async def test_a_forged_answer_of_another_user_reaches_no_caller_and_no_text_reaches_that_user():
    with other_user.reachable_folder() as folder, forger(folder / "pool-emotion", "answer") as child:
        client = PoolClient(EMOTION, folder / "pool-emotion", default_timeout_ms=2000, max_queued=8, meter=Metrics().meter("emotion"))
        await client.open()
        response = await client.answer({b"content-type": b"application/json"}, msgspec.json.encode(EMOTION.example))
        await client.aclose()
        child.kill()
        received, _ = child.communicate()
    assert response.status == 503
    assert b"forged" not in response.body
    assert client.version is None
    assert "received" not in received
