"""Universal Binary JSON (draft 12, ubjson.org), as XGBoost writes it: arrays of numbers become numpy arrays without a look at each.

Reading text would hold the interpreter for tens of milliseconds, in which a server answers nobody, and so would a look at each value of
thousands of trees in Python. So compiled code goes through the document once and writes a *tape*, a row for each value in the order of the
document. What is wanted is read from there; a list of many like objects is a `Table`, whose columns are copied together by compiled code.
"""

import struct
from collections.abc import Callable, Container
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.compile import on_cpu
from kernels.types import I64, U8

_NUMBERS = {
    ord(mark): struct.Struct(">" + code)
    for mark, code in (("i", "b"), ("U", "B"), ("I", "h"), ("l", "i"), ("L", "q"), ("d", "f"), ("D", "d"))
}
_CONSTANTS = {ord("T"): True, ord("F"): False, ord("Z"): None}

# By mark, for compiled code: the bytes of a number, and whether a mark stands for a whole number or a constant.
_WIDTH = np.zeros(256, np.int64)
_WIDTH[list(_NUMBERS)] = [form.size for form in _NUMBERS.values()]
_WHOLE = np.zeros(256, np.bool_)
_WHOLE[[ord(mark) for mark in "iUIlL"]] = True
_CONSTANT = np.zeros(256, np.bool_)
_CONSTANT[list(_CONSTANTS)] = True

# The columns of the tape. ITEMS: the mark of the numbers in an array of them, 0 in every other value; LENGTH: the bytes of a text, the
# numbers of an array; NEXT: the row of what follows the value. A field of an object is two rows, its name and its value.
MARK, ITEMS, START, LENGTH, NEXT = range(5)

MAX_DEPTH = 64
MAX_SIGNED = 127  # the first byte of a number that is not negative
OPEN, FIELDS = -1, -2  # instead of how many items are to come: a list that ends with its bracket, an object

CUT, MARKED, NO_LENGTH, DEEP = range(1, 5)
_FAULTS = {
    CUT: "it ends in the middle of a value",
    MARKED: "{byte!r} is no kind of value",
    NO_LENGTH: "{byte!r} is no length",
    DEEP: f"values are nested deeper than {MAX_DEPTH}",
}


def read(data: bytes, tables: Container[str] = ()) -> Any:
    """Return the one value in `data`: dicts, lists, str, numbers, numpy arrays where the document has typed arrays.

    A list in a field named in `tables` becomes a `Table`. Raises ValueError for what is not UBJSON, naming the byte.
    """
    flat = np.frombuffer(data, np.uint8)
    rows, end, fault = _scan(flat, np.empty((0, 5), np.int64))  # how many there are
    if fault:
        raise ValueError(f"this is not UBJSON: {_FAULTS[fault].format(byte=data[end : end + 1])}, at byte {end}")
    if end != len(data):
        raise ValueError(f"this is not UBJSON: {len(data) - end} bytes follow the value, at byte {end}")
    tape = np.empty((rows, 5), np.int64)
    _scan(flat, tape)
    return _Reader(flat, tape, tables).value(0)


class Table:
    """A list of objects that have the same fields. Raises ValueError for a column that is not in each of them, of the same kind."""

    def __init__(self, reader: "_Reader", at: int) -> None:
        self._reader = reader
        self._places = np.array(reader.items(at), np.int64)

    def __len__(self) -> int:
        return len(self._places)

    def row(self, number: int) -> Any:
        """Return one of the objects."""
        return self._reader.value(int(self._places[number]))

    def column(self, name: str) -> tuple[NDArray[Any], I64]:
        """Return the arrays of numbers of a field, one object's after the other's, and how long each is: int64 [objects]."""
        data, tape = self._reader.data, self._reader.tape
        places = np.empty(len(self._places), np.int64)
        _find(data, tape, self._places, np.frombuffer(name.encode(), np.uint8), places)
        kinds = np.unique(tape[places, ITEMS]) if (places >= 0).all() else np.zeros(1, np.int64)
        if len(kinds) != 1 or int(kinds[0]) not in _NUMBERS:
            raise ValueError(f"the field {name!r} is not an array of numbers of one kind in each of {len(self)} objects")
        dtype = np.dtype(_NUMBERS[int(kinds[0])].format)
        lengths = tape[places, LENGTH]
        joined = np.empty(int(lengths.sum()) * dtype.itemsize, np.uint8)
        _join(data, tape[places, START], lengths * dtype.itemsize, joined)
        return joined.view(dtype).astype(dtype.newbyteorder("=")), lengths


