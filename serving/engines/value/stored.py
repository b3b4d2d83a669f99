"""Stored customers: how a request without a summary is completed from the feature store."""

import msgspec
import numpy as np

from serving.engines.lookup import Lookup, Stored
from serving.engines.types import from_epoch_ms
from serving.engines.value.types import CustomerValueRequest, StoredSummary
from serving.errors import NotFoundError
from training.tables.summaries import DAYS_A_WEEK, NAMES


def key(request: CustomerValueRequest) -> str | None:
    """Return the customer to read from the feature store, None for a request with a summary."""
    return request.customer_id if request.summary is None else None


def fill(request: CustomerValueRequest, stored: Stored | None) -> CustomerValueRequest:
    """Return the request with the stored summary. Raises NotFoundError where none is stored and no prior is allowed."""
    if stored is None:
        if request.allow_prior:
            return request
        raise NotFoundError(
            f"no customer {request.customer_id!r} is stored: publish the base with `revenue-engine batch value --publish`, "
            "send `summary`, or set allowPrior for the value of a new customer"
        )
    frequency, recency, age, repeats, mean, total = vector = tuple(stored.vector.tolist())
    summary = StoredSummary(
        frequency=frequency,
        recency_days=recency * DAYS_A_WEEK,
        age_days=age * DAYS_A_WEEK,
        mean_spend=None if np.isnan(mean) else mean,
        repeats_with_spend=repeats,
        current_value=total,
        vector=vector,
    )
    return msgspec.structs.replace(request, summary=summary, as_of=from_epoch_ms(stored.as_of_s * 1000))


LOOKUP = Lookup("customer-value", NAMES, key, fill, entity="customerId", as_of="asOf")
