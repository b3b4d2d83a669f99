"""What a customer's value is made of, what speaks for losing him, and what his summary says of the past: of one row after the other."""

from collections.abc import Sequence
from typing import NamedTuple

from serving.engines.types import moment
from serving.engines.value.types import CustomerHistory, Driver, RiskFactor, ValueDriver
from training.tables.summaries import DAYS_A_WEEK

DRIVERS: tuple[Driver, ...] = ("probabilityAlive", "purchasesWhileActive", "spendPerPurchase")
_WEEK_MS = 7 * 86_400_000.0


class Expected(NamedTuple):
    """An Outlook of one customer, as Python's numbers."""

    alive: float
    quiet: float
    purchases: float
    spend: float
    value: float
    low: float
    high: float

    @property
    def factors(self) -> tuple[float, float, float]:
        """Return what the value is the product of, in the order of DRIVERS."""
        return self.alive, self.value / (self.alive * (self.spend or 1.0)), self.spend


class Past(NamedTuple):
    """Summaries of one customer, as Python's numbers; `training.tables.summaries` says what each is."""

    frequency: float
    recency: float
    age: float
    spend_repeats: float
    mean_spend: float
    total: float

    @property
    def usual_days(self) -> float | None:
        """Return the days between purchases, on average; None before there were two."""
        return self.recency * DAYS_A_WEEK / self.frequency if self.frequency else None

    @property
    def silent_days(self) -> float:
        """Return the days since the last purchase."""
        return round((self.age - self.recency) * DAYS_A_WEEK)


def contributions(own: Sequence[float], other: Sequence[float]) -> list[float]:
    """Return what each of three factors adds to the product, from `other` to `own`: its Shapley value."""
    found = []
    for place in range(3):
        second, third = (place + 1) % 3, (place + 2) % 3
        both = (own[second] * own[third] + other[second] * other[third]) / 3
        either = (own[second] * other[third] + other[second] * own[third]) / 6
        found.append((own[place] - other[place]) * (both + either))
    return found


def drivers(own: Expected, new: Expected, currency: str) -> list[ValueDriver]:
    """Return the drivers of a value against that of a new customer, the largest contribution first."""
    values, others, units = own.factors, new.factors, ("probability", "purchases", currency)
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
        for place in sorted(range(3), key=lambda place: -abs(added[place]))
    ]


def risks(past: Past, alive: float, at_last: float) -> list[RiskFactor]:
    """Return the risk factors of who is alive with this probability, and was right after the last purchase with that."""
    at_last = max(alive, at_last)
    factors = [
        RiskFactor(name="timeSinceLastPurchase", value=past.silent_days, usual=past.usual_days, unit="days", contribution=at_last - alive),
        RiskFactor(name="everyPurchaseMayBeTheLast", value=past.frequency + 1, usual=None, unit="purchases", contribution=1 - at_last),
    ]
    return sorted((one for one in factors if one.contribution > 0), key=lambda one: -one.contribution)


def history(past: Past, as_of_ms: float) -> CustomerHistory:
    """Return what a summary says of the past, as of milliseconds since 1970."""
    return CustomerHistory(
        purchases=past.frequency + 1,
        first_purchase_at=moment(as_of_ms - past.age * _WEEK_MS),
        last_purchase_at=moment(as_of_ms - (past.age - past.recency) * _WEEK_MS),
        days_between_purchases=past.usual_days,
        mean_spend=past.mean_spend if past.spend_repeats else None,
    )
