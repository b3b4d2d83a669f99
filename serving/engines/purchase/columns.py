"""Interactions of many requests as flat event columns, in order of time, up to a moment of each request."""

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import accumulate
from typing import NamedTuple

import msgspec
import numpy as np

from kernels.sessions import timeline
from kernels.sessions.features import OUTBOUND
from kernels.sessions.json_events import MAX_UNKNOWN, element_number
from kernels.sessions.timeline import IGNORED, KIND, MOMENT, PAGE, TARGET, WAIT, X, Y
from kernels.types import F64
from serving.engines.types import InteractionEvent, epoch_ms, is_outbound
from training.event_names import SAME_AS
from training.features import EVENT_CODES, PAGE_CODES, Events


class _EventCodes(dict[str | None, int]):
    """Codes by name; 0 (unknown) for every other name."""

    def __missing__(self, name: str | None) -> int:
        return 0


_OWN_CODES = {**EVENT_CODES, "purchase": IGNORED}  # a purchase in the session would be the answer itself
KIND_CODES: Mapping[str, int] = {**_OWN_CODES, **{name: _OWN_CODES[same] for name, same in SAME_AS.items()}}

_kind_of = _EventCodes(KIND_CODES).__getitem__
_page_of = _EventCodes(PAGE_CODES.items()).__getitem__


class EventTable(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The interactions of a request: float64 [events, kernels.sessions.timeline.WIDTH], and the types among them that are not known."""

    rows: F64
    unknown: Sequence[str] = ()

    def __len__(self) -> int:
        """Return the number of events."""
        return len(self.rows)


class FlatEvents(NamedTuple):
    """The events of all sessions; `latest_ms[i]`: the time of session i's last event, in milliseconds since 1970, NaN without events."""

    events: Events
    latest_ms: list[float]


def flatten(sessions: Sequence[Sequence[InteractionEvent] | EventTable], until_ms: Sequence[float]) -> FlatEvents:
    """Return the sessions' events in flat columns, of session i those up to `until_ms[i]` (NaN: all).

    Events of one session are sorted by time, equal times in the order given; `purchase` events are left out.
    """
    tables = [session.rows if isinstance(session, EventTable) else read(session).rows for session in sessions]
    if not any(map(len, tables)):
        return FlatEvents(Events.none(len(sessions)), [math.nan] * len(sessions))
    offsets = np.array(list(accumulate(map(len, tables), initial=0)), np.int64)
    table = tables[0] if len(tables) == 1 else np.concatenate(tables)
    size = len(table)
    kind, page, time_ms = np.empty(size, np.int8), np.empty(size, np.int8), np.empty(size, np.int64)
    x, y, wait_ms = np.empty(size, np.float32), np.empty(size, np.float32), np.empty(size, np.float32)
    target = np.empty(size, np.int64)
    kept, latest_ms = np.empty(len(offsets), np.int64), np.empty(len(tables))
    timeline.columns(table, offsets, np.array(until_ms, np.float64), kept, kind, page, time_ms, x, y, target, wait_ms, latest_ms)
    return FlatEvents(Events(kept, kind, page, time_ms, x, y, target, wait_ms), latest_ms.tolist())


def moments(events: Sequence[InteractionEvent] | EventTable) -> list[datetime | float]:
    """Return the timestamps of the events as given; none for a table, whose timestamps are checked when they are parsed."""
    return [] if isinstance(events, EventTable) else [event.timestamp for event in events]


def read(events: Sequence[InteractionEvent]) -> EventTable:
    """Return events as a table."""
    table = np.empty((len(events), timeline.WIDTH))
    # One attribute of all events after the other: a Struct attribute costs 25 ns, a function call for each event ten times that.
    table[:, MOMENT] = [epoch_ms(event.timestamp) for event in events]
    types = [event.type for event in events]
    table[:, KIND] = list(map(_kind_of, types))
    table[:, PAGE] = list(map(_page_of, [event.page_kind for event in events]))
    for column, values in (
        (X, [event.x for event in events]),
        (Y, [event.y for event in events]),
        (WAIT, [event.wait_ms for event in events]),
    ):
        table[:, column] = [math.nan if value is None else value for value in values]
    elements = [event.element_id for event in events]
    numbers = {name: element_number(np.frombuffer(name.encode(), np.uint8)) if name else 0 for name in set(elements)}
    table[:, TARGET] = [OUTBOUND if is_outbound(event) else numbers[name] for event, name in zip(events, elements, strict=True)]
    return EventTable(table, [name for name in dict.fromkeys(types) if name not in KIND_CODES][:MAX_UNKNOWN])
