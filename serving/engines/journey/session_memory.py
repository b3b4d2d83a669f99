"""Session memory of the journey question: which sessions are remembered, and how a request resumes one."""

from typing import Any

from serving.engines.journey.session_state import SessionState
from serving.engines.journey.types import MAX_ATTRIBUTES, MAX_EVENTS, JourneyRequest
from serving.engines.session_memory import SessionMemory
from serving.errors import FieldProblem, InvalidRequestError, TooLargeError

KEEP_S = 3600.0  # after the last request: twice the pause that ends a session


class ResumedRequest(JourneyRequest, frozen=True, kw_only=True):
    """A request whose events follow those of a stored SessionState; never decoded from JSON."""

    state: Any


def session_key(request: JourneyRequest) -> str | None:
    """Return the session whose state is read or written, None where the request needs neither."""
    return request.session_id if request.remember or request.events_before else None


def resume(request: JourneyRequest, content: bytes | None) -> JourneyRequest:
    """Return the request combined with the stored state: with the attributes that it does not give, and with pending events.

    Events that were received before, because a request was sent twice, are left out.

    Raises InvalidRequestError where fewer events are stored than the request states, TooLargeError where there are too many in all.
    """
    state, before = None if content is None else SessionState.unpack(content), int(request.events_before or 0)
    known = 0 if state is None else state.events
    if state is None or known < before:
        fix = f"{known} events of this session are remembered, not {before}: send all after those, with eventsBefore {known}"
        raise InvalidRequestError([FieldProblem("eventsBefore", fix)])
    events = request.events[known - before :]
    if known + len(events) > MAX_EVENTS:
        raise TooLargeError(
            f"the session has {known + len(events):,} events, at most {MAX_EVENTS:,} are remembered; start a new session", "events"
        )
    attributes = {**state.attributes, **attributes_of(request)}
    if len(attributes) > MAX_ATTRIBUTES:
        limit = f"together with the remembered ones there are {len(attributes)}, at most {MAX_ATTRIBUTES} are accepted; send fewer"
        raise InvalidRequestError([FieldProblem("attributes", limit)])
    fields = {name: getattr(request, name) for name in request.__struct_fields__}
    events = [*state.pending, *events]
    state = state._replace(events=known - len(state.pending), pending=())
    return ResumedRequest(**{**fields, "events": events, "attributes": attributes, "state": state})


def attributes_of(request: JourneyRequest) -> dict[str, float]:
    """Return the attributes of a request that are not null."""
    return {name: value for name, value in (request.attributes or {}).items() if value is not None}


MEMORY = SessionMemory(
    "session",
    session_key,
    continues=lambda request: bool(request.events_before),
    resume=resume,
    snapshots=lambda scorer, requests, predictions: scorer.snapshots(requests, predictions),
    keep_s=KEEP_S,
    field="remember",
)
