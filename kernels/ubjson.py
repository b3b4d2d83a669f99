"""Universal Binary JSON (draft 12, ubjson.org), as XGBoost writes it: arrays of numbers become numpy arrays without a look at each.

Reading text would hold the interpreter for tens of milliseconds, in which a server answers nobody.
"""

import struct
from typing import Any

import numpy as np

_NUMBERS = {
    mark: struct.Struct(">" + code)
    for mark, code in ((b"i", "b"), (b"U", "B"), (b"I", "h"), (b"l", "i"), (b"L", "q"), (b"d", "f"), (b"D", "d"))
}
_CONSTANTS = {b"T": True, b"F": False, b"Z": None}


def read(data: bytes) -> Any:
    """Return the one value in `data`: dicts, lists, str, numbers, and numpy arrays where the document has typed arrays.

    Raises ValueError for what is not UBJSON, naming the byte.
    """
    try:
        value, end = _value(data, 1, data[:1])
    except (IndexError, struct.error) as error:
        raise ValueError(f"this is not UBJSON: it ends in the middle of a value, at byte {len(data)}") from error
    if end != len(data):
        raise ValueError(f"this is not UBJSON: {len(data) - end} bytes follow the value, at byte {end}")
    return value


def _value(data: bytes, at: int, mark: bytes) -> tuple[Any, int]:
    """Return the value marked `mark` whose content begins at `at`, and where it ends."""
    if mark == b"{":
        return _object(data, at)
    if mark == b"[":
        return _array(data, at)
    if mark == b"S":
        return _text(data, at)
    if mark in _NUMBERS:
        return _number(data, at, mark)
    if mark in _CONSTANTS:
        return _CONSTANTS[mark], at
    raise ValueError(f"this is not UBJSON: {mark!r} is no kind of value, at byte {at - 1}")


def _object(data: bytes, at: int) -> tuple[dict[str, Any], int]:
    found: dict[str, Any] = {}
    while data[at : at + 1] != b"}":
        name, at = _text(data, at)
        found[name], at = _value(data, at + 1, _mark(data, at))
    return found, at + 1


def _array(data: bytes, at: int) -> tuple[Any, int]:
    kind = None
    if data[at : at + 1] == b"$":
        kind, at = data[at + 1 : at + 2], at + 2
    if data[at : at + 1] != b"#":
        return _open_array(data, at)
    count, at = _length(data, at + 1)
    if kind in _NUMBERS:
        dtype = np.dtype(_NUMBERS[kind].format)
        end = at + count * dtype.itemsize
        if end > len(data):
            raise IndexError
        return np.frombuffer(data, dtype, count, at).astype(dtype.newbyteorder("=")), end
    found = []
    for _ in range(count):
        value, at = _value(data, at, kind) if kind else _value(data, at + 1, _mark(data, at))
        found.append(value)
    return found, at


def _open_array(data: bytes, at: int) -> tuple[list[Any], int]:
    found = []
    while data[at : at + 1] != b"]":
        value, at = _value(data, at + 1, _mark(data, at))
        found.append(value)
    return found, at + 1


def _text(data: bytes, at: int) -> tuple[str, int]:
    length, at = _length(data, at)
    if at + length > len(data):
        raise IndexError
    return data[at : at + length].decode(), at + length


def _length(data: bytes, at: int) -> tuple[int, int]:
    """Return the length of a text or an array, whose mark is at `at`, and where it ends."""
    length, end = _number(data, at + 1, _mark(data, at))
    if not isinstance(length, int) or length < 0:
        raise ValueError(f"this is not UBJSON: {length} is no length, at byte {at}")
    return length, end


def _number(data: bytes, at: int, mark: bytes) -> tuple[Any, int]:
    form = _NUMBERS.get(mark)
    if form is None:
        raise ValueError(f"this is not UBJSON: {mark!r} is no kind of number, at byte {at - 1}")
    return form.unpack_from(data, at)[0], at + form.size


def _mark(data: bytes, at: int) -> bytes:
    if at >= len(data):
        raise IndexError
    return data[at : at + 1]
