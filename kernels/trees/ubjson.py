"""Universal Binary JSON (draft 12, ubjson.org), as XGBoost writes it: typed arrays become numpy arrays without a loop over their items.

A JSON parser would hold the GIL for tens of milliseconds, in which a server answers no request, and so would a loop in Python over
thousands of trees. So compiled code scans the document once and writes a *tape*, a row for each value in the order of the document. Values
are then read from the tape; a list of many objects of one kind is a `ColumnTable`, whose columns are copied by compiled code.
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

# By marker, for compiled code: the bytes of a number, and whether it is a whole number or a constant.
_WIDTH = np.zeros(256, np.int64)
_WIDTH[list(_NUMBERS)] = [form.size for form in _NUMBERS.values()]
_WHOLE = np.zeros(256, np.bool_)
_WHOLE[[ord(mark) for mark in "iUIlL"]] = True
_CONSTANT = np.zeros(256, np.bool_)
_CONSTANT[list(_CONSTANTS)] = True

# The columns of the tape. ITEMS: the marker of the numbers in a typed array, 0 for every other value; LENGTH: the bytes of a text, the
# numbers of an array; NEXT: the row after the value. A field of an object is two rows, its name and its value.
MARK, ITEMS, START, LENGTH, NEXT = range(5)

MAX_DEPTH = 64
MAX_SIGNED = 127  # the largest first byte of a number that is not negative
OPEN, FIELDS = -1, -2  # instead of the number of remaining items: a list that ends with its bracket, an object

CUT, MARKED, NO_LENGTH, DEEP = range(1, 5)
_FAULTS = {
    CUT: "it ends in the middle of a value",
    MARKED: "{byte!r} is not a type marker",
    NO_LENGTH: "{byte!r} is not a length",
    DEEP: f"values are nested deeper than {MAX_DEPTH}",
}


def read(data: bytes, tables: Container[str] = ()) -> Any:
    """Return the one value in `data`: dicts, lists, str, numbers, numpy arrays where the document has typed arrays.

    A list in a field named in `tables` becomes a `ColumnTable`. Raises ValueError with the byte's position where `data` is not UBJSON.
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


class ColumnTable:
    """A list of objects with the same fields. Raises ValueError for a column that is missing in an object, or of another kind there."""

    def __init__(self, reader: "_Reader", at: int) -> None:
        self._reader = reader
        self._places = np.array(reader.items(at), np.int64)

    def __len__(self) -> int:
        return len(self._places)

    def row(self, number: int) -> Any:
        """Return one of the objects."""
        return self._reader.value(int(self._places[number]))

    def column(self, name: str) -> tuple[NDArray[Any], I64]:
        """Return the arrays of a numeric field, one object's after the other's, and the length of each: int64 [objects]."""
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
    """The values on the tape, as Python objects."""

    def __init__(self, data: U8, tape: I64, tables: Container[str]) -> None:
        self.data, self.tape, self._tables = data, tape, tables

    def value(self, at: int) -> Any:
        """Return the value in row `at`."""
        mark = int(self.tape[at, MARK])
        if mark in _CONSTANTS:
            return _CONSTANTS[mark]
        return _READERS[mark](self, at)

    def items(self, at: int) -> list[int]:
        """Return the tape's rows of the items of the list or the object in row `at`."""
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
        return {name: ColumnTable(self, one) if name in self._tables else self.value(one) for name, one in named}


_READERS: dict[int, Callable[[_Reader, int], Any]] = {
    ord("{"): _Reader.object,
    ord("["): _Reader.array,
    ord("S"): _Reader.text,
    **dict.fromkeys(_NUMBERS, _Reader.number),
}


@on_cpu
def _length(data: U8, at: int) -> tuple[int, int, int]:
    """Return the length at `at`, the index after it, and the fault, 0 for none."""
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
    """Return the length of the text at `at`, the index of its first byte, and the fault, 0 for none."""
    length, start, fault = _length(data, at)
    if fault == 0 and length > data.size - start:
        return 0, data.size, CUT
    return length, start, fault


@on_cpu
def _list_head(data: U8, at: int) -> tuple[int, int, int, int]:
    """Return the type and the number of items of the list that begins at `at`, 0 and OPEN where not given; the index after; the fault."""
    items, count, fault = 0, OPEN, 0
    if at < data.size and data[at] == ord("$"):
        if at + 2 >= data.size:
            return items, count, data.size, CUT
        items = data[at + 1]
        at += 2
        if data[at] != ord("#") or _CONSTANT[items]:  # constants take no bytes, so a short document could announce any number of them
            return items, count, at - 1, MARKED
    if at < data.size and data[at] == ord("#"):
        count, at, fault = _length(data, at + 1)
        if fault == 0 and count > (data.size - at) // max(1, _WIDTH[items]):
            at, fault = data.size, CUT
    return items, count, at, fault


@on_cpu
def _append(tape: I64, row: int, mark: int, items: int, start: int, length: int) -> int:
    """Write a row where the tape has room, and return the number of the next one."""
    if row < len(tape):
        tape[row, MARK], tape[row, ITEMS], tape[row, START], tape[row, LENGTH], tape[row, NEXT] = mark, items, start, length, row + 1
    return row + 1


@on_cpu
def _scan(data: U8, tape: I64) -> tuple[int, int, int]:
    """Write the tape as far as it has room; return its number of rows, the index after the value, and the fault, 0 for none.

    data: uint8 [bytes]; tape: int64 [rows, 5].
    """
    within = np.empty((MAX_DEPTH, 3), np.int64)  # by depth: the row of a list or an object, its remaining items, their marker
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
                row = _append(tape, row, ord("S"), 0, at, length)
                at += length
            within[depth - 1, 1] -= left > 0
            mark = within[depth - 1, 2]
        if mark == 0:
            if at >= data.size:
                return row, at, CUT
            mark, at = int(np.int64(data[at])), at + 1
        items, count, length = 0, FIELDS, 0
        if mark == ord("["):
            items, count, at, fault = _list_head(data, at)
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
        row = _append(tape, row, mark, items if _WIDTH[items] else 0, at, length)
        if mark == ord("["):
            at += length * _WIDTH[items]
        elif mark == ord("S"):
            at += length
        else:
            at += _WIDTH[mark]
    return row, at, 0


@on_cpu
def _find(data: U8, tape: I64, objects: I64, name: U8, out: I64) -> None:
    """Write the tape's row of the field `name` of each object, or -1 where it is absent."""
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
    """Write the pieces of `data` that begin at `starts`, with these sizes, into `out`, one after the other."""
    end = 0
    for piece in range(len(starts)):
        for one in range(sizes[piece]):
            out[end + one] = data[starts[piece] + one]
        end += sizes[piece]
