"""Interactions of many requests as flat event columns, in order of time, as of one moment."""

import math
from array import array
from collections.abc import Sequence
from datetime import datetime
from itertools import accumulate, chain, pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from serving.engines.types import InteractionEvent
from training.features import EVENT_CODES, PAGE_CODES, Events

_IGNORED = -1


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
    events = list(chain.from_iterable(sessions))
    if not events:
        return Flat(Events.none(len(sessions)), [math.nan] * len(sessions))
    # One attribute of all events after the other: a struct's attribute costs 25 ns, a call for each event ten times that.
    ms = _milliseconds([event.timestamp for event in events])
    kind = np.array(list(map(_kind_of, [event.type for event in events])), np.int8)
    offsets = np.array(list(accumulate(map(len, sessions), initial=0)), np.int64)
    columns: tuple[NDArray[Any], ...] = (
        kind,
        np.array(list(map(_page_of, [event.page_kind for event in events])), np.int8),
        np.rint(ms).astype(np.int64),
        _floats([event.x for event in events]),
        _floats([event.y for event in events]),
        _floats([event.wait_ms for event in events]),
    )
    kept = _kept(offsets, kind, ms, until_ms)
    if kept is not None:
        order, offsets = kept
        ms = ms[order]
        columns = tuple(column[order] for column in columns)
    return Flat(Events(offsets, *columns), _latest(offsets, ms))


def _milliseconds(stamps: list[datetime | float]) -> NDArray[np.float64]:
    """Return the moments in milliseconds since 1970."""
    return np.array([stamp if type(stamp) is float else stamp.timestamp() * 1000.0 for stamp in stamps])  # type: ignore[union-attr]


def _floats(values: list[float | None]) -> NDArray[np.float32]:
    return np.frombuffer(array("f", [math.nan if value is None else value for value in values]), np.float32)


def _kept(
    offsets: NDArray[np.int64], kind: NDArray[np.int8], ms: NDArray[np.float64], until_ms: Sequence[float]
) -> tuple[NDArray[np.intp], NDArray[np.int64]] | None:
    """Return which events count, in order, and where each session's begin; None when all do and are in order as they came."""
    sessions = len(until_ms)
    unordered = ms[1:] < ms[:-1]
    unordered[offsets[1:-1][(offsets[1:-1] > 0) & (offsets[1:-1] < len(ms))] - 1] = False  # the next one is another session's
    asked = any(until == until for until in until_ms)
    if not asked and kind.min() != _IGNORED and not unordered.any():
        return None
    session = np.repeat(np.arange(sessions), np.diff(offsets))
    counts = ~(ms > np.array(until_ms)[session]) & (kind != _IGNORED)
    order = np.flatnonzero(counts)
    order = order[np.lexsort((ms[order], session[order]))]
    sizes = np.bincount(session[order], minlength=sessions)
    return order, np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)


def _latest(offsets: NDArray[np.int64], ms: NDArray[np.float64]) -> list[float]:
    ends = offsets.tolist()
    return [float(ms[end - 1]) if end > start else math.nan for start, end in pairwise(ends)]
