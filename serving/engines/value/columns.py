"""Value requests as columns: what is known of each customer, and the horizon and discount rate of each."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from serving.engines.types import Degradation, epoch_ms
from serving.engines.value.types import Basis, CustomerSummary, CustomerValueRequest, StoredSummary
from training.models.value.defaults import DISCOUNT, HORIZON_DAYS
from training.tables.summaries import DAYS_A_WEEK, NAMES, Summaries


class ValueTerms(NamedTuple):
    """The horizon in days, and the yearly discount rate."""

    days: float
    rate: float


DEFAULT_TERMS = ValueTerms(HORIZON_DAYS, DISCOUNT)


class ValueColumns(NamedTuple):
    """Requests as columns, [n]: summaries, terms, customer ids, moments (milliseconds since 1970), and the source of each summary.

    left_out: numbers of a table's rows that are part of no customer, by reason; None of requests.
    """

    known: Summaries
    terms: Sequence[ValueTerms]
    customers: Sequence[str]
    as_of_ms: Sequence[float]
    basis: Sequence[Basis]
    degradation: Degradation = "none"
    left_out: Mapping[str, int] | None = None


def columns(requests: Sequence[CustomerValueRequest], now_ms: float) -> ValueColumns:
    """Return the requests as columns; now_ms: the moment of requests without asOf."""
    rows = [_summary_row(request.summary) for request in requests]
    known = np.array([row for row, _ in rows], np.float64).reshape(len(rows), len(NAMES))
    return ValueColumns(
        Summaries(*np.ascontiguousarray(known.T)),
        [_terms(request) for request in requests],
        [request.customer_id for request in requests],
        [now_ms if request.as_of is None else epoch_ms(request.as_of) for request in requests],
        [basis for _, basis in rows],
    )


def _terms(request: CustomerValueRequest) -> ValueTerms:
    return ValueTerms(
        HORIZON_DAYS if request.prediction_horizon is None else request.prediction_horizon,
        DISCOUNT if request.discount_rate is None else request.discount_rate,
    )


def _summary_row(summary: CustomerSummary | None) -> tuple[Sequence[float], Basis]:
    """Return a customer's row of Summaries, and its source."""
    if isinstance(summary, StoredSummary):
        return summary.vector, "stored"
    if summary is None:
        return [float(column[0]) for column in Summaries.new()], "prior"
    mean, repeats = summary.mean_spend, summary.repeats_with_spend
    with_spend = 0.0 if not mean else summary.frequency if repeats is None else repeats
    total = (np.nan if mean is None else (1 + summary.frequency) * mean) if summary.current_value is None else summary.current_value
    weeks = summary.recency_days / DAYS_A_WEEK, summary.age_days / DAYS_A_WEEK
    return [summary.frequency, *weeks, with_spend, mean if with_spend and mean else np.nan, total], "request"
