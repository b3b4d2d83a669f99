"""Records of CSV text: where they end, and how many there are, found without the parser that reads their cells.

A quotation mark opens a cell only where the cell begins; inside such a cell two of them are one, and any other closes it. Elsewhere it is
text, as in `5" pipe`. Text given to these functions begins where a record begins.
"""

import numpy as np

from kernels.types import I64

_COMMA, _QUOTE, _RETURN, _NEWLINE = b',"\r\n'


def last_end(text: bytes) -> int:
    """Return where the last whole record ends, 0 if none does."""
    if b'"' not in text:
        return text.rfind(b"\n") + 1
    ends = _ends(text)
    return int(ends[-1]) if len(ends) else 0


def first_end(text: bytes) -> int:
    """Return where the first record ends: the length of the text if it has no other."""
    newline = text.find(b"\n")
    if newline < 0 or b'"' not in text[:newline]:
        return newline + 1 if newline >= 0 else len(text)
    ends = _ends(text)
    return int(ends[0]) if len(ends) else len(text)


def count(text: bytes) -> int:
    """Return the number of records; empty lines are none, and text after the last line break is one."""
    if b'"' not in text:
        return sum(1 for line in text.split(b"\n") if line and line != b"\r")
    number, begin = 0, 0
    for end in (*_ends(text).tolist(), len(text)):
        number += text[begin:end] not in (b"", b"\n", b"\r\n")
        begin = end
    return number


def _ends(text: bytes) -> I64:
    """Return the places after the line breaks that end a record, int64 [records]."""
    letters = np.frombuffer(text, np.uint8)
    newlines = np.flatnonzero(letters == _NEWLINE)
    quotes = np.flatnonzero(letters == _QUOTE)
    if not _are_paired(letters, quotes):
        return _ends_by_line(text)
    before = np.searchsorted(quotes, newlines)
    return np.asarray(newlines[before % 2 == 0] + 1, np.int64)


def _are_paired(letters: np.ndarray[tuple[int], np.dtype[np.uint8]], quotes: I64) -> bool:
    """Return whether every quotation mark is part of a quoted cell, so that a place is in one where an odd number is before it."""
    opening, closing = quotes[::2], quotes[1::2]
    before = np.where(opening > 0, letters[opening - 1], _NEWLINE)
    after = np.where(closing + 1 < len(letters), letters[np.minimum(closing + 1, len(letters) - 1)], _NEWLINE)
    return bool(np.isin(before, (_COMMA, _NEWLINE, _QUOTE)).all() and np.isin(after, (_COMMA, _RETURN, _NEWLINE, _QUOTE)).all())


def _ends_by_line(text: bytes) -> I64:
    """Return what `_ends` does, of text with quotation marks inside cells that are not quoted."""
    ends, place, is_open = list[int](), 0, False
    for line in text.split(b"\n")[:-1]:
        place += len(line) + 1
        is_open = _is_open_after(line, is_open)
        if not is_open:
            ends.append(place)
    return np.array(ends, np.int64)


def _is_open_after(line: bytes, is_open: bool) -> bool:
    """Return whether a quoted cell is open at the end of a line; is_open: whether one was at its beginning."""
    place = 0
    if not is_open and line.startswith(b'"'):
        place, is_open = 1, True
    while True:
        if not is_open:
            opens = line.find(b',"', place)
            if opens < 0:
                return False
            place = opens + 2
        close = line.find(b'"', place)
        if close < 0:
            return True
        is_open = line[close + 1 : close + 2] == b'"'
        place = close + 1 + is_open
