"""Interactions of many requests as flat event columns, in order of time, up to a moment of each request."""

import math
from collections.abc import Sequence
from datetime import datetime
from itertools import accumulate
from typing import NamedTuple

import numpy as np

from kernels.sessions import timeline
from kernels.sessions.timeline import IGNORED, KIND, MOMENT, PAGE, WAIT, X, Y
from kernels.types import F64
from serving.engines.types import InteractionEvent, epoch_ms
from training.features import EVENT_CODES, PAGE_CODES, Events


class _EventCodes(dict[str | None, int]):
    """Codes by name; 0 (unknown) for every other name."""

    def __missing__(self, name: str | None) -> int:
        return 0


KIND_CODES = {**EVENT_CODES, "purchase": IGNORED}  # a purchase in the session would be the answer itself

_kind_of = _EventCodes(KIND_CODES).__getitem__
_page_of = _EventCodes(PAGE_CODES.items()).__getitem__


class FlatEvents(NamedTuple):
    """The events of all sessions; `latest_ms[i]`: the time of session i's last event, in milliseconds since 1970, NaN without events."""

    events: Events
    latest_ms: list[float]


def flatten(sessions: Sequence[Sequence[InteractionEvent] | F64], until_ms: Sequence[float]) -> FlatEvents:
    """Return the sessions' events in flat columns, of session i those up to `until_ms[i]` (NaN: all).

    Events of one session are sorted by time, equal times in the order given; `purchase` events are left out.
    """
    tables = [session if isinstance(session, np.ndarray) else rows(session) for session in sessions]
    if not any(map(len, tables)):
        return FlatEvents(Events.none(len(sessions)), [math.nan] * len(sessions))
    offsets = np.array(list(accumulate(map(len, tables), initial=0)), np.int64)
    table = tables[0] if len(tables) == 1 else np.concatenate(tables)
    size = len(table)
    kind, page, time_ms = np.empty(size, np.int8), np.empty(size, np.int8), np.empty(size, np.int64)
    x, y, wait_ms = np.empty(size, np.float32), np.empty(size, np.float32), np.empty(size, np.float32)
    kept, latest_ms = np.empty(len(offsets), np.int64), np.empty(len(tables))
    timeline.columns(table, offsets, np.array(until_ms, np.float64), kept, kind, page, time_ms, x, y, wait_ms, latest_ms)
    return FlatEvents(Events(kept, kind, page, time_ms, x, y, wait_ms), latest_ms.tolist())


def moments(events: Sequence[InteractionEvent] | F64) -> list[datetime | float]:
    """Return the timestamps of the events as given; none for rows, whose timestamps are checked when they are parsed."""
    return [] if isinstance(events, np.ndarray) else [event.timestamp for event in events]


def rows(events: Sequence[InteractionEvent]) -> F64:
    """Return events as rows, float64 [events, kernels.sessions.timeline.WIDTH]."""
    table = np.empty((len(events), timeline.WIDTH))
    # One attribute of all events after the other: a Struct attribute costs 25 ns, a function call for each event ten times that.
    table[:, MOMENT] = [epoch_ms(event.timestamp) for event in events]
    table[:, KIND] = list(map(_kind_of, [event.type for event in events]))
    table[:, PAGE] = list(map(_page_of, [event.page_kind for event in events]))
    for column, values in (
        (X, [event.x for event in events]),
        (Y, [event.y for event in events]),
        (WAIT, [event.wait_ms for event in events]),
    ):
        table[:, column] = [math.nan if value is None else value for value in values]
    return table
