"""Interactions as they stand in a body, read by compiled code straight into rows of `kernels.sessions.timeline`.

A request has few fields and many events, so most of the time that its JSON takes would go into an object for each event. What is read here
is the plain case: the fields of `InteractionEvent`, each once, texts in ASCII without escapes, moments as `2026-11-20T19:02:11.25Z` or
numbers, numbers of at most 15 digits. Of anything else nothing is said, right or wrong: it is decoded the usual way.
"""

import math

import numpy as np
from msgspec import inspect

from kernels.compile import formula, on_cpu
from kernels.sessions import json_words
from kernels.sessions.json_words import BYTES
from kernels.sessions.timeline import KIND, MOMENT, PAGE, WAIT, WIDTH, X, Y
from kernels.types import F64, I64, U8, U64
from serving.engines.purchase.columns import KIND_CODES
from serving.engines.types import InteractionEvent
from training.features import PAGE_CODES

UNSURE = -1
MIN_BYTES = len('{"type":"","timestamp":0},')  # of an event

# The fields of an event: texts, of which the first two must be there, then numbers.
_FIELDS = ("type", "timestamp", "pageKind", "page", "productId", "elementId", "x", "y", "waitMs", "value")
_TYPE, _TIMESTAMP, _PAGE_KIND, _PAGE, _PRODUCT, _ELEMENT, _X, _Y, _WAIT, _VALUE = range(len(_FIELDS))
_NEEDED = 1 << _TYPE | 1 << _TIMESTAMP
_COLUMN = np.array([0, 0, 0, 0, 0, 0, X, Y, WAIT, UNSURE], np.int64)


def _kinds(kind: inspect.Type) -> list[inspect.Type]:
    """Return what a field may be: the members of a union, without what is said of them for people."""
    if isinstance(kind, inspect.Metadata):
        return _kinds(kind.type)
    return [one for each in kind.types for one in _kinds(each)] if isinstance(kind, inspect.UnionType) else [kind]


def _bounds(kind: inspect.Type) -> tuple[float, float]:
    """Return the least and the most that a field's type allows: letters of a text, else the number itself."""
    for one in _kinds(kind):
        if isinstance(one, inspect.StrType):
            return one.min_length or 0, math.inf if one.max_length is None else one.max_length
        if isinstance(one, inspect.FloatType):
            return -math.inf if one.ge is None else one.ge, math.inf if one.le is None else one.le
    raise TypeError(f"{kind} is neither a text nor a number; this is a bug")


_types = {field.encode_name: field.type for field in inspect.type_info(InteractionEvent).fields}  # type: ignore[attr-defined]  # of a Struct
_MIN, _MAX = np.array([_bounds(_types.pop(name)) for name in _FIELDS], np.float64).T.copy()
assert not _types, f"fields of an event that nothing here reads: {', '.join(_types)}; this is a bug"


def _ended(names: tuple[str, ...]) -> tuple[U64, U64, I64]:
    """Return names with their closing quotes as words and masks, and the length of each."""
    return (*json_words.table(tuple(name.encode() + b'"' for name in names)), np.array(list(map(len, names)), np.int64) + 1)


_KEYS, _KEY_MASKS, _KEY_SIZES = _ended(_FIELDS)
_KINDS, _KIND_MASKS, _KIND_SIZES = _ended(tuple(KIND_CODES))
_KIND_OF = np.array(list(KIND_CODES.values()), np.float64)
_PAGES, _PAGE_MASKS, _PAGE_SIZES = _ended(tuple(PAGE_CODES))
_PAGE_OF = np.array(list(PAGE_CODES.values()), np.float64)

# To look at eight letters at once: ones, the highest bits, and some letters in every byte.
_ONES, _HIGH = np.uint64(0x0101010101010101), np.uint64(0x8080808080808080)
_QUOTES, _BACKSLASHES, _SPACES = (np.uint64(ord(letter) * 0x0101010101010101) for letter in '"\\ ')

