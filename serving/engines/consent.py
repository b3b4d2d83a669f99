"""Consent: the purposes that a customer has agreed to, and the check that profiling is one of them."""

from collections.abc import Sequence
from typing import Annotated

from msgspec import Meta

from serving.engines.types import Name
from serving.errors import FieldProblem

PROFILING = "profiling"
MAX_PURPOSES = 32

Purposes = Annotated[list[Name], Meta(max_length=MAX_PURPOSES)]
Consent = Annotated[
    Purposes | None,
    Meta(description=f"The purposes that the customer has consented to: with customerId, {PROFILING} must be one of them."),
]


def profiling_problems(customer_id: str | None, consent: Sequence[str] | None) -> list[FieldProblem]:
    """Return a problem where a known customer has not consented to profiling; none for an unknown customer."""
    if customer_id is None or PROFILING in (consent or ()):
        return []
    return [FieldProblem("consent", f"must contain {PROFILING!r} for a known customer: obtain it, or leave customerId out")]
