"""What a customer must have agreed to before something may be said of them: the purposes of a request, and the one that profiling needs."""

from collections.abc import Sequence
from typing import Annotated

from msgspec import Meta

from serving.engines.types import Name
from serving.errors import FieldProblem

PROFILING = "profiling"
MAX_PURPOSES = 32

Consent = Annotated[
    Annotated[list[Name], Meta(max_length=MAX_PURPOSES)] | None,
    Meta(description=f"The purposes that the customer has consented to: with customerId, {PROFILING} must be one of them."),
]


def lacking(customer_id: str | None, consent: Sequence[str] | None) -> list[FieldProblem]:
    """Return what is wrong where a known customer has not consented to profiling; nothing of one who is not known."""
    if customer_id is None or PROFILING in (consent or ()):
        return []
    return [FieldProblem("consent", f"must hold {PROFILING!r} for a known customer: ask for it, or leave customerId out")]
