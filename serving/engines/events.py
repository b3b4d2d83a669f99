"""Interactions of many requests as flat event columns, in order of time, as of one moment."""

import math
from array import array
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np
from msgspec.structs import astuple

from serving.engines.types import InteractionEvent
from training.features import EVENT_CODES, PAGE_CODES, Events

_IGNORED = -1
_TIME = 2


class _Codes(dict[str | None, int]):
    """Codes by name; 0, unknown, for every other name."""

    def __missing__(self, name: str | None) -> int:
        return 0


# A purchase in the session would be the answer itself.
_kind_of = _Codes({**EVENT_CODES, "purchase": _IGNORED}).__getitem__
_page_of = _Codes(PAGE_CODES.items()).__getitem__


class Flat(NamedTuple):
    """`events` of all sessions; `latest_ms[i]`: when session i's last event was, in milliseconds since 1970, NaN without events."""

    events: Events
    latest_ms: list[float]


def flatten(sessions: Sequence[Sequence[InteractionEvent]], until_ms: Sequence[float]) -> Flat:
    """Return the sessions' events in flat columns; session i is seen as of `until_ms[i]` (NaN: all of it): what is later is not known yet.

    Events of one session are put in order of time, equal times in the order given; `purchase` events are left out.
    """
    buffers: tuple[array[Any], ...] = (array("b"), array("b"), array("d"), array("f"), array("f"), array("f"))
    offsets, latest_ms = [0], []
    for events, until in zip(sessions, until_ms, strict=True):
        latest = math.nan
        if events:
            columns = _session(events, until)
            for buffer, column in zip(buffers, columns, strict=True):
                buffer.extend(column)
            latest = columns[_TIME][-1] if columns[_TIME] else math.nan
        latest_ms.append(latest)
        offsets.append(len(buffers[0]))
    return Flat(_events(offsets, *buffers), latest_ms)


def _session(events: Sequence[InteractionEvent], until: float) -> tuple[list[Any], ...]:
    """Return kind, page, time, x, y and wait of the events of one session that count, in order of time."""
    # Fields in the order of InteractionEvent; for the few events of one request astuple is the fastest way to read them.
    types, stamps, pages, _, _, _, x, y, wait, _ = zip(*map(astuple, events), strict=True)
    time = [at.timestamp() * 1000.0 if isinstance(at, datetime) else at for at in stamps]
    kind = list(map(_kind_of, types))
    columns = kind, list(map(_page_of, pages)), time, _floats(x), _floats(y), _floats(wait)
    if _IGNORED in kind or time != sorted(time) or time[-1] > until:
        kept = [i for i in range(len(kind)) if kind[i] != _IGNORED and not time[i] > until]
        kept.sort(key=time.__getitem__)
        return tuple([column[i] for i in kept] for column in columns)
    return columns


def _floats(values: Sequence[float | None]) -> list[float]:
    return [math.nan if value is None else value for value in values]


def _events(
    offsets: list[int],
    kind: "array[int]",
    page: "array[int]",
    time: "array[float]",
    x: "array[float]",
    y: "array[float]",
    wait: "array[float]",
) -> Events:
    if not kind:
        return Events.none(len(offsets) - 1)
    return Events(
        offsets=np.array(offsets, np.int64),
        kind=np.frombuffer(kind, np.int8),
        page=np.frombuffer(page, np.int8),
        time_ms=np.rint(np.frombuffer(time)).astype(np.int64),
        x=np.frombuffer(x, np.float32),
        y=np.frombuffer(y, np.float32),
        wait_ms=np.frombuffer(wait, np.float32),
    )
