"""What is known of customers in six numbers each: how often they bought, when, and for how much. Enough to say what they will do."""

from typing import Any, NamedTuple

import numpy as np

from kernels.types import F64, Bool

DAYS_A_WEEK = 7.0
NAMES: tuple[str, ...] = ("frequency", "recencyWeeks", "ageWeeks", "repeatsWithSpend", "meanSpend", "currentValue")


class Summaries(NamedTuple):
    """What is known of customers, float64 [customers] each, in the order of NAMES.

    frequency: repeat purchases; recency, age: weeks from the first purchase to the last, and to the moment that this is of; spend_repeats:
    those of the repeat purchases that brought money; mean_spend: how much, NaN where none did; total: money of all purchases.
    """

    frequency: F64
    recency: F64
    age: F64
    spend_repeats: F64
    mean_spend: F64
    total: F64

    @classmethod
    def new(cls) -> "Summaries":
        """Return a customer who has just bought for the first time and of whom no more is known."""
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
        """Return how often and how much, as the kernels take them: float64 [customers, 2]."""
        spent = np.empty((len(self.age), 2))
        spent[:, 0], spent[:, 1] = self.spend_repeats, np.where(self.has_spend, self.mean_spend, 0.0)
        return spent

    @property
    def average_spend(self) -> float:
        """Return what a repeat purchase brings on average, over customers who have made one; 0 where nobody has."""
        return float(self.mean_spend[self.has_spend].mean()) if self.has_spend.any() else 0.0

    @property
    def silent_days(self) -> F64:
        """Return the days since the last purchase."""
        return np.rint((self.age - self.recency) * DAYS_A_WEEK)

    @property
    def has_spend(self) -> Bool:
        """Return whose repeat purchases brought money: bool [customers]."""
        return self.spend_repeats > 0

    @property
    def spend(self) -> tuple[F64, F64]:
        """Return how often and how much of those whose repeat purchases brought money."""
        return self.spend_repeats[self.has_spend], self.mean_spend[self.has_spend]

    @property
    def rfm(self) -> tuple[F64, F64, F64]:
        """Return days since the last purchase, purchases, and money in all."""
        return self.silent_days, self.frequency + 1.0, self.total

    def of(self, rows: Any) -> "Summaries":
        """Return the customers at `rows`."""
        return Summaries(*(column[rows] for column in self))
