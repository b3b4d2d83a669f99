"""The plain turns of a closed loop in compiled code: the reply is whole and right, and the next request goes out on its connection.

The generator shares the cores with the server under test, so what it does for every request is taken from the server. A reply is plain when
its status is 200, its head states its length and keeps the connection, and its body holds the very text that held the right number before.
Whatever is not as plain as that is left to `benchmarks.generator`, which knows how to read and judge any reply.
"""

import platform
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numba import types
from numpy.typing import NDArray

from kernels.compile import on_cpu

Bytes = NDArray[np.uint8]
Numbers = NDArray[np.int64]
Seconds = NDArray[np.float64]

SOCKETS = 4096  # a connection whose descriptor is not less than that is never left to compiled code
TAKEN = 1 << 14  # answers in one run
TURN = 32  # events at a time
RECEIVE = 64 * 1024  # bytes at a time
MOST_TEXT = 128  # bytes of a text that is looked for
UNKNOWN = -1  # instead of a number: compiled code does not know what was asked, or what is right
# Why a run has ended, where there are no bytes to look at: by itself, for an event, with a connection that is not needed any more.
NOTHING, EVENT, DONE = 0, -1, -2

_IN = 1  # EPOLLIN
_DONT_WAIT, _NO_SIGNAL, _MONOTONIC = 0x40, 0x4000, 1  # MSG_DONTWAIT, MSG_NOSIGNAL, CLOCK_MONOTONIC of Linux
# struct epoll_event is packed on x86-64 alone.
_EVENT_BYTES, _SOCKET_AT = (12, 4) if platform.machine() == "x86_64" else (16, 8)
_SENT, _IN_TIME, _GOOD, _COUNTED, _TAKEN = range(5)
_CR, _LF, _LOWER = 13, 10, 32
_OK = np.frombuffer(b"HTTP/1.1 200", np.uint8)
_LENGTH = np.frombuffer(b"content-length:", np.uint8)
_OTHERS = (np.frombuffer(b"transfer-encoding:", np.uint8), np.frombuffer(b"connection:", np.uint8))

# Symbols of the C library, unlike pointers of ctypes, leave the compiled code fit for the cache on disk.
_bytes = types.CPointer(types.uint8)
_epoll_wait: Any = types.ExternalFunction("epoll_wait", types.int32(types.int32, _bytes, types.int32, types.int32))
_recv: Any = types.ExternalFunction("recv", types.intp(types.int32, _bytes, types.uintp, types.int32))
_send: Any = types.ExternalFunction("send", types.intp(types.int32, _bytes, types.uintp, types.int32))
_memmem: Any = types.ExternalFunction("memmem", types.uintp(_bytes, types.uintp, _bytes, types.uintp))
_clock_gettime: Any = types.ExternalFunction("clock_gettime", types.int32(types.int32, types.CPointer(types.int64)))


class Texts(NamedTuple):
    """Byte strings, one after the other: text i is bytes[starts[i]:starts[i] + sizes[i]]; a size may be UNKNOWN."""

    bytes: Bytes
    starts: Numbers
    sizes: Numbers


class Table(NamedTuple):
    """What compiled code works on.

    number, due: [SOCKETS], of each socket which message it has sent (UNKNOWN: it is not for compiled code) and when
    right: of each message the text that the body of its answer holds; counted: one text that is looked for in every answer, if known
    end: [1], when the last request may go out
    took: [TAKEN], the seconds of each answer; totals: [5], counts of the run; last: [1], when an answer last came in time
    """

    number: Numbers
    due: Seconds
    messages: Texts
    right: Texts
    counted: Texts
    end: Seconds
    took: Seconds
    totals: Numbers
    last: Seconds
    buffer: Bytes
    events: Bytes
    clock: Numbers


class Stop(NamedTuple):
    """Why a run has ended: of `socket`, epoll reported `mask`; `got` bytes came and are in the buffer, or one of NOTHING, EVENT, DONE.

    sent: how many bytes of its next request went out, where that was less than all of them, else UNKNOWN.
    """

    socket: int
    mask: int
    got: int
    sent: int


@on_cpu
def _now(clock: Numbers) -> float:
    """Return the time as `time.perf_counter` has it."""
    _clock_gettime(_MONOTONIC, clock.ctypes)
    return float(clock[0]) + 1e-9 * float(clock[1])


