"""Value drivers, risk factors and history of one customer."""

from collections.abc import Sequence
from typing import NamedTuple

from serving.engines.types import from_epoch_ms
from serving.engines.value.types import CustomerHistory, DriverName, RiskFactor, ValueDriver
from training.tables.summaries import DAYS_A_WEEK

DRIVERS: tuple[DriverName, ...] = ("probabilityAlive", "purchasesWhileActive", "spendPerPurchase")
_WEEK_MS = 7 * 86_400_000.0


class CustomerOutlook(NamedTuple):
    """The Outlook of one customer (training.models.value.model), as Python numbers; alive: NaN where unknown."""

    alive: float
    no_purchase: float
    purchases: float
    spend: float
    value: float
    low: float
    high: float

    @property
    def can_churn(self) -> bool:
        """Return whether P(alive) is known."""
        return self.alive == self.alive

    @property
    def quantities(self) -> tuple[float, float, float]:
        """Return the three quantities whose product is the value, in the order of DRIVERS; a customer who cannot churn is alive."""
        alive = self.alive if self.can_churn else 1.0
        return alive, self.value / (alive * (self.spend or 1.0)), self.spend


class CustomerPast(NamedTuple):
    """The Summaries of one customer (training.tables.summaries), as Python numbers."""

    frequency: float
    recency: float
    age: float
    spend_repeats: float
    mean_spend: float
    total: float

    @property
    def usual_days(self) -> float | None:
        """Return the average days between purchases; None before the second."""
        return self.recency * DAYS_A_WEEK / self.frequency if self.frequency else None

    @property
    def days_since_purchase(self) -> float:
        """Return the days since the last purchase."""
        return round((self.age - self.recency) * DAYS_A_WEEK)


def contributions(own: Sequence[float], other: Sequence[float]) -> list[float]:
    """Return the Shapley value of each of three quantities in the change of their product from `other` to `own`."""
    found = []
    for place in range(3):
        second, third = (place + 1) % 3, (place + 2) % 3
        both = (own[second] * own[third] + other[second] * other[third]) / 3
        either = (own[second] * other[third] + other[second] * own[third]) / 6
        found.append((own[place] - other[place]) * (both + either))
    return found


def value_drivers(own: CustomerOutlook, new: CustomerOutlook, currency: str) -> list[ValueDriver]:
    """Return the drivers of a value compared with that of a new customer, largest contribution first.

    P(alive) is no driver where it is not known: it is then taken as 1, of new customers too, and contributes nothing.
    """
    values, others, units = own.quantities, new.quantities, ("probability", "purchases", currency)
    added = contributions(values, others)
    return [
        ValueDriver(
            name=DRIVERS[place],
            value=values[place],
            of_new_customer=others[place],
            unit=units[place],
            contribution=added[place],
            direction="raises" if added[place] >= 0 else "lowers",
        )
        for place in sorted(range(0 if own.can_churn else 1, 3), key=lambda place: -abs(added[place]))
    ]


def risk_factors(past: CustomerPast, alive: float, at_last: float) -> list[RiskFactor]:
    """Return the risk factors of a customer; alive, at_last: P(alive) now, and right after the last purchase."""
    at_last = max(alive, at_last)
    factors = [
        RiskFactor(
            name="timeSinceLastPurchase", value=past.days_since_purchase, usual=past.usual_days, unit="days", contribution=at_last - alive
        ),
        RiskFactor(name="everyPurchaseMayBeTheLast", value=past.frequency + 1, usual=None, unit="purchases", contribution=1 - at_last),
    ]
    return sorted((one for one in factors if one.contribution > 0), key=lambda one: -one.contribution)


def history(past: CustomerPast, as_of_ms: float) -> CustomerHistory:
    """Return the history of a customer at a moment in milliseconds since 1970."""
    return CustomerHistory(
        purchases=past.frequency + 1,
        first_purchase_at=from_epoch_ms(as_of_ms - past.age * _WEEK_MS),
        last_purchase_at=from_epoch_ms(as_of_ms - (past.age - past.recency) * _WEEK_MS),
        days_between_purchases=past.usual_days,
        mean_spend=past.mean_spend if past.spend_repeats else None,
    )
