"""The words of validation errors: msgspec names Python's types, and callers write in other languages."""

import re
import types
from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec

# In the order in which they are listed; msgspec's is alphabetical.
_WORDS = {
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "bytes": "text in Base64",
    "array": "a list",
    "object": "an object",
    "date": "an ISO 8601 date",
    "datetime": "an ISO 8601 time",
    "number out of range": "a number that is too large",
    "null": "null",
}
_MOMENT = "Expected a number or an ISO 8601 time: milliseconds since 1970-01-01 UTC, or such as 2026-01-31T09:30:00Z"
_TIME = "Expected an ISO 8601 time with a zone, such as 2026-01-31T09:30:00Z"
_TYPES = re.compile(r"`([^`]*)`")
# msgspec's messages that are more than types and bounds.
_REWORDED = (
    (re.compile(r"Invalid RFC3339 encoded datetime|Expected `datetime` with a timezone component"), _TIME),
    (re.compile(r"Invalid RFC3339 encoded date"), "Expected an ISO 8601 date, such as 2026-01-31"),
    (re.compile(r"Object missing required field `(.*)`"), r"Required field \1 is missing"),
    (re.compile(r"Invalid enum value (.*)"), r"Invalid value \1"),
    (re.compile(r"(.*) matching regex (.*)"), r"\1 that matches the pattern \2"),
    (re.compile(r"(.*)(>=|<=|<|>) (-?\d+)\.0"), r"\1\2 \3"),
)
# Units in which a moment may have been sent in place of milliseconds, and their number in a millisecond.
_UNITS = (("seconds", 1e-3), ("microseconds", 1e3), ("nanoseconds", 1e6))
MAX_VALUES = 20  # of a field with few values that are listed


def worded(detail: str) -> str:
    """Return an error of msgspec in words of JSON."""
    for pattern, words in _REWORDED:
        detail = pattern.sub(words, detail)
    return _TYPES.sub(lambda found: _words(found[1]), detail)


def worded_for(kind: Any, value: Any, detail: str) -> str:
    """Return the error that msgspec has for a value of a field of this type, with what the type expects in its place."""
    allowed = list(_alternatives(kind))
    if datetime in allowed and (float in allowed or int in allowed):
        return f"{_MOMENT}; {_got(kind, value, detail)}"
    if datetime in allowed:
        return f"{_TIME}; {_got(kind, value, detail)}"
    values = [value for each in allowed if get_origin(each) is Literal for value in get_args(each)]
    if values and detail.startswith("Invalid enum value"):
        listed = ", ".join(str(value) for value in values[:MAX_VALUES])
        more = f" or {len(values) - MAX_VALUES} others" if len(values) > MAX_VALUES else ""
        return f"{worded(detail)}; expected one of {listed}{more}"
    return worded(detail)


def _got(kind: Any, value: Any, detail: str) -> str:
    """Return what was sent in place of a moment, and the unit that it seems to have."""
    if isinstance(value, str):
        return "got a time without a zone" if "timezone" in detail else "got text that is no such time"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"got {_name(value)}"
    for unit, per_ms in _UNITS:
        moment = value / per_ms
        if _accepts(kind, moment):
            return f"got {value}, which reads as {unit} since 1970: send {moment:.0f}"
    return f"got {value}, which is out of range"


def _accepts(kind: Any, value: Any) -> bool:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return False
    return True


def _name(value: Any) -> str:
    """Return the JSON type of a value in words."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return _WORDS["bool"]
    if isinstance(value, list):
        return _WORDS["array"]
    return _WORDS["object"] if isinstance(value, dict) else _WORDS["number out of range"]


def _alternatives(kind: Any) -> Iterator[Any]:
    """Yield the types of a union, without their constraints."""
    origin = get_origin(kind)
    if origin is Annotated:
        yield from _alternatives(get_args(kind)[0])
    elif origin in (Union, types.UnionType):
        for each in get_args(kind):
            yield from _alternatives(each)
    else:
        yield kind


def _words(names: str) -> str:
    """Return msgspec's `a | b | c` in words."""
    found = names.split(" | ")
    words = [word for name, word in _WORDS.items() if name in found] + [name for name in found if name not in _WORDS]
    return " or ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else words[0]
