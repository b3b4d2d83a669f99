"""Events in JSON as rows of `kernels.sessions.timeline`, parsed by compiled code.

A request has few fields and many events, so most of its decoding time would go into an object for each event. This parser reads the common
form only: the FIELDS of an event, each at most once, texts in ASCII without escapes, moments as `2026-11-20T19:02:11.25Z` or numbers,
numbers of at most 15 digits. For any other JSON, valid or not, it returns UNSURE, and the caller parses the text in another way.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from kernels.compile import formula, on_cpu
from kernels.sessions import json_words
from kernels.sessions.features import OUTBOUND
from kernels.sessions.json_words import BYTES
from kernels.sessions.timeline import IGNORED, KIND, MOMENT, PAGE, TARGET, WAIT, X, Y
from kernels.types import F64, I64, U8, U64

UNSURE = -1
MAX_UNKNOWN = 64  # names of unknown types that are kept
MIN_BYTES = len('{"type":"","timestamp":0},')  # of an event

# The fields of an event: texts, of which the first two are required, then numbers, then what marks a click that leaves the page.
FIELDS = ("type", "timestamp", "pageKind", "page", "productId", "elementId", "x", "y", "waitMs", "value", "target", "download")
_TYPE, _TIMESTAMP, _PAGE_KIND, _PAGE, _PRODUCT, _ELEMENT, _X, _Y, _WAIT, _VALUE, _LINK_TARGET, _DOWNLOAD = range(len(FIELDS))
_NEEDED = 1 << _TYPE | 1 << _TIMESTAMP
_COLUMN = np.array([0, 0, 0, 0, 0, 0, X, Y, WAIT, UNSURE], np.int64)
NEW_TAB = ("blank", "_blank")  # values of `target` of a link to a new tab: the field's, and HTML's
_NEW_TAB, _NEW_TAB_MASKS = json_words.table(tuple(name.encode() + b'"' for name in NEW_TAB))
_TRUE, _FALSE = json_words.table((b"true",)), json_words.table((b"false",))


class Names(NamedTuple):
    """Names with their closing quotes, as words to compare, and the code of each in a row.

    texts, masks: uint64 [names, words], see `json_words.table`; sizes: int64 [names], bytes with the quote; codes: float64 [names]
    """

    texts: U64
    masks: U64
    sizes: I64
    codes: F64


class Form(NamedTuple):
    """The form of an event. low, high: float64 [fields], the bounds of a number, or of the length of a text."""

    keys: Names
    kinds: Names
    pages: Names
    low: F64
    high: F64


def names(codes: Mapping[str, float]) -> Names:
    """Return names, each with its code."""
    texts, masks = json_words.table(tuple(name.encode() + b'"' for name in codes))
    return Names(texts, masks, np.array(list(map(len, codes)), np.int64) + 1, np.array(list(codes.values()), np.float64))


def form(kinds: Mapping[str, float], pages: Mapping[str, float], bounds: Mapping[str, tuple[float, float]]) -> Form:
    """Return the form of an event. kinds, pages: the codes of `type` and `pageKind`; bounds: (low, high) of each of FIELDS."""
    low, high = np.array([bounds[name] for name in FIELDS], np.float64).T.copy()
    return Form(names({name: place for place, name in enumerate(FIELDS)}), names(kinds), names(pages), low, high)


# Constants to test eight letters at once: in every byte a one, the highest bit, and some letters.
_ONES, _HIGH = np.uint64(0x0101010101010101), np.uint64(0x8080808080808080)
_QUOTES, _BACKSLASHES, _SPACES = (np.uint64(ord(letter) * 0x0101010101010101) for letter in '"\\ ')

_FIRST_YEAR, _LAST_YEAR = 2001, 2098  # one year inside the accepted years, so that no time zone leads out of them
_FIRST_MS, _LAST_MS = 978_307_200_000.0, 4_070_908_800_000.0
_DAYS = np.array([0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31], np.int64)
_TO_1970 = 719_468  # days from 1 March of the year 0
_MAX_ZONE = 14  # hours
_NO_NUMBER = -1_000_000
_MAX_DIGITS = 15  # a double represents any number of this many digits exactly
_TENS = 10.0 ** np.arange(_MAX_DIGITS + 1)


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
    """Return where the white space at `at` ends."""
    while at < data.size and (data[at] == ord(" ") or data[at] == ord("\n") or data[at] == ord("\r") or data[at] == ord("\t")):
        at += 1
    return at


@formula
def _which(data: U8, at: int, texts: U64, masks: U64) -> int:
    """Return the index of the text that begins at `at`; the number of texts if none does."""
    first = _word(data, at)
    for row in range(len(texts)):
        if first & masks[row, 0] == texts[row, 0]:
            part = 1
            while part < texts.shape[1] and masks[row, part] != 0:  # the words of a text end with its last letter
                if _word(data, at + BYTES * part) & masks[row, part] != texts[row, part]:
                    break
                part += 1
            else:
                return row
    return len(texts)


@formula
def _text_end(data: U8, at: int) -> int:
    """Return where the text whose first letter is at `at` ends, after its quote; UNSURE if it is not ASCII without escapes."""
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


_MIX = np.uint64(0x9E3779B97F4A7C15)  # odd, of the golden ratio, as in Fibonacci hashing
_HALF, _REST = np.uint64(32), np.uint64(12)


@formula
def _number_of(data: U8, at: int, end: int) -> int:
    """Return a number for the text in `data[at:end]`, 1 to 2**52 - 1, the same for the same bytes; 0 for an empty one."""
    if at == end:
        return 0
    number = np.uint64(end - at)
    while at < end:
        word = _word(data, at)
        if end - at < BYTES:
            word &= (np.uint64(1) << np.uint64(8 * (end - at))) - np.uint64(1)
        number = (number ^ word) * _MIX
        number ^= number >> _HALF
        at += BYTES
    return int(np.int64(number >> _REST)) | 1


@on_cpu
def element_number(name: U8) -> int:
    """Return the number of the element with this name, uint8 [bytes], as `read` writes it: 1 to 2**52 - 1, 0 for an empty name."""
    return _number_of(name, 0, name.size)


@formula
def _null_end(data: U8, at: int) -> int:
    """Return where the `null` at `at` ends."""
    return at + 4 if _word(data, at) & np.uint64(0xFFFFFFFF) == np.uint64(0x6C6C756E) else UNSURE


@formula
def _number(data: U8, at: int) -> tuple[float, int]:
    """Return the decimal number at `at` and where it ends; UNSURE for an exponent, or more digits than one exact division allows."""
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
    """Return the number of two digits at `at`, negative if they are not digits."""
    tens, ones = int(data[at]) - ord("0"), int(data[at + 1]) - ord("0")
    return 10 * tens + ones if 0 <= tens <= 9 and 0 <= ones <= 9 else _NO_NUMBER


@formula
def _zone(data: U8, at: int) -> tuple[int, int]:
    """Return the offset from UTC of the time zone at `at`, in seconds, and where it ends."""
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
    """Return the moment at `at`, as `2026-11-20T19:02:11.25Z`, in milliseconds since 1970 exactly as `datetime`, and its end."""
    if at + len("2026-11-20T19:02:11Z") > data.size:
        return 0.0, UNSURE
    year, month, day = 100 * _two(data, at) + _two(data, at + 2), _two(data, at + 5), _two(data, at + 8)
    hour, minute, second = _two(data, at + 11), _two(data, at + 14), _two(data, at + 17)
    marked = data[at + 4] == ord("-") and data[at + 7] == ord("-") and data[at + 10] == ord("T")
    marked = marked and data[at + 13] == ord(":") and data[at + 16] == ord(":")
    if not (marked and _FIRST_YEAR <= year <= _LAST_YEAR and 1 <= month <= 12):
        return 0.0, UNSURE
    if not (1 <= day <= _DAYS[month] + int(month == 2 and year % 4 == 0)):  # 2000, the only century within these years, is a leap year
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
def _read_number(data: U8, at: int, field: int, form: Form, out: F64, row: int) -> int:
    """Write the number at `at` into the column of its field and return where it ends."""
    value, end = _number(data, at)
    if end == UNSURE or not form.low[field] <= value <= form.high[field]:
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
    names: Names,
    max_letters: float,
    out: F64,
    row: int,
    column: int,
) -> int:
    """Write the code of the name whose first letter is at `at`, below IGNORED for an unknown name, and return where it ends."""
    which = _which(data, at, names.texts, names.masks)
    if which < len(names.texts):
        out[row, column] = names.codes[which]
        return at + int(names.sizes[which])
    out[row, column] = IGNORED - at if column == KIND else 0.0
    end = _text_end(data, at)
    return end if end - at - 1 <= max_letters else UNSURE


@formula
def _read_flag(data: U8, at: int, out: F64, row: int) -> int:
    """Mark the click as one that leaves if the value at `at` is true, and return where it, true or false, ends."""
    if _which(data, at, *_TRUE) == 0:
        out[row, TARGET] = OUTBOUND
        return at + 4
    return at + 5 if _which(data, at, *_FALSE) == 0 else UNSURE


@formula
def _read_text(data: U8, at: int, field: int, form: Form, out: F64, row: int) -> int:
    """Read the text whose first letter is at `at`: an element, what marks a click that leaves, or one that is not used; return its end."""
    end = _text_end(data, at)
    if end == UNSURE or not form.low[field] <= end - at - 1 <= form.high[field]:
        return UNSURE
    if field == _ELEMENT and out[row, TARGET] != OUTBOUND:
        out[row, TARGET] = _number_of(data, at, end - 1)
    if field > _VALUE:
        leaves = end - at > 1 if field == _DOWNLOAD else _which(data, at, _NEW_TAB, _NEW_TAB_MASKS) < len(_NEW_TAB)
        out[row, TARGET] = OUTBOUND if leaves else out[row, TARGET]
    return end


@formula
def _value(data: U8, at: int, field: int, form: Form, out: F64, row: int) -> int:
    """Write the value of a field at `at` into its row and return where it ends."""
    first = _byte(data, at)
    if field == _TIMESTAMP:
        return _read_moment(data, at, out, row)
    if first == ord("n"):
        return _null_end(data, at) if field != _TYPE else UNSURE
    if _X <= field <= _VALUE:
        return _read_number(data, at, field, form, out, row)
    if first != ord('"'):
        return _read_flag(data, at, out, row) if field == _DOWNLOAD else UNSURE
    at += 1
    if field == _TYPE:
        return _read_name(data, at, form.kinds, form.high[_TYPE], out, row, KIND)
    if field == _PAGE_KIND:
        return _read_name(data, at, form.pages, form.high[_PAGE_KIND], out, row, PAGE)
    return _read_text(data, at, field, form, out, row)


@formula
def _event(data: U8, at: int, form: Form, out: F64, row: int) -> int:
    """Write the event at `at` into its row and return where it ends."""
    out[row, KIND] = out[row, PAGE] = out[row, TARGET] = 0.0
    out[row, X] = out[row, Y] = out[row, WAIT] = math.nan
    if _byte(data, at) != ord("{"):
        return UNSURE
    seen = 0
    while True:
        at = _skip(data, at + 1)
        field = _which(data, at + 1, form.keys.texts, form.keys.masks)
        if _byte(data, at) != ord('"') or field == len(form.keys.texts) or seen >> field & 1:
            return UNSURE
        seen |= 1 << field
        at = _skip(data, at + 1 + form.keys.sizes[field])
        if _byte(data, at) != ord(":"):
            return UNSURE
        at = _value(data, _skip(data, at + 1), field, form, out, row)
        if at == UNSURE:
            return UNSURE
        at = _skip(data, at)
        if _byte(data, at) == ord("}"):
            return at + 1 if seen & _NEEDED == _NEEDED else UNSURE
        if _byte(data, at) != ord(","):
            return UNSURE


@formula
def read(data: U8, form: Form, out: F64) -> int:
    """Write the events of a JSON list into `out` and return their number; UNSURE for any but the common form.

    If there are events of an unknown type, their kinds are below IGNORED, and the number is returned as `UNSURE - number`: then
    `name_unknown` must follow. data: uint8 [bytes]; out: float64 [events, kernels.sessions.timeline.WIDTH], with a row for each MIN_BYTES.
    """
    at, event, known = _skip(data, 0), 0, True
    if _byte(data, at) != ord("["):
        return UNSURE
    at = _skip(data, at + 1)
    if _byte(data, at) == ord("]"):
        return 0 if _skip(data, at + 1) == data.size else UNSURE
    while event < len(out):
        at = _event(data, at, form, out, event)
        if at == UNSURE:
            return UNSURE
        known &= out[event, KIND] >= IGNORED
        event += 1
        at = _skip(data, at)
        if _byte(data, at) == ord("]"):
            if _skip(data, at + 1) != data.size:
                return UNSURE
            return event if known else UNSURE - event
        if _byte(data, at) != ord(","):
            return UNSURE
        at = _skip(data, at + 1)
    return UNSURE


@on_cpu
def name_unknown(data: U8, out: F64, names: I64) -> int:
    """Write where the name of each unknown type begins and ends, int64 [MAX_UNKNOWN, 2]; return how many there are, at most MAX_UNKNOWN.

    data, out: those of `read`, with the events alone, whose unknown kinds become 0. Each name is written once, in the order of the events.
    """
    numbers = np.empty(len(names), np.int64)
    found = 0
    for row in range(len(out)):
        if out[row, KIND] < IGNORED:
            at = int(IGNORED - out[row, KIND])
            end = _text_end(data, at) - 1
            number = _number_of(data, at, end)
            out[row, KIND] = 0.0
            one = 0
            while one < found and numbers[one] != number:
                one += 1
            if one == found < len(names):
                numbers[found], names[found, 0], names[found, 1] = number, at, end
                found += 1
    return found
