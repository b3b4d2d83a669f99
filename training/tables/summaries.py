"""Summaries of customers in six numbers each, sufficient statistics of the value models: how often, when and for how much they bought."""

from typing import Any, NamedTuple

import numpy as np

from kernels.types import F64, Bool

DAYS_A_WEEK = 7.0
NAMES: tuple[str, ...] = ("frequency", "recencyWeeks", "ageWeeks", "repeatsWithSpend", "meanSpend", "currentValue")


class Summaries(NamedTuple):
    """Summaries of customers, float64 [customers] each, in the order of NAMES.

    frequency: repeat purchases; recency, age: weeks from the first purchase to the last, and to the time of the summary; spend_repeats:
    repeat purchases with an amount above 0; mean_spend: their mean amount, NaN without any; total: money of all purchases.
    """

    frequency: F64
    recency: F64
    age: F64
    spend_repeats: F64
    mean_spend: F64
    total: F64

    @classmethod
    def new(cls) -> "Summaries":
        """Return the summary of a new customer with one purchase of unknown amount."""
        zero = np.zeros(1)
        return cls(zero, zero, zero, zero, np.full(1, np.nan), zero)

    @property
    def seen(self) -> F64:
        """Return x, t_x and T as the kernels take them: float64 [customers, 3]."""
        seen = np.empty((len(self.age), 3))
        seen[:, 0], seen[:, 1], seen[:, 2] = self.frequency, self.recency, self.age
        return seen

    @property
    def spent(self) -> F64:
        """Return the number and mean of repeat purchases with spend, as the kernels take them: float64 [customers, 2]."""
        spent = np.empty((len(self.age), 2))
        spent[:, 0], spent[:, 1] = self.spend_repeats, np.where(self.has_spend, self.mean_spend, 0.0)
        return spent

    @property
    def average_spend(self) -> float:
        """Return the mean spend at a repeat purchase, over customers who have made one; 0 without any."""
        return float(self.mean_spend[self.has_spend].mean()) if self.has_spend.any() else 0.0

    @property
    def silent_days(self) -> F64:
        """Return the days since the last purchase."""
        return np.rint((self.age - self.recency) * DAYS_A_WEEK)

    @property
    def has_spend(self) -> Bool:
        """Return which customers have spend at repeat purchases: bool [customers]."""
        return self.spend_repeats > 0

    @property
    def spend(self) -> tuple[F64, F64]:
        """Return the number and mean of repeat purchases with spend, of the customers who have some."""
        return self.spend_repeats[self.has_spend], self.mean_spend[self.has_spend]

    @property
    def rfm(self) -> tuple[F64, F64, F64]:
        """Return days since the last purchase, purchases, and total money."""
        return self.silent_days, self.frequency + 1.0, self.total

    def of(self, rows: Any) -> "Summaries":
        """Return the customers at `rows`."""
        return Summaries(*(column[rows] for column in self))
