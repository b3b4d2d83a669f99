"""Recency, frequency and monetary value: quintiles of a customer base, and its eleven named segments (Hughes 1994)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from kernels.types import F64, I64

QUINTILES = 5
SHARES = np.arange(1, QUINTILES) / QUINTILES

# Rows: recency, from the most recent quintile to the oldest. Columns: the mean score of frequency and money, from 1 to 5.
GRID: tuple[tuple[str, ...], ...] = (
    ("new", "potential_loyalist", "loyal", "champion", "champion"),
    ("promising", "potential_loyalist", "loyal", "champion", "champion"),
    ("about_to_sleep", "needs_attention", "needs_attention", "loyal", "loyal"),
    ("hibernating", "about_to_sleep", "at_risk", "at_risk", "at_risk"),
    ("lost", "hibernating", "at_risk", "cannot_lose", "cannot_lose"),
)
MEANING: Mapping[str, str] = {
    "champion": "bought lately, often and for much",
    "loyal": "buys often or for much",
    "potential_loyalist": "bought lately, and more than once or for more than most",
    "new": "bought for the first time, lately",
    "promising": "bought lately, for little",
    "needs_attention": "in the middle of everything, and not so lately",
    "about_to_sleep": "below the middle, and not lately",
    "at_risk": "bought often or for much, long ago",
    "cannot_lose": "was among the best, and has not bought for longest",
    "hibernating": "bought little, long ago",
    "lost": "bought least, longest ago",
}


@dataclass(frozen=True, slots=True)
class Edges:
    """The boundaries between quintiles, float64 [4] each: days since the last purchase, purchases, total spend."""

    recency_days: F64
    frequency: F64
    money: F64

    @classmethod
    def of(cls, recency_days: F64, frequency: F64, money: F64) -> "Edges":
        """Return the edges of a customer base, float64 [customers] each."""
        return cls(*(np.quantile(column, SHARES) for column in (recency_days, frequency, money)))

    @classmethod
    def load(cls, content: Mapping[str, Any]) -> "Edges":
        """Return the edges in the JSON that `content` returned."""
        return cls(*(np.array(content[name], np.float64) for name in ("recencyDays", "frequency", "money")))

    def content(self) -> dict[str, list[float]]:
        """Return the edges as JSON."""
        return {"recencyDays": self.recency_days.tolist(), "frequency": self.frequency.tolist(), "money": self.money.tolist()}

    def scores(self, recency_days: F64, frequency: F64, money: F64) -> tuple[I64, I64, I64]:
        """Return the scores of recency, frequency and money, int64 [customers] each, 1 to 5; 5 is best.

        A value on an edge belongs to the lower quintile, so equal values get equal scores.
        """
        recency_score = QUINTILES - np.searchsorted(self.recency_days, recency_days, side="left")
        frequency_score = 1 + np.searchsorted(self.frequency, frequency, side="left")
        money_score = 1 + np.searchsorted(self.money, money, side="left")
        return recency_score, frequency_score, money_score


def segments(recency: I64, frequency: I64, money: I64) -> list[str]:
    """Return the name of each customer's segment; frequency and money are averaged and rounded up."""
    both = (frequency + money + 1) // 2
    return [GRID[QUINTILES - latest][value - 1] for latest, value in zip(recency.tolist(), both.tolist(), strict=True)]
