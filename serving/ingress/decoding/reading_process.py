"""Read large bodies that the plain decoder refused in a process of its own.

To name the unknown or wrong fields of a body of some megabytes takes a third of a second, most of it in calls that hold the interpreter: in
a thread they would delay every other request. The process starts with the first such body and ends when none has come for a while, so that
its memory is returned. It reads one body at a time, at low priority, and ends with the process that started it.
"""

import asyncio
import functools
import importlib
import os
import socket
import subprocess
import sys
import time
from collections import Counter
from typing import Any, NamedTuple

import msgspec

from serving.errors import DeadlineExceededError, FieldProblem, InvalidRequestError, NotJSONError, NotReadyError, OverloadedError
from serving.ingress.decoding.decoder import Decoder

MAX_WAITING = 16  # bodies that are read or wait to be read
RETRY_S = 1.0
IDLE_S = 30.0  # without a body, after which the process ends
NICENESS = 10
_SIZE_BYTES = 8


class CleanBody(NamedTuple):
    """A body without its unknown fields, and how often each of them occurs."""

    body: bytes
    unknown: Counter[str]


class _Order(msgspec.Struct, array_like=True):
    """A body to read. kind: the request's type as `module:name`."""

    kind: str
    max_problems: int
    body: bytes


class _Outcome(msgspec.Struct, array_like=True):
    """What was read: a clean body and its unknown fields; or why it is not JSON; or problems, (field, detail), and how many more."""

    body: bytes = b""
    unknown: dict[str, int] = {}
    not_json: str = ""
    problems: list[tuple[str, str]] = []
    more: int = 0


class ReadingProcess:
    """The process, from the side of the event loop. It is started by the first call of `read`."""

    def __init__(self, idle_s: float = IDLE_S) -> None:
        self._idle_s = idle_s
        self._turn = asyncio.Lock()
        self._waiting: set[asyncio.Task[CleanBody]] = set()
        self._process: subprocess.Popen[bytes] | None = None
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._ending: asyncio.TimerHandle | None = None
        self._stopping: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """The process's id, None while there is none."""
        return None if self._process is None else self._process.pid

    async def read(self, request: type[msgspec.Struct], body: bytes, *, max_problems: int, deadline: float) -> CleanBody:
        """Return `body` as a valid one of the type `request`, a class of a module.

        Raises NotJSONError and InvalidRequestError as `Decoder.lenient` does, OverloadedError where too many bodies wait,
        DeadlineExceededError when it was not read by `deadline` (time.monotonic()), NotReadyError when the process has ended meanwhile.
        """
        if len(self._waiting) >= MAX_WAITING:
            raise OverloadedError(f"{len(self._waiting)} large bodies with unknown or wrong fields wait already; correct them", RETRY_S)
        order = _Order(f"{request.__module__}:{request.__qualname__}", max_problems, body)
        # A caller that leaves does not end it: the process's reply to its body must not be taken for the reply to the next.
        reading = asyncio.get_running_loop().create_task(self._read(order))
        self._waiting.add(reading)
        reading.add_done_callback(self._ended)
        try:
            return await asyncio.wait_for(asyncio.shield(reading), max(0.0, deadline - time.monotonic()))
        except TimeoutError:
            raise DeadlineExceededError("the unknown or wrong fields of this large body were not found in time; correct them") from None

    async def aclose(self) -> None:
        """End the process."""
        for reading in list(self._waiting):
            reading.cancel()
        await asyncio.gather(*self._waiting, return_exceptions=True)
        await self._stop()

    def _ended(self, reading: "asyncio.Task[CleanBody]") -> None:
        self._waiting.discard(reading)
        if not reading.cancelled():
            reading.exception()  # retrieved, also where its caller has left

    async def _read(self, order: _Order) -> CleanBody:
        async with self._turn:
            if self._ending is not None:
                self._ending.cancel()
                self._ending = None
            try:
                reader, writer = self._streams or await self._start()
                outcome = msgspec.msgpack.decode(await _exchange(reader, writer, msgspec.msgpack.encode(order)), type=_Outcome)
            except (OSError, EOFError):
                await self._stop()
                raise NotReadyError("the process that reads large bodies with unknown or wrong fields has ended; try again") from None
            except asyncio.CancelledError:
                await self._stop()
                raise
            self._ending = asyncio.get_running_loop().call_later(self._idle_s, self._end_idle)
        if outcome.not_json:
            raise NotJSONError(outcome.not_json)
        if outcome.problems:
            raise InvalidRequestError([FieldProblem(field, detail) for field, detail in outcome.problems], outcome.more)
        return CleanBody(outcome.body, Counter(outcome.unknown))

    async def _start(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-m", "serving.ingress.decoding.reading_process", str(theirs.fileno())]
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()])  # about a millisecond
        ours.setblocking(False)
        self._streams = await asyncio.open_connection(sock=ours)
        return self._streams

    async def _stop(self) -> None:
        """End the process: it reads the end of its connection."""
        process, streams = self._process, self._streams
        self._process = self._streams = None
        if self._ending is not None:
            self._ending.cancel()
            self._ending = None
        if streams is not None:
            streams[1].transport.abort()
        if process is not None:
            process.terminate()
            await asyncio.to_thread(process.wait)

    def _end_idle(self) -> None:
        self._ending = None
        if not self._turn.locked():
            self._stopping = asyncio.get_running_loop().create_task(self._stop_idle())

    async def _stop_idle(self) -> None:
        async with self._turn:
            await self._stop()


async def _exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, content: bytes) -> bytes:
    writer.write(len(content).to_bytes(_SIZE_BYTES))
    writer.write(content)
    await writer.drain()
    return await reader.readexactly(int.from_bytes(await reader.readexactly(_SIZE_BYTES)))


@functools.cache
def _decoder(kind: str) -> Decoder[Any]:
    module, _, name = kind.partition(":")
    return Decoder(functools.reduce(getattr, name.split("."), importlib.import_module(module)), lambda _: None, 1)  # type: ignore[arg-type]


def _outcome(order: _Order) -> _Outcome:
    try:
        request, unknown = _decoder(order.kind).lenient(order.body, order.max_problems)
    except NotJSONError as error:
        return _Outcome(not_json=str(error))
    except InvalidRequestError as error:
        return _Outcome(problems=[(problem.field, problem.detail) for problem in error.problems], more=error.more)
    return _Outcome(msgspec.json.encode(request), dict(unknown))


def main(descriptor: int) -> None:
    """Read bodies from the socket until it is closed."""
    os.nice(NICENESS)
    with socket.socket(fileno=descriptor) as connection, connection.makefile("rwb") as stream:
        while size := stream.read(_SIZE_BYTES):
            order = msgspec.msgpack.decode(stream.read(int.from_bytes(size)), type=_Order)
            content = msgspec.msgpack.encode(_outcome(order))
            stream.write(len(content).to_bytes(_SIZE_BYTES) + content)
            stream.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]))