class _Reader:
    """What the tape says, as Python's values."""

    def __init__(self, data: U8, tape: I64, tables: Container[str]) -> None:
        self.data, self.tape, self._tables = data, tape, tables

    def value(self, at: int) -> Any:
        """Return the value in row `at`."""
        mark = int(self.tape[at, MARK])
        if mark in _CONSTANTS:
            return _CONSTANTS[mark]
        return _READERS[mark](self, at)

    def items(self, at: int) -> list[int]:
        """Return the rows of what is in the list or the object in row `at`."""
        found, one, end = [], at + 1, int(self.tape[at, NEXT])
        while one < end:
            found.append(one)
            one = int(self.tape[one, NEXT])
        return found

    def number(self, at: int) -> Any:
        return _NUMBERS[int(self.tape[at, MARK])].unpack_from(self.data.data, int(self.tape[at, START]))[0]

    def text(self, at: int) -> str:
        start, length = int(self.tape[at, START]), int(self.tape[at, LENGTH])
        return self.data[start : start + length].tobytes().decode()

    def array(self, at: int) -> Any:
        kind = int(self.tape[at, ITEMS])
        if not kind:
            return [self.value(one) for one in self.items(at)]
        dtype = np.dtype(_NUMBERS[kind].format)
        found = np.frombuffer(self.data, dtype, int(self.tape[at, LENGTH]), int(self.tape[at, START]))
        return found.astype(dtype.newbyteorder("="))

    def object(self, at: int) -> dict[str, Any]:
        rows = self.items(at)
        named = zip(map(self.text, rows[::2]), rows[1::2], strict=True)
        return {name: Table(self, one) if name in self._tables else self.value(one) for name, one in named}


_READERS: dict[int, Callable[[_Reader, int], Any]] = {
    ord("{"): _Reader.object,
    ord("["): _Reader.array,
    ord("S"): _Reader.text,
    **dict.fromkeys(_NUMBERS, _Reader.number),
}


@on_cpu
def _length(data: U8, at: int) -> tuple[int, int, int]:
    """Return the length whose mark is at `at`, where it ends, and what is wrong there."""
    if at >= data.size:
        return 0, data.size, CUT
    mark = data[at]
    if not _WHOLE[mark]:
        return 0, at, NO_LENGTH if _WIDTH[mark] else MARKED
    end = at + 1 + _WIDTH[mark]
    if end > data.size:
        return 0, data.size, CUT
    length = int(np.int64(data[at + 1]))
    if length > MAX_SIGNED and mark != ord("U"):
        return 0, at, NO_LENGTH
    for one in range(at + 2, end):
        length = length << 8 | int(np.int64(data[one]))
    return length, end, 0


@on_cpu
def _text(data: U8, at: int) -> tuple[int, int, int]:
    """Return the length of the text that begins with it at `at`, where its letters begin, and what is wrong there."""
    length, start, fault = _length(data, at)
    if fault == 0 and length > data.size - start:
        return 0, data.size, CUT
    return length, start, fault


@on_cpu
def _head(data: U8, at: int) -> tuple[int, int, int, int]:
    """Return the mark and the number of the items of the list after whose mark `at` is, 0 and OPEN where it does not say, and where it
    goes on, and what is wrong there.
    """
    items, count, fault = 0, OPEN, 0
    if at < data.size and data[at] == ord("$"):
        if at + 2 >= data.size:
            return items, count, data.size, CUT
        items = data[at + 1]
        at += 2
        if data[at] != ord("#") or _CONSTANT[items]:  # constants take no bytes: a few would stand for any number of them
            return items, count, at - 1, MARKED
    if at < data.size and data[at] == ord("#"):
        count, at, fault = _length(data, at + 1)
        if fault == 0 and count > (data.size - at) // max(1, _WIDTH[items]):
            at, fault = data.size, CUT
    return items, count, at, fault


