"""The events of sessions on their way to the model: until when they count, which of them are steps, and what friction they hold."""

import math
from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
import xxhash

from kernels.sessions import friction
from kernels.sessions.friction import COUNTED, DEFAULTS, KINDS
from kernels.types import I32
from serving.engines.journey.state import Seen, Trace
from serving.engines.journey.types import JourneyEvent
from serving.engines.types import epoch_ms
from training.tables import journeys

ANSWERS = ("search", "add_to_cart", "remove_from_cart", "checkout", "purchase")  # types that show that a click was on_answers
_KIND = {
    **{name: code for code, name in enumerate(KINDS)},
    **dict.fromkeys(journeys.SHOW, friction.PAGE),
    **dict.fromkeys(ANSWERS, friction.CHANGE),
}
_BITS = (1 << 63) - 1


class Session(NamedTuple):
    """The events of a session up to a moment: when each was (milliseconds since 1970), of which kind, and what may be steps of them."""

    events: list[JourneyEvent]
    moments: list[float]
    kinds: list[int]
    seen: list[Seen]

    @classmethod
    def until(cls, events: Sequence[JourneyEvent], until_ms: float) -> "Session":
        """Return the events that are not later than `until_ms`, in their order."""
        timed = [(event, stamp) for event in events if (stamp := epoch_ms(event.timestamp)) <= until_ms]
        steps = ((*journeys.step(event.type, event.page), stamp) for event, stamp in timed)
        return cls(
            [event for event, _ in timed],
            [stamp for _, stamp in timed],
            [_KIND.get(event.type, friction.UNKNOWN) for event, _ in timed],
            [Seen(name, stamp) for possible, name, stamp in steps if possible],
        )


_NO_EVENT = Session([], [], [], [])


def steps(seen: Sequence[Seen], known: Collection[str]) -> list[Seen]:
    """Return what are steps to a model that knows these: every page, and what it knows of what else was done."""
    return [one for one in seen if journeys.is_step(one.name, known)]


def gone_on(trace: Trace, session: Session, sent: int) -> Trace:
    """Return what is known of a session after the events of a request, of which `sent` came."""
    ints, reals = trace.ints.copy(), trace.reals.copy()
    for event, kind, stamp in zip(session.events, session.kinds, session.moments, strict=True):
        x, y, wait = (math.nan if value is None else value for value in (event.x, event.y, event.wait_ms))
        friction.update(kind, int(stamp), x, y, _hash(event.element_id), _hash(event.url or event.page), wait, DEFAULTS, ints, reals)
    return trace._replace(events=trace.events + sent, seen=[*trace.seen, *session.seen], ints=ints, reals=reals)


def waiting(trace: Trace, events: Sequence[JourneyEvent], until_ms: float) -> Trace | None:
    """Return what is to be remembered where an event is later than `until_ms`: it and those after it are pending. None where none is."""
    first = next((place for place, event in enumerate(events) if epoch_ms(event.timestamp) > until_ms), None)
    if first is None:
        return None
    known = gone_on(trace, Session.until(events[:first], until_ms), len(events))
    return known._replace(version="", pending=events[first:])


def counted(sessions: Sequence[Session], traces: Sequence[Trace | None]) -> I32:
    """Return the friction counts of sessions, int32 [sessions, 2 counted] (`kernels.sessions.friction`); a trace keeps its own."""
    fresh = [session if trace is None else _NO_EVENT for session, trace in zip(sessions, traces, strict=True)]
    offsets = np.cumsum([0, *(len(session.events) for session in fresh)]).astype(np.int64)
    events = [event for session in fresh for event in session.events]
    out = np.empty((len(fresh), 2 * len(COUNTED)), np.int32)
    place = [(event.x, event.y, event.wait_ms) for event in events]
    x, y, wait = np.array(place, np.float32).reshape(-1, 3).T.copy() if place else np.empty((3, 0), np.float32)
    friction.friction(
        offsets,
        np.array([kind for session in fresh for kind in session.kinds], np.int8),
        np.array([moment for session in fresh for moment in session.moments], np.int64),
        x,
        y,
        np.array([_hash(event.element_id) for event in events], np.int64),
        np.array([_hash(event.url or event.page) for event in events], np.int64),
        wait,
        DEFAULTS,
        out,
    )
    for row, trace in enumerate(traces):
        if trace is not None:
            out[row] = trace.ints[friction.COUNTS : friction.COUNTS + out.shape[1]]
    return out


def _hash(text: str | None) -> int:
    return 0 if not text else xxhash.xxh3_64_intdigest(text.encode()) & _BITS or 1