_FIRST_YEAR, _LAST_YEAR = 2001, 2098  # a year within what is taken, so that no zone leads out of it
_FIRST_MS, _LAST_MS = 978_307_200_000.0, 4_070_908_800_000.0
_DAYS = np.array([0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31], np.int64)
_TO_1970 = 719_468  # days from 1 March of the year 0
_MAX_ZONE = 14  # hours
_NO_NUMBER = -1_000_000
_MAX_DIGITS = 15  # a double holds any number of so many
_TENS = 10.0 ** np.arange(_MAX_DIGITS + 1)


def read(raw: bytes | memoryview) -> F64 | None:
    """Return the events of a JSON list as rows, float64 [events, kernels.sessions.timeline.WIDTH]; None where it is not all plain."""
    data = np.frombuffer(raw, np.uint8)
    out = np.empty((len(data) // MIN_BYTES + 1, WIDTH))
    events = _events(data, out)
    return None if events == UNSURE else out[:events]


@formula
def _byte(data: U8, at: int) -> int:
    """Return the byte at `at`, 0 after the last."""
    return int(data[at]) if at < data.size else 0


@formula
def _word(data: U8, at: int) -> np.uint64:
    """Return the eight bytes from `at` on, zeros after the last."""
    if at + BYTES <= data.size:
        return json_words.load(data, at)
    word = np.uint64(0)
    for one in range(BYTES):
        word |= np.uint64(_byte(data, at + one)) << np.uint64(8 * one)
    return word


@formula
def _skip(data: U8, at: int) -> int:
    """Return where the space at `at` ends."""
    while at < data.size and (data[at] == ord(" ") or data[at] == ord("\n") or data[at] == ord("\r") or data[at] == ord("\t")):
        at += 1
    return at


@formula
def _which(data: U8, at: int, texts: U64, masks: U64) -> int:
    """Return which of the texts begins at `at`; how many there are if none does."""
    first = _word(data, at)
    for row in range(len(texts)):
        if first & masks[row, 0] == texts[row, 0]:
            part = 1
            while part < texts.shape[1] and _word(data, at + BYTES * part) & masks[row, part] == texts[row, part]:
                part += 1
            if part == texts.shape[1]:
                return row
    return len(texts)


@formula
def _text_end(data: U8, at: int) -> int:
    """Return where the text whose first letter is at `at` ends, after its quote, if it is ASCII without escapes."""
    while True:
        word = _word(data, at)
        quote, backslash = word ^ _QUOTES, word ^ _BACKSLASHES
        found = (quote - _ONES) & ~quote | (backslash - _ONES) & ~backslash | (word - _SPACES) & ~word | word
        if found & _HIGH == np.uint64(0):
            at += BYTES
            continue
        while at < data.size:
            byte = data[at]
            at += 1
            if byte == ord('"'):
                return at
            if byte == ord("\\") or byte < ord(" ") or byte > ord("~"):
                return UNSURE
        return UNSURE


@formula
def _null_end(data: U8, at: int) -> int:
    """Return where the `null` at `at` ends."""
    return at + 4 if _word(data, at) & np.uint64(0xFFFFFFFF) == np.uint64(0x6C6C756E) else UNSURE


@formula
def _number(data: U8, at: int) -> tuple[float, int]:
    """Return the number at `at`, in digits with or without a fraction, and where it ends: few enough digits for one exact division."""
    negative = _byte(data, at) == ord("-")
    at += int(negative)
    value, first = 0, at
    while ord("0") <= _byte(data, at) <= ord("9") and at - first <= _MAX_DIGITS:
        value = value * 10 + (int(data[at]) - ord("0"))
        at += 1
    digits, fraction = at - first, 0
    if digits == 0 or (digits > 1 and data[first] == ord("0")):
        return 0.0, UNSURE
    if _byte(data, at) == ord("."):
        at += 1
        while ord("0") <= _byte(data, at) <= ord("9") and fraction <= _MAX_DIGITS:
            value = value * 10 + (int(data[at]) - ord("0"))
            fraction += 1
            at += 1
        if fraction == 0:
            return 0.0, UNSURE
    if digits + fraction > _MAX_DIGITS or _byte(data, at) == ord("e") or _byte(data, at) == ord("E"):
        return 0.0, UNSURE
    exact = float(value) / _TENS[fraction]
    return -exact if negative else exact, at


@formula
def _two(data: U8, at: int) -> int:
    """Return the number of two digits at `at`, less than nothing if they are none."""
    tens, ones = int(data[at]) - ord("0"), int(data[at + 1]) - ord("0")
    return 10 * tens + ones if 0 <= tens <= 9 and 0 <= ones <= 9 else _NO_NUMBER


@formula
def _zone(data: U8, at: int) -> tuple[int, int]:
    """Return the seconds that the zone at `at` is ahead of UTC, and where it ends."""
    sign = data[at]
    if sign == ord("Z"):
        return 0, at + 1
    if not (sign == ord("+") or sign == ord("-")) or at + 6 > data.size or data[at + 3] != ord(":"):
        return 0, UNSURE
    hours, minutes = _two(data, at + 1), _two(data, at + 4)
    if not (0 <= hours < _MAX_ZONE and 0 <= minutes < 60):
        return 0, UNSURE
    ahead_s = hours * 3_600 + minutes * 60
    return ahead_s if sign == ord("+") else -ahead_s, at + 6


@formula
def _moment(data: U8, at: int) -> tuple[float, int]:
    """Return the moment at `at`, as `2026-11-20T19:02:11.25Z`, in milliseconds since 1970 as `datetime` would, and where it ends."""
    if at + len("2026-11-20T19:02:11Z") > data.size:
        return 0.0, UNSURE
    year, month, day = 100 * _two(data, at) + _two(data, at + 2), _two(data, at + 5), _two(data, at + 8)
    hour, minute, second = _two(data, at + 11), _two(data, at + 14), _two(data, at + 17)
    marked = data[at + 4] == ord("-") and data[at + 7] == ord("-") and data[at + 10] == ord("T")
    marked = marked and data[at + 13] == ord(":") and data[at + 16] == ord(":")
    if not (marked and _FIRST_YEAR <= year <= _LAST_YEAR and 1 <= month <= 12):
        return 0.0, UNSURE
    if not (1 <= day <= _DAYS[month] + int(month == 2 and year % 4 == 0)):  # no century within these years is a common one
        return 0.0, UNSURE
    if not (0 <= hour < 24 and 0 <= minute < 60 and 0 <= second < 60):
        return 0.0, UNSURE
    at += 19
    micros, left = 0, 6
    if data[at] == ord("."):
        at += 1
        while left > 0 and ord("0") <= _byte(data, at) <= ord("9"):
            micros = 10 * micros + int(data[at]) - ord("0")
            at, left = at + 1, left - 1
        if left == 6 or at >= data.size:
            return 0.0, UNSURE
        while left > 0:
            micros, left = 10 * micros, left - 1
    ahead_s, end = _zone(data, at)
    # Days since 1970: years begin in March here, so that the leap day is a year's last.
    year -= int(month <= 2)
    day_of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    days = year * 365 + year // 4 - year // 100 + year // 400 + day_of_year - _TO_1970
    seconds = days * 86_400 + hour * 3_600 + minute * 60 + second - ahead_s
    return float(seconds * 1_000_000 + micros) / 1e6 * 1000.0, end


@formula
def _read_number(data: U8, at: int, field: int, out: F64, row: int) -> int:
    """Write the number at `at` into the column of its field and return where it ends."""
    value, end = _number(data, at)
    if end == UNSURE or not _MIN[field] <= value <= _MAX[field]:
        return UNSURE
    if _COLUMN[field] != UNSURE:
        out[row, _COLUMN[field]] = value
    return end


@formula
def _read_moment(data: U8, at: int, out: F64, row: int) -> int:
    """Write the moment at `at`, a text or a number, and return where it ends."""
    if _byte(data, at) == ord('"'):
        out[row, MOMENT], end = _moment(data, at + 1)
        return end + 1 if end != UNSURE and _byte(data, end) == ord('"') else UNSURE
    out[row, MOMENT], end = _number(data, at)
    return end if _FIRST_MS <= out[row, MOMENT] < _LAST_MS else UNSURE


@formula
def _read_name(
    data: U8,
    at: int,
    texts: U64,
    masks: U64,
    sizes: I64,
    codes: F64,
    most: float,
    out: F64,
    row: int,
    column: int,
) -> int:
    """Write the code of the name whose first letter is at `at`, 0 for one that is not known, and return where it ends."""
    which = _which(data, at, texts, masks)
    if which < len(texts):
        out[row, column] = codes[which]
        return at + int(sizes[which])
    end = _text_end(data, at)
    return end if end - at - 1 <= most else UNSURE


@formula
def _value(data: U8, at: int, field: int, out: F64, row: int) -> int:
    """Write what the value at `at` of a field says into its row and return where it ends."""
    first = _byte(data, at)
    if field == _TIMESTAMP:
        return _read_moment(data, at, out, row)
    if first == ord("n"):
        return _null_end(data, at) if field != _TYPE else UNSURE
    if field >= _X:
        return _read_number(data, at, field, out, row)
    if first != ord('"'):
        return UNSURE
    at += 1
    if field == _TYPE:
        return _read_name(data, at, _KINDS, _KIND_MASKS, _KIND_SIZES, _KIND_OF, _MAX[_TYPE], out, row, KIND)
    if field == _PAGE_KIND:
        return _read_name(data, at, _PAGES, _PAGE_MASKS, _PAGE_SIZES, _PAGE_OF, _MAX[_PAGE_KIND], out, row, PAGE)
    end = _text_end(data, at)
    return end if end != UNSURE and _MIN[field] <= end - at - 1 <= _MAX[field] else UNSURE


@formula
def _event(data: U8, at: int, out: F64, row: int) -> int:
    """Write the event at `at` into its row and return where it ends."""
    out[row, KIND] = out[row, PAGE] = 0.0
    out[row, X] = out[row, Y] = out[row, WAIT] = math.nan
    if _byte(data, at) != ord("{"):
        return UNSURE
    seen = 0
    while True:
        at = _skip(data, at + 1)
        field = _which(data, at + 1, _KEYS, _KEY_MASKS)
        if _byte(data, at) != ord('"') or field == len(_KEYS) or seen >> field & 1:
            return UNSURE
        seen |= 1 << field
        at = _skip(data, at + 1 + _KEY_SIZES[field])
        if _byte(data, at) != ord(":"):
            return UNSURE
        at = _value(data, _skip(data, at + 1), field, out, row)
        if at == UNSURE:
            return UNSURE
        at = _skip(data, at)
        if _byte(data, at) == ord("}"):
            return at + 1 if seen & _NEEDED == _NEEDED else UNSURE
        if _byte(data, at) != ord(","):
            return UNSURE


@on_cpu
def _events(data: U8, out: F64) -> int:
    """Write the events of the list into `out` and return how many there are, UNSURE where it is not all plain."""
    at, event = _skip(data, 0), 0
    if _byte(data, at) != ord("["):
        return UNSURE
    at = _skip(data, at + 1)
    if _byte(data, at) == ord("]"):
        return 0 if _skip(data, at + 1) == data.size else UNSURE
    while event < len(out):
        at = _event(data, at, out, event)
        if at == UNSURE:
            return UNSURE
        event += 1
        at = _skip(data, at)
        if _byte(data, at) == ord("]"):
            return event if _skip(data, at + 1) == data.size else UNSURE
        if _byte(data, at) != ord(","):
            return UNSURE
        at = _skip(data, at + 1)
    return UNSURE
