"""What a customer's value is made of, what speaks for losing him, and what his summary says of the past."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from serving.engines.types import moment
from serving.engines.value_types import CustomerHistory, Driver, RiskFactor, ValueDriver
from training.summaries import DAYS_A_WEEK, Summaries

if TYPE_CHECKING:
    from training.models.value import Outlook

DRIVERS: tuple[Driver, ...] = ("probabilityAlive", "purchasesWhileActive", "spendPerPurchase")
_WEEK_MS = 7 * 86_400_000.0

Vector = NDArray[np.float64]


def _factors(outlook: "Outlook") -> NDArray[np.float64]:
    """Return the three factors of the value, float64 [3, n], in the order of DRIVERS."""
    return np.stack([outlook.alive, outlook.value / (outlook.alive * np.where(outlook.spend > 0, outlook.spend, 1.0)), outlook.spend])


def contributions(own: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what each of three factors adds to the product, from `other` to `own`, float64 [3, n]: its Shapley value."""
    found = []
    for place in range(3):
        second, third = (place + 1) % 3, (place + 2) % 3
        both = (own[second] * own[third] + other[second] * other[third]) / 3
        either = (own[second] * other[third] + other[second] * own[third]) / 6
        found.append((own[place] - other[place]) * (both + either))
    return np.stack(found)


def drivers(own: "Outlook", new: "Outlook", currency: str) -> list[list[ValueDriver]]:
    """Return the drivers of each value against that of a new customer, the largest contribution first; none where it is not known."""
    factors, other = _factors(own), _factors(new)
    units = ("probability", "purchases", currency)
    rows = zip(factors.T.tolist(), other.T.tolist(), contributions(factors, other).T.tolist(), strict=True)
    return [
        []
        if np.isnan(value[0])
        else [
            ValueDriver(
                name=DRIVERS[place],
                value=value[place],
                of_new_customer=fresh[place],
                unit=units[place],
                contribution=added[place],
                direction="raises" if added[place] >= 0 else "lowers",
            )
            for place in sorted(range(3), key=lambda place: -abs(added[place]))
        ]
        for value, fresh, added in rows
    ]


def risks(known: Summaries, alive: Vector, at_last: Vector) -> list[list[RiskFactor]]:
    """Return the risk factors of customers who are alive with this probability, and were right after the last purchase with that."""
    usual = _usual(known)
    silence = zip(known.rfm[0].tolist(), usual, np.maximum(at_last - alive, 0).tolist(), strict=True)
    always = zip((known.frequency + 1).tolist(), (1 - np.maximum(at_last, alive)).tolist(), strict=True)
    rows = []
    for (days, gap, since), (purchases, any_time) in zip(silence, always, strict=True):
        factors = [
            RiskFactor(name="timeSinceLastPurchase", value=days, usual=gap, unit="days", contribution=since),
            RiskFactor(name="everyPurchaseMayBeTheLast", value=purchases, usual=None, unit="purchases", contribution=any_time),
        ]
        rows.append(sorted((one for one in factors if one.contribution > 0), key=lambda one: -one.contribution))
    return rows


def _usual(known: Summaries) -> list[float | None]:
    """Return the days between the purchases of each customer, None before there were two."""
    days = zip((known.recency * DAYS_A_WEEK).tolist(), known.frequency.tolist(), strict=True)
    return [recency / repeats if repeats else None for recency, repeats in days]


def histories(known: Summaries, as_of_ms: Sequence[float]) -> list[CustomerHistory]:
    """Return what the summaries say of the past, as of milliseconds since 1970."""
    rows = zip(as_of_ms, zip(*(column.tolist() for column in known), strict=True), _usual(known), strict=True)
    return [
        CustomerHistory(
            purchases=frequency + 1,
            first_purchase_at=moment(at - age * _WEEK_MS),
            last_purchase_at=moment(at - (age - recency) * _WEEK_MS),
            days_between_purchases=usual,
            mean_spend=None if np.isnan(mean) else mean,
        )
        for at, (frequency, recency, age, _, mean, _), usual in rows
    ]
