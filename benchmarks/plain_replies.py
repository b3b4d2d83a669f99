"""Classify plain replies in compiled code: the generator shares the cores with the server under test, so its work slows the server.

A reply is plain when it is complete, its head states its length and keeps the connection, and it is one of three things: right, its status
200 and its body with the same text that had the right number before; degraded, with the mark of a degraded answer; or refused, with a
status of 429 and a Retry-After. All others are left to `benchmarks.replies`, which reads any reply.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numba import types

from kernels.compile import on_cpu
from kernels.types import I64, U8

UNKNOWN = -1  # not plain; and instead of a size: the text is not known
RIGHT, DEGRADED, REFUSED = 0, 1, 2
KINDS = 3
MAX_TEXT = 128  # bytes of a text that is looked for
MAX_COUNTED = 8  # texts that are counted

_CR, _LF, _LOWER = 13, 10, 32
_START_SIZE = 9
_STATUSES = np.frombuffer(b"HTTP/1.1 200HTTP/1.1 429", np.uint8).reshape(2, 12)
_LENGTH = np.frombuffer(b"content-length:", np.uint8)
_RETRY = np.frombuffer(b"retry-after:", np.uint8)
_OTHERS = (np.frombuffer(b"transfer-encoding:", np.uint8), np.frombuffer(b"connection:", np.uint8))

# Of the C library, as in serving.ingress.overload.syscalls.
_bytes = types.CPointer(types.uint8)
_memmem: Any = types.ExternalFunction("memmem", types.uintp(_bytes, types.uintp, _bytes, types.uintp))


class Texts(NamedTuple):
    """Byte strings, one after the other: text i is bytes[starts[i]:starts[i] + sizes[i]]; a size may be UNKNOWN."""

    bytes: U8
    starts: I64
    sizes: I64


class Known(NamedTuple):
    """What replies are compared with.

    right: of each message the text in the body of its answer; degraded: the text of an answer that is not the model's
    counted: the texts of which every answer contains one; marker: their common beginning, which no refusal contains
    """

    right: Texts
    degraded: Texts
    counted: Texts
    marker: Texts


def texts(contents: Sequence[bytes]) -> Texts:
    """Return byte strings as Texts."""
    sizes = np.array(list(map(len, contents)), np.int64)
    return Texts(np.frombuffer(b"".join(contents) or b"\0", np.uint8), np.cumsum(sizes) - sizes, sizes)


def room(size: int) -> Texts:
    """Return room for so many texts, none of which is known."""
    return Texts(np.zeros(size * MAX_TEXT, np.uint8), np.arange(size) * MAX_TEXT, np.full(size, UNKNOWN, np.int64))


def learn(into: Texts, text: int, content: bytes) -> None:
    """Let a text be known from now on; one that is too long stays unknown."""
    if len(content) <= MAX_TEXT:
        at = into.starts[text]
        into.bytes[at : at + len(content)] = np.frombuffer(content, np.uint8)
        into.sizes[text] = len(content)


@on_cpu
def _begins(data: U8, at: int, end: int, text: U8) -> bool:
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
def _number(data: U8, at: int, size: int) -> int:
    """Return the number that is all of what follows in this line, UNKNOWN if it is none."""
    while at < size and data[at] == ord(" "):
        at += 1
    begin, number = at, 0
    while at < size and ord("0") <= data[at] <= ord("9") and at - begin < 9:
        number = 10 * number + int(data[at]) - ord("0")
        at += 1
    return number if begin < at < size and data[at] == _CR else UNKNOWN


@on_cpu
def _status(data: U8, size: int) -> int:
    """Return which of the two statuses, RIGHT or REFUSED, a reply begins with; UNKNOWN if neither."""
    for which in range(2):
        same = size >= _STATUSES.shape[1]
        for i in range(_STATUSES.shape[1] if same else 0):
            same &= data[i] == _STATUSES[which, i]
        if same:
            return RIGHT if which == 0 else REFUSED
    return UNKNOWN


@on_cpu
def _body(data: U8, size: int) -> tuple[int, bool]:
    """Return where the body of the complete plain reply in data[:size] begins, UNKNOWN if there is none, and whether it has a
    Retry-After.
    """
    at, length, retries = _START_SIZE, UNKNOWN, False
    while True:
        while at < size and data[at] != _LF:
            at += 1
        at += 1
        if at + 1 >= size:
            return UNKNOWN, retries
        if data[at] == _CR and data[at + 1] == _LF:
            return (at + 2 if length == size - at - 2 else UNKNOWN), retries
        letter = data[at] | _LOWER
        if letter == ord("t") or letter == ord("c") or letter == ord("r"):
            if _begins(data, at, size, _LENGTH):
                length = _number(data, at + len(_LENGTH), size)
                if length == UNKNOWN:
                    return UNKNOWN, retries
            elif _begins(data, at, size, _RETRY):
                retries = _number(data, at + len(_RETRY), size) != UNKNOWN
            for i in range(len(_OTHERS)):
                if _begins(data, at, size, _OTHERS[i]):
                    return UNKNOWN, retries


@on_cpu
def _holds(data: U8, begin: int, end: int, texts: Texts, text: int) -> bool:
    """Return whether data[begin:end] holds one of the texts; no text is held by everything, one that is UNKNOWN by nothing."""
    size = texts.sizes[text]
    if size == UNKNOWN:
        return False
    return size == 0 or _memmem(data[begin:].ctypes, end - begin, texts.bytes[texts.starts[text] :].ctypes, size) != 0


@on_cpu
def judged(data: U8, size: int, number: int, known: Known) -> tuple[int, int]:
    """Return what the reply data[:size] to message `number` is, RIGHT, DEGRADED, REFUSED or UNKNOWN, and which counted text it holds.

    That is UNKNOWN for what is refused.
    """
    kind = _status(data, size)
    if kind == UNKNOWN:
        return UNKNOWN, UNKNOWN
    body, retries = _body(data, size)
    if body == UNKNOWN:
        return UNKNOWN, UNKNOWN
    if kind == REFUSED:
        return (REFUSED if retries and not _holds(data, 0, size, known.marker, 0) else UNKNOWN), UNKNOWN
    if known.right.sizes[number] == UNKNOWN:
        return UNKNOWN, UNKNOWN
    if not _holds(data, body, size, known.right, number):
        if not _holds(data, body, size, known.degraded, 0):
            return UNKNOWN, UNKNOWN
        kind = DEGRADED
    for text in range(MAX_COUNTED):
        if _holds(data, 0, size, known.counted, text):
            return kind, text
    return UNKNOWN, UNKNOWN