@on_cpu
def _begins(data: Bytes, at: int, end: int, text: Bytes) -> bool:
    """Return whether data[at:end] begins with a text in lower case, whatever its own case."""
    if end - at < len(text):
        return False
    for i in range(len(text)):
        letter = data[at + i]
        if 65 <= letter <= 90:
            letter |= _LOWER
        if letter != text[i]:
            return False
    return True


@on_cpu
def _body(data: Bytes, size: int) -> int:
    """Return where the body begins of the one whole and plain reply that data[:size] is, UNKNOWN if it is none."""
    if size < len(_OK):
        return UNKNOWN
    for i in range(len(_OK)):
        if data[i] != _OK[i]:
            return UNKNOWN
    at, length = len(_OK), UNKNOWN
    while True:
        while at < size and data[at] != _LF:
            at += 1
        at += 1
        if at + 1 >= size:
            return UNKNOWN
        if data[at] == _CR and data[at + 1] == _LF:
            return at + 2 if length == size - at - 2 else UNKNOWN
        letter = data[at] | _LOWER
        if letter == ord("t") or letter == ord("c"):
            if _begins(data, at, size, _LENGTH):
                length, place = 0, at + len(_LENGTH)
                while place < size and data[place] == ord(" "):
                    place += 1
                while place < size and ord("0") <= data[place] <= ord("9"):
                    length = 10 * length + int(data[place]) - ord("0")
                    place += 1
                if place >= size or data[place] != _CR:
                    return UNKNOWN
            for i in range(len(_OTHERS)):
                if _begins(data, at, size, _OTHERS[i]):
                    return UNKNOWN


@on_cpu
def _holds(data: Bytes, begin: int, end: int, texts: Texts, text: int) -> bool:
    """Return whether data[begin:end] holds one of the texts; no text is held by everything, one that is UNKNOWN by nothing."""
    size = texts.sizes[text]
    if size == UNKNOWN:
        return False
    return size == 0 or _memmem(data[begin:].ctypes, end - begin, texts.bytes[texts.starts[text] :].ctypes, size) != 0


@on_cpu
def turns(epoll: int, until: float, deadline_s: float, most: int, wait_ms: int, table: Table) -> tuple[int, int, int, int]:
    """Take plain replies and send what comes next until `until`, or until something is not plain; return the fields of a Stop.

    most: how many requests, all runs together. Events that were not looked at are reported again.
    """
    totals, number, due, messages = table.totals, table.number, table.due, table.messages
    totals[_IN_TIME] = totals[_GOOD] = totals[_COUNTED] = totals[_TAKEN] = 0
    while True:
        ready = _epoll_wait(epoll, table.events.ctypes, TURN, wait_ms)
        for event in range(ready):
            at = event * _EVENT_BYTES
            mask = int(table.events[at : at + 4].view(np.uint32)[0])
            socket = int(table.events[at + _SOCKET_AT : at + _SOCKET_AT + 4].view(np.int32)[0])
            if mask != _IN or socket >= SOCKETS or number[socket] == UNKNOWN:
                return socket, mask, EVENT, UNKNOWN
            got = _recv(socket, table.buffer.ctypes, RECEIVE, _DONT_WAIT)
            if got <= 0:
                return socket, mask, EVENT, UNKNOWN
            body = _body(table.buffer, got)
            if body == UNKNOWN or not _holds(table.buffer, body, got, table.right, number[socket]):
                return socket, mask, got, UNKNOWN
            if not _holds(table.buffer, 0, got, table.counted, 0):
                return socket, mask, got, UNKNOWN
            now = _now(table.clock)
            took = now - due[socket]
            table.took[totals[_TAKEN]] = took
            totals[_TAKEN] += 1
            totals[_COUNTED] += 1
            end = table.end[0]  # which may change meanwhile
            if now <= end:
                totals[_IN_TIME] += 1
                table.last[0] = now
            totals[_GOOD] += int(took <= deadline_s)
            if now >= end or totals[_SENT] >= most:
                number[socket] = UNKNOWN
                return socket, mask, DONE, UNKNOWN
            message = totals[_SENT] % len(messages.sizes)
            number[socket], due[socket] = message, now
            totals[_SENT] += 1
            size = messages.sizes[message]
            sent = _send(socket, messages.bytes[messages.starts[message] :].ctypes, size, _DONT_WAIT | _NO_SIGNAL)
            if sent != size:
                return socket, mask, NOTHING, max(sent, 0)
        if ready <= 0 or totals[_TAKEN] > TAKEN - TURN or _now(table.clock) >= until:
            return UNKNOWN, 0, NOTHING, UNKNOWN


