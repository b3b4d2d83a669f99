"""Recency, frequency and monetary value: quintiles of a customer base, and its eleven named segments (Hughes 1994)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from kernels.types import F64, I64

QUINTILES = 5
MIN_LEFT_RISK = 0.5  # churn risk from which a customer counts as lapsed, whatever their recency
MAX_LOW_RISK = 0.33  # low risks are below it, as the low band of the answer: of churn, no customer is lost; of no purchase, none lapsed
MAX_LAPSED_RECENCY, MIN_STAYING_RECENCY, MIN_DUE_RECENCY = 2, 2, 3  # the scores of recency by which their segments are named
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

        A value on an edge belongs to the lower quintile, so equal values get equal scores. Unknown money, NaN, has the score of frequency.
        """
        recency_score = QUINTILES - np.searchsorted(self.recency_days, recency_days, side="left")
        frequency_score = 1 + np.searchsorted(self.frequency, frequency, side="left")
        money_score = 1 + np.searchsorted(self.money, money, side="left")
        return recency_score, frequency_score, np.where(np.isnan(money), frequency_score, money_score)


def segments(recency: I64, frequency: I64, money: I64, alive: F64, no_purchase: F64) -> list[str]:
    """Return the name of each customer's segment; frequency and money are averaged and rounded up.

    alive, no_purchase: P(alive) and P(no purchase), float64 [customers], NaN where unknown. The name does not contradict them: customers
    who have probably left are named as if they had bought long ago, those who probably have not are not lost, and those who will probably
    buy soon are named as if they had bought lately.
    """
    both = (frequency + money + 1) // 2
    rows = zip(recency.tolist(), both.tolist(), alive.tolist(), no_purchase.tolist(), strict=True)
    return [GRID[QUINTILES - _named_recency(latest, *risks)][value - 1] for latest, value, *risks in rows]


def _named_recency(score: int, alive: float, no_purchase: float) -> int:
    """Return the score of recency by which a customer's segment is named; a comparison with an unknown probability does not hold."""
    if alive <= 1 - MIN_LEFT_RISK:
        return min(score, MAX_LAPSED_RECENCY)
    if no_purchase < MAX_LOW_RISK:
        return max(score, MIN_DUE_RECENCY)
    return max(score, MIN_STAYING_RECENCY) if alive > 1 - MAX_LOW_RISK else score
