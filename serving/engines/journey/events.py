"""The events of sessions on their way to the model: the moment until which they count, which of them are steps, and their friction."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import xxhash

from kernels.sessions import friction
from kernels.sessions.friction import COUNTED, DEFAULTS, KINDS
from kernels.types import I32
from serving.engines.journey.session_state import PossibleStep, SessionState
from serving.engines.journey.types import JourneyEvent
from serving.engines.types import epoch_ms, is_outbound
from training.event_names import SAME_AS
from training.tables import journeys

RESPONSES = ("search", "add_to_cart", "remove_from_cart", "checkout", "purchase")  # types of events that show that a click had an effect
KIND_CODES: Mapping[str, int] = {
    **dict.fromkeys((*RESPONSES, *SAME_AS), friction.CHANGE),
    **{name: code for code, name in enumerate(KINDS)},
    **dict.fromkeys(journeys.SHOW, friction.PAGE),
}
_BITS = (1 << 63) - 1


class SessionEvents(NamedTuple):
    """The events of a session up to a moment, with their times (milliseconds since 1970), their kinds, and those that may be steps."""

    events: list[JourneyEvent]
    moments: list[float]
    kinds: list[int]
    possible_steps: list[PossibleStep]

    @classmethod
    def until(cls, events: Sequence[JourneyEvent], until_ms: float) -> "SessionEvents":
        """Return the events that are not later than `until_ms`, in their order."""
        timed = [(event, stamp) for event in events if (stamp := epoch_ms(event.timestamp)) <= until_ms]
        steps = ((*journeys.step(event.type, event.page_kind), stamp) for event, stamp in timed)
        return cls(
            [event for event, _ in timed],
            [stamp for _, stamp in timed],
            [_kind(event) for event, _ in timed],
            [PossibleStep(name, stamp) for possible, name, stamp in steps if possible],
        )


_NO_EVENTS = SessionEvents([], [], [], [])


def known_steps(possible: Sequence[PossibleStep], known: Collection[str]) -> list[PossibleStep]:
    """Return the steps for a model with these steps: every page, and other events only if the model has them."""
    return [one for one in possible if journeys.is_step(one.name, known)]


def unknown_type(step: str | None) -> str | None:
    """Return the type of a possible step that is an event of a type without a meaning for friction, None for any other step."""
    if step is None or not step.startswith(journeys.DONE):
        return None
    kind = step.removeprefix(journeys.DONE)
    return None if kind in KIND_CODES else kind


def advance(state: SessionState, session: SessionEvents, sent: int) -> SessionState:
    """Return the state of a session after the events of a request; sent: how many events the request had."""
    ints, reals = state.ints.copy(), state.reals.copy()
    for event, kind, stamp in zip(session.events, session.kinds, session.moments, strict=True):
        x, y, wait = (math.nan if value is None else value for value in (event.x, event.y, event.wait_ms))
        friction.update(kind, int(stamp), x, y, _hash(event.element_id), _page(event), wait, DEFAULTS, ints, reals)
    return state._replace(
        events=state.events + sent, possible_steps=[*state.possible_steps, *session.possible_steps], ints=ints, reals=reals
    )


def with_pending(state: SessionState, events: Sequence[JourneyEvent], until_ms: float) -> SessionState | None:
    """Return the state to store where an event is later than `until_ms`: it and those after it are pending. None where none is later."""
    first = next((place for place, event in enumerate(events) if epoch_ms(event.timestamp) > until_ms), None)
    if first is None:
        return None
    after = advance(state, SessionEvents.until(events[:first], until_ms), len(events))
    return after._replace(version="", pending=events[first:])


def friction_counts(sessions: Sequence[SessionEvents], states: Sequence[SessionState | None]) -> I32:
    """Return the friction counts of sessions, int32 [sessions, 2 counted] (`kernels.sessions.friction`).

    states: of each session its stored state, whose counts are then used; None: the session's events are counted.
    """
    fresh = [session if state is None else _NO_EVENTS for session, state in zip(sessions, states, strict=True)]
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
        np.array([_page(event) for event in events], np.int64),
        wait,
        DEFAULTS,
        out,
    )
    for row, state in enumerate(states):
        if state is not None:
            out[row] = state.ints[friction.COUNTS : friction.COUNTS + out.shape[1]]
    return out


def _kind(event: JourneyEvent) -> int:
    kind = KIND_CODES.get(event.type, friction.UNKNOWN)
    return friction.OUTBOUND if kind == friction.CLICK and is_outbound(event) else kind


def _page(event: JourneyEvent) -> int:
    return _hash(event.page or event.page_kind)


def _hash(text: str | None) -> int:
    return 0 if not text else xxhash.xxh3_64_intdigest(text.encode()) & _BITS or 1
