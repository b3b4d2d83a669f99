"""How a session goes on from one request to the next: which is remembered, and how a request looks with what is."""

from typing import Any

from serving.engines.journey.state import Trace
from serving.engines.journey.types import MAX_ATTRIBUTES, MAX_EVENTS, JourneyRequest
from serving.engines.session_memory import SessionMemory
from serving.errors import FieldProblem, InvalidRequestError, TooLargeError

KEEP_S = 3600.0  # of what is remembered, after the last request: twice the pause that ends a session


class Continued(JourneyRequest, frozen=True, kw_only=True):
    """A request whose events go on from those that are remembered; never decoded from JSON."""

    trace: Any


def session_key(request: JourneyRequest) -> str | None:
    """Return the session that is remembered, None where nothing is."""
    return request.session_id if request.remember or request.events_before else None


def continued(request: JourneyRequest, content: bytes | None) -> JourneyRequest:
    """Return the request with what is remembered of its session: attributes that it does not give, and events that were later than it.

    Events that are known already, since it was sent twice, are left out.

    Raises InvalidRequestError where less is remembered than the request goes on from, TooLargeError where it comes to too much.
    """
    trace, before = None if content is None else Trace.read(content), int(request.events_before or 0)
    known = 0 if trace is None else trace.events
    if trace is None or known < before:
        told = f"{known} events of this session are remembered, not {before}: send all after those, with eventsBefore {known}"
        raise InvalidRequestError([FieldProblem("eventsBefore", told)])
    events = request.events[known - before :]
    if known + len(events) > MAX_EVENTS:
        raise TooLargeError(
            f"the session has {known + len(events):,} events, at most {MAX_EVENTS:,} are remembered; begin it anew", "events"
        )
    attributes = {**trace.attributes, **attributes_of(request)}
    if len(attributes) > MAX_ATTRIBUTES:
        told = f"with those that are remembered there are {len(attributes)}, at most {MAX_ATTRIBUTES} are taken"
        raise InvalidRequestError([FieldProblem("attributes", told)])
    fields = {name: getattr(request, name) for name in request.__struct_fields__}
    events = [*trace.pending, *events]
    trace = trace._replace(events=known - len(trace.pending), pending=())
    return Continued(**{**fields, "events": events, "attributes": attributes, "trace": trace})


def attributes_of(request: JourneyRequest) -> dict[str, float]:
    """Return the attributes that a request says something of."""
    return {name: value for name, value in (request.attributes or {}).items() if value is not None}


MEMORY = SessionMemory(
    "session",
    session_key,
    reads=lambda request: bool(request.events_before),
    filled=continued,
    kept=lambda scorer, requests, answers: scorer.kept(requests, answers),
    keep_s=KEEP_S,
    field="remember",
)
