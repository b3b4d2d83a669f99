"""The listener accepts waiting callers within a few iterations, none while draining, and retries when there are no file descriptors."""

import asyncio
import errno
import socket

import pytest

from serving.ingress.http import listener as listening
from serving.ingress.http.lifecycle import State
from serving.ingress.http.listener import Listener
from serving.ingress.http.routes import RouteTable
from tests.serving.wire import LOOPS, cold

CALLERS = 100


class ListeningSocket:
    """A listening socket whose accept() fails `fails` times for want of a file descriptor; `listener` accepts on it."""

    def __init__(self, fails: int = 0) -> None:
        self.fails = fails
        self.accepts = 0
        self.sock = socket.create_server(("127.0.0.1", 0), backlog=CALLERS)
        self.listener = Listener(cold, State(ready=True), RouteTable())

    def __getattr__(self, name: str) -> object:
        return getattr(self.sock, name)

    def accept(self) -> tuple[socket.socket, object]:
        self.accepts += 1
        if self.fails > 0:
            self.fails -= 1
            raise OSError(errno.EMFILE, "too many open files")
        return self.sock.accept()

    @property
    def connected(self) -> int:
        return len(self.listener._server_state.connections)

    async def iterations_until(self, number: int) -> int:
        """Return the number of iterations of the loop until `number` callers had a connection."""
        iterations = 0
        while self.connected < number:
            iterations += 1
            await asyncio.sleep(0)
        return iterations


def with_loop(loop: str, run: object) -> None:
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(run)  # type: ignore[arg-type]


async def closed(listening_socket: ListeningSocket, callers: list[socket.socket]) -> None:
    for caller in callers:
        caller.close()
    await listening_socket.listener.drain(5)
    listening_socket.sock.close()


@pytest.mark.parametrize("loop", LOOPS)
def test_many_callers_are_accepted_within_a_few_iterations_and_not_all_in_one(loop):
    async def run() -> None:
        listening_socket = ListeningSocket()
        callers = [socket.create_connection(listening_socket.sock.getsockname()) for _ in range(CALLERS)]
        await listening_socket.listener.open(listening_socket.sock)
        assert await listening_socket.iterations_until(1) < 10
        assert listening_socket.connected <= listening.MAX_ACCEPTS
        assert await listening_socket.iterations_until(CALLERS) < 20
        await closed(listening_socket, callers)

    with_loop(loop, run())


@pytest.mark.parametrize("loop", LOOPS)
def test_without_a_free_file_descriptor_accepting_is_retried(loop, monkeypatch, caplog):
    monkeypatch.setattr(listening, "RETRY_S", 0.01)

    async def run() -> None:
        listening_socket = ListeningSocket(fails=2)
        callers = [socket.create_connection(listening_socket.sock.getsockname())]
        await listening_socket.listener.open(listening_socket)  # type: ignore[arg-type]
        await listening_socket.iterations_until(1)
        assert listening_socket.accepts >= 3
        await closed(listening_socket, callers)

    with_loop(loop, run())
    assert "too many open files" in caplog.text


def test_a_draining_listener_accepts_no_connection():
    async def run() -> None:
        listening_socket = ListeningSocket()
        await listening_socket.listener.open(listening_socket.sock)
        assert listening_socket.listener.accepting
        await listening_socket.listener.drain(0)
        assert not listening_socket.listener.accepting
        with socket.create_connection(listening_socket.sock.getsockname()):
            for _ in range(20):
                await asyncio.sleep(0)
            assert listening_socket.connected == 0
        listening_socket.sock.close()

    with_loop("uvloop", run())
