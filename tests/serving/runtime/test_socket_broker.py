"""The socket broker: the socket outlives its replicas, and a caller always gets an answer."""

import json
import select
import socket
import urllib.error
import urllib.request

import pytest

from serving.errors import SettingsError
from serving.runtime import socket_broker
from serving.runtime.socket_broker import LEAVING, READY, Lease, SocketBroker, bind


@pytest.fixture
def broker(tmp_path):
    broker = SocketBroker(bind("127.0.0.1", 0), tmp_path / "s")
    broker.start()
    yield broker
    broker.close()


def get(port, path):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as reply:
            return reply.status, json.loads(reply.read()), reply.headers
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read()), error.headers


def accept(lease):
    """Accept as a replica does: whether the socket blocks is a property that it shares with the broker."""
    assert select.select([lease.sock], [], [], 10)[0]
    return lease.sock.accept()[0]


def until(condition):
    for _ in range(10_000_000):
        if condition():
            return
    raise AssertionError("never came true")


def test_while_no_replica_is_warm_the_answer_is_503_and_the_process_is_alive(broker):
    status, problem, headers = get(broker.port, "/v1/purchase-prediction")
    assert (status, problem["status"], headers["retry-after"]) == (503, 503, "1")
    assert headers["content-type"] == "application/problem+json"
    assert get(broker.port, "/health/live")[0] == 200
    assert get(broker.port, "/health/ready")[0] == 503


def test_a_replica_that_is_ready_accepts_instead_and_hands_back_when_it_leaves_or_dies(broker, tmp_path):
    lease = Lease(tmp_path / "s")
    lease.notify(READY)
    until(lambda: broker.ready == 1)
    with socket.create_connection(("127.0.0.1", broker.port), timeout=10) as caller:
        accepted = accept(lease)
        accepted.sendall(b"mine")
        assert caller.recv(4) == b"mine"
        accepted.close()
    lease.notify(LEAVING)
    until(lambda: broker.ready == 0)
    assert get(broker.port, "/health/ready")[0] == 503
    other = Lease(tmp_path / "s")
    other.notify(READY)
    until(lambda: broker.ready == 1)
    other.close()  # as a killed process does
    lease.close()
    until(lambda: broker.ready == 0)
    assert get(broker.port, "/health/ready")[0] == 503


def test_a_connection_made_while_one_replica_leaves_is_answered_by_the_next(broker, tmp_path):
    first, second = Lease(tmp_path / "s"), Lease(tmp_path / "s")
    first.notify(READY)
    second.notify(READY)
    until(lambda: broker.ready == 2)
    with socket.create_connection(("127.0.0.1", broker.port), timeout=10) as caller:
        first.close()
        accepted = accept(second)
        accepted.sendall(b"here")
        assert caller.recv(4) == b"here"
        accepted.close()
    second.close()


def test_closing_answers_every_connection_that_the_kernel_has_taken(tmp_path):
    """Half a hundred callers wait in the kernel's queue while a replica has the socket and does not accept; none is reset."""
    broker = SocketBroker(bind("127.0.0.1", 0), tmp_path / "s")
    broker.start()
    lease = Lease(tmp_path / "s")
    lease.notify(READY)
    until(lambda: broker.ready == 1)
    callers = [socket.create_connection(("127.0.0.1", broker.port), timeout=10) for _ in range(50)]
    for caller in callers:
        caller.sendall(b"GET / HTTP/1.1\r\n\r\n")
    lease.close()
    port = broker.port
    broker.close()
    for caller in callers:
        with caller:
            assert caller.recv(65536).startswith(b"HTTP/1.1 503 ")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=10)


@pytest.mark.skipif(not hasattr(socket, "TCP_DEFER_ACCEPT"), reason="holds back the last part of a handshake: Linux only")
def test_closing_completes_handshakes_under_way_and_accepts_none_after():
    """TCP_DEFER_ACCEPT leaves the handshake open here, done there, until the caller says something, as a late packet would."""
    with bind("127.0.0.1", 0) as sock, socket.socket() as caller, socket.socket() as late:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 10)
        caller.connect(sock.getsockname())
        assert not select.select([sock], [], [], 0)[0]
        socket_broker._drop_new_connections(sock)
        late.setblocking(False)
        late.connect_ex(sock.getsockname())
        caller.sendall(b"hello")
        assert select.select([sock], [], [], 10)[0]
        with sock.accept()[0] as accepted:
            assert accepted.recv(5) == b"hello"
        assert not select.select([sock], [], [], 0)[0]


def test_a_taken_port_is_said_with_the_way_out(broker):
    with pytest.raises(SettingsError, match=rf"127.0.0.1:{broker.port}.*PORT="):
        bind("127.0.0.1", broker.port)