@on_cpu
def _note(tape: I64, row: int, mark: int, items: int, start: int, length: int) -> int:
    """Write a row, if the tape is so long, and return the next one's number."""
    if row < len(tape):
        tape[row, MARK], tape[row, ITEMS], tape[row, START], tape[row, LENGTH], tape[row, NEXT] = mark, items, start, length, row + 1
    return row + 1


@on_cpu
def _scan(data: U8, tape: I64) -> tuple[int, int, int]:
    """Write the tape, as far as it is long enough; return its number of rows, where the value ends, and what is wrong there, 0 if nothing.

    data: uint8 [bytes]; tape: int64 [rows, 5].
    """
    within = np.empty((MAX_DEPTH, 3), np.int64)  # by depth: a list's or an object's row, how many items are to come, their mark
    depth, row, at, fault = 0, 0, 0, 0
    while row == 0 or depth > 0:
        mark = 0
        if depth > 0:
            left = within[depth - 1, 1]
            if left < 0 and at >= data.size:
                return row, at, CUT
            if left == 0 or (left == OPEN and data[at] == ord("]")) or (left == FIELDS and data[at] == ord("}")):
                depth -= 1
                at += left < 0
                if within[depth, 0] < len(tape):
                    tape[within[depth, 0], NEXT] = row
                continue
            if left == FIELDS:
                length, at, fault = _text(data, at)
                if fault:
                    return row, at, fault
                row = _note(tape, row, ord("S"), 0, at, length)
                at += length
            within[depth - 1, 1] -= left > 0
            mark = within[depth - 1, 2]
        if mark == 0:
            if at >= data.size:
                return row, at, CUT
            mark, at = int(np.int64(data[at])), at + 1
        items, count, length = 0, FIELDS, 0
        if mark == ord("["):
            items, count, at, fault = _head(data, at)
            length = count if _WIDTH[items] else 0
        elif mark == ord("S"):
            length, at, fault = _text(data, at)
        elif _WIDTH[mark] > data.size - at:
            at, fault = data.size, CUT
        elif mark != ord("{") and not _WIDTH[mark] and not _CONSTANT[mark]:
            at, fault = at - 1, MARKED
        if fault:
            return row, at, fault
        if (mark == ord("[") and not _WIDTH[items]) or mark == ord("{"):
            if depth == MAX_DEPTH:
                return row, at, DEEP
            within[depth, 0], within[depth, 1], within[depth, 2] = row, count, items
            depth += 1
        row = _note(tape, row, mark, items if _WIDTH[items] else 0, at, length)
        if mark == ord("["):
            at += length * _WIDTH[items]
        elif mark == ord("S"):
            at += length
        else:
            at += _WIDTH[mark]
    return row, at, 0


@on_cpu
def _find(data: U8, tape: I64, objects: I64, name: U8, out: I64) -> None:
    """Write the rows of the values of the field `name` of each of the objects, or -1 where there is none."""
    for number in range(len(objects)):
        out[number] = -1
        row = objects[number]
        field, end = row + 1, tape[row, NEXT]
        while tape[row, MARK] == ord("{") and field < end:
            start = tape[field, START]
            same = 0
            while same < name.size and tape[field, LENGTH] == name.size and data[start + same] == name[same]:
                same += 1
            if same == name.size:
                out[number] = field + 1
            field = tape[field + 1, NEXT]


@on_cpu
def _join(data: U8, starts: I64, sizes: I64, out: U8) -> None:
    """Write the pieces of `data` that begin at `starts` into `out`, one after the other."""
    end = 0
    for piece in range(len(starts)):
        for one in range(sizes[piece]):
            out[end + one] = data[starts[piece] + one]
        end += sizes[piece]
