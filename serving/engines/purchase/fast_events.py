"""The interactions of a request, parsed from JSON by compiled code into rows of `kernels.sessions.timeline`.

`kernels.sessions.json_events` parses the common form only, with the names and bounds of `InteractionEvent`. Any other JSON, valid or not,
is left to msgspec, which decodes or refuses it.
"""

import math

import numpy as np
from msgspec import inspect

from kernels.compile import on_cpu
from kernels.sessions import json_events
from kernels.sessions.json_events import FIELDS, MAX_UNKNOWN, MIN_BYTES, UNSURE
from kernels.sessions.timeline import WIDTH
from kernels.types import F64, U8
from serving.engines.purchase.columns import KIND_CODES, EventTable
from serving.engines.types import InteractionEvent
from training.features import PAGE_CODES


def read(raw: bytes | memoryview) -> EventTable | None:
    """Return the events of a JSON list; None for any but the common form."""
    data = np.frombuffer(raw, np.uint8)
    out = np.empty((len(data) // MIN_BYTES + 1, WIDTH))
    events = _read(data, out)
    if events >= 0:
        return EventTable(out[:events])
    return None if events == UNSURE else _with_unknown(data, out[: UNSURE - events])


def _with_unknown(data: U8, rows: F64) -> EventTable:
    """Return the events, and the names of the unknown types among them."""
    places = np.empty((MAX_UNKNOWN, 2), np.int64)
    found = json_events.name_unknown(data, rows, places)
    return EventTable(rows, [data[begin:end].tobytes().decode() for begin, end in places[:found].tolist()])


def _members(kind: inspect.Type) -> list[inspect.Type]:
    """Return the types of a field: the members of a union, without their metadata."""
    if isinstance(kind, inspect.Metadata):
        return _members(kind.type)
    return [one for each in kind.types for one in _members(each)] if isinstance(kind, inspect.UnionType) else [kind]


def _bounds(kind: inspect.Type) -> tuple[float, float]:
    """Return the bounds of a field's type, (min, max): of a text its number of letters, else of the number itself."""
    for one in _members(kind):
        if isinstance(one, inspect.StrType):
            return one.min_length or 0, math.inf if one.max_length is None else one.max_length
        if isinstance(one, inspect.FloatType):
            return -math.inf if one.ge is None else one.ge, math.inf if one.le is None else one.le
    raise TypeError(f"{kind} is neither a text nor a number; this is a bug")


_types = {field.encode_name: field.type for field in inspect.type_info(InteractionEvent).fields}  # type: ignore[attr-defined]  # of a Struct
assert set(_types) == set(FIELDS), f"the fields of an event, {', '.join(_types)}, are not those that are parsed; this is a bug"
_FORM = json_events.form(KIND_CODES, dict(PAGE_CODES), {name: _bounds(kind) for name, kind in _types.items()})


@on_cpu
def _read(data: U8, out: F64) -> int:
    """Parse with the form as a constant: passed as an argument, it would cost a microsecond in each call."""
    return json_events.read(data, _FORM, out)
