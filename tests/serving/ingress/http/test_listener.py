"""The listener takes whoever waits within a few turns of the loop, leaves others to its neighbours, and survives a want of descriptors."""

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


class Door:
    """A listening socket of which `fails` says how often accept() finds no descriptor left; `listener` accepts on it."""

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

    async def turns_until(self, number: int) -> int:
        """Return how many turns of the loop it took until so many callers had a connection."""
        turns = 0
        while self.connected < number:
            turns += 1
            await asyncio.sleep(0)
        return turns


def with_loop(loop: str, run: object) -> None:
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(run)  # type: ignore[arg-type]


async def closed(door: Door, callers: list[socket.socket]) -> None:
    for caller in callers:
        caller.close()
    await door.listener.drain(5)
    door.sock.close()


@pytest.mark.parametrize("loop", LOOPS)
def test_a_crowd_is_taken_within_a_few_turns_and_not_all_at_once(loop):
    async def run() -> None:
        door = Door()
        callers = [socket.create_connection(door.sock.getsockname()) for _ in range(CALLERS)]
        await door.listener.open(door.sock)
        assert await door.turns_until(1) < 10
        assert door.connected <= listening.MAX_ACCEPTS
        assert await door.turns_until(CALLERS) < 20
        await closed(door, callers)

    with_loop(loop, run())


@pytest.mark.parametrize("loop", LOOPS)
def test_when_there_is_no_descriptor_left_it_tries_again_a_little_later(loop, monkeypatch, caplog):
    monkeypatch.setattr(listening, "RETRY_S", 0.01)

    async def run() -> None:
        door = Door(fails=2)
        callers = [socket.create_connection(door.sock.getsockname())]
        await door.listener.open(door)  # type: ignore[arg-type]
        await door.turns_until(1)
        assert door.accepts >= 3
        await closed(door, callers)

    with_loop(loop, run())
    assert "too many open files" in caplog.text


def test_once_it_drains_whoever_comes_is_left_to_the_others():
    async def run() -> None:
        door = Door()
        await door.listener.open(door.sock)
        assert door.listener.accepting
        await door.listener.drain(0)
        assert not door.listener.accepting
        with socket.create_connection(door.sock.getsockname()):
            for _ in range(20):
                await asyncio.sleep(0)
            assert door.connected == 0
        door.sock.close()

    with_loop("uvloop", run())
