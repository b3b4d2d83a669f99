"""Which value requests are refused."""

from serving.engines.types import invalid_moment, is_valid_moment
from serving.engines.value.types import CustomerSummary, CustomerValueRequest
from serving.errors import FieldProblem, InvalidRequestError


def check(request: CustomerValueRequest) -> None:
    """Raise InvalidRequestError for what types cannot express."""
    wrong = [invalid_moment("asOf")] if request.as_of is not None and not is_valid_moment(request.as_of) else []
    if request.summary is not None:
        wrong += _problems(request.summary)
    if wrong:
        raise InvalidRequestError(wrong)


def _problems(summary: CustomerSummary) -> list[FieldProblem]:
    """Return the contradictions in a summary."""
    wrong = []
    if summary.recency_days > summary.age_days:
        wrong.append(FieldProblem("summary.recencyDays", f"is {summary.recency_days:g}, more than ageDays, {summary.age_days:g}"))
    if (summary.frequency == 0) != (summary.recency_days == 0):
        wrong.append(FieldProblem("summary.recencyDays", "must be 0 if and only if frequency is 0: a repeat purchase is on a later day"))
    if summary.frequency > summary.recency_days:
        wrong.append(FieldProblem("summary.frequency", "is more than recencyDays: purchases of one day count as one"))
    if summary.repeats_with_spend is not None and summary.repeats_with_spend > summary.frequency:
        wrong.append(FieldProblem("summary.repeatsWithSpend", "is more than frequency"))
    return wrong
