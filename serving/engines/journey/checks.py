"""Which journey requests are refused."""

from datetime import datetime

from serving.engines.consent import profiling_problems
from serving.engines.journey.types import MAX_EVENTS, JourneyRequest
from serving.engines.types import any_invalid_moment, invalid_moment, is_valid_moment
from serving.errors import FieldProblem, InvalidRequestError, TooLargeError

MAX_ATTRIBUTE = 1e12  # of its absolute value


def check(request: JourneyRequest) -> None:
    """Raise InvalidRequestError for what types cannot express, TooLargeError above MAX_EVENTS."""
    events = request.events
    if len(events) > MAX_EVENTS:
        raise TooLargeError(f"events has {len(events):,} events, at most {MAX_EVENTS:,} are accepted; send the latest ones", "events")
    stamps: list[datetime | float] = [event.timestamp for event in events]
    wrong = list[FieldProblem]()
    if any_invalid_moment(stamps):
        wrong += [invalid_moment(f"events[{i}].timestamp") for i, stamp in enumerate(stamps) if not is_valid_moment(stamp)]
    if request.as_of is not None and not is_valid_moment(request.as_of):
        wrong.append(invalid_moment("asOf"))
    wrong += profiling_problems(request.customer_id, request.consent)
    wrong += [invalid_moment(f"contacts[{i}].at") for i, contact in enumerate(request.contacts or ()) if not is_valid_moment(contact.at)]
    if any(value is not None and not -MAX_ATTRIBUTE <= value <= MAX_ATTRIBUTE for value in (request.attributes or {}).values()):
        wrong.append(FieldProblem("attributes", f"expected numbers from {-MAX_ATTRIBUTE:g} to {MAX_ATTRIBUTE:g}"))
    if wrong:
        raise InvalidRequestError(wrong)