class Turns:
    """A closed loop's plain turns: `hand` over connections, `run`, and do what the Stop asks for."""

    def __init__(self, messages: Sequence[bytes], deadline_s: float, counts: bool) -> None:
        """`counts`: a text is counted in every answer."""
        self._deadline_s = deadline_s
        self._table = Table(
            np.full(SOCKETS, UNKNOWN, np.int64),
            np.zeros(SOCKETS),
            _texts(messages),
            _room(len(messages)),
            _room(1),
            np.zeros(1),
            np.empty(TAKEN),
            np.zeros(5, np.int64),
            np.zeros(1),
            np.zeros(RECEIVE, np.uint8),
            np.zeros(TURN * _EVENT_BYTES, np.uint8),
            np.zeros(2, np.int64),
        )
        if not counts:
            _learn(self._table.counted, 0, b"")
        turns(-1, 0.0, 0.0, 0, 0, self._table)  # compile now: there is no such epoll, so nothing happens

    def hand(self, socket: int, number: int, due: float) -> None:
        """Have compiled code take the answer to message `number`, sent when it was `due`, from a socket."""
        if socket < SOCKETS:
            self._table.number[socket], self._table.due[socket] = number, due

    def take_back(self, socket: int) -> tuple[int, float] | None:
        """Return which message a socket has sent and when, None where compiled code has nothing to do with it; now it has not any more."""
        number = int(self._table.number[socket]) if socket < SOCKETS else UNKNOWN
        if number == UNKNOWN:
            return None
        self._table.number[socket] = UNKNOWN
        return number, float(self._table.due[socket])

    def learn(self, number: int, text: bytes) -> None:
        """Take the body of an answer to message `number` to be right where it holds this text."""
        _learn(self._table.right, number, text)

    def learn_counted(self, text: bytes) -> None:
        """Count answers with this text, and leave those without it to the caller."""
        _learn(self._table.counted, 0, text)

    def stop(self, end: float) -> None:
        """Have no request sent after `end`, from any thread, while a run goes on too."""
        self._table.end[0] = end

    def run(self, epoll: int, until: float, sent: int, most: float, wait_s: float) -> Stop:
        """Take plain turns until one is not, or the time has come; `sent` requests of at most `most` have gone out."""
        self._table.totals[_SENT] = sent
        return Stop(*turns(epoll, until, self._deadline_s, int(min(most, 2**62)), round(wait_s * 1000), self._table))

    @property
    def sent(self) -> int:
        """How many requests have gone out."""
        return int(self._table.totals[_SENT])

    @property
    def in_time(self) -> int:
        """How many answers of the last run came before its end."""
        return int(self._table.totals[_IN_TIME])

    @property
    def good(self) -> int:
        """How many answers of the last run came within their deadline."""
        return int(self._table.totals[_GOOD])

    @property
    def counted(self) -> int:
        """How many answers of the last run held the text that is counted."""
        return int(self._table.totals[_COUNTED])

    @property
    def last(self) -> float:
        """When an answer last came in time, in any run."""
        return float(self._table.last[0])

    @property
    def took(self) -> Seconds:
        """The seconds of each answer of the last run."""
        return self._table.took[: int(self._table.totals[_TAKEN])]

    def received(self, size: int) -> bytes:
        """Return the bytes that a Stop speaks of."""
        return self._table.buffer[:size].tobytes()


def _texts(texts: Sequence[bytes]) -> Texts:
    sizes = np.array(list(map(len, texts)), np.int64)
    return Texts(np.frombuffer(b"".join(texts), np.uint8), np.cumsum(sizes) - sizes, sizes)


def _room(texts: int) -> Texts:
    """Return room for so many texts, none of which is known."""
    return Texts(np.zeros(texts * MOST_TEXT, np.uint8), np.arange(texts) * MOST_TEXT, np.full(texts, UNKNOWN, np.int64))


def _learn(texts: Texts, text: int, content: bytes) -> None:
    if len(content) <= MOST_TEXT:
        at = texts.starts[text]
        texts.bytes[at : at + len(content)] = np.frombuffer(content, np.uint8)
        texts.sizes[text] = len(content)
