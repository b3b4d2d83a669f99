"""Recency, frequency and money: quintiles of a customer base, and the names of what they make together (Hughes 1994; eleven segments)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from kernels.types import F64, I64

QUINTILES = 5
SHARES = np.arange(1, QUINTILES) / QUINTILES

# Rows: recency, from the fifth that bought last to the fifth that bought longest ago. Columns: frequency and money together, from 1 to 5.
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
    """Where one fifth of the customers ends and the next begins, [4] each: days since the last purchase, purchases, money in all."""

    recency_days: F64
    frequency: F64
    money: F64

    @classmethod
    def of(cls, recency_days: F64, frequency: F64, money: F64) -> "Edges":
        """Return the edges of a customer base, float64 [customers] each."""
        return cls(*(np.quantile(column, SHARES) for column in (recency_days, frequency, money)))

    @classmethod
    def load(cls, content: Mapping[str, Any]) -> "Edges":
        """Return the edges that `content` made."""
        return cls(*(np.array(content[name], np.float64) for name in ("recencyDays", "frequency", "money")))

    def content(self) -> dict[str, list[float]]:
        """Return the edges as plain JSON."""
        return {"recencyDays": self.recency_days.tolist(), "frequency": self.frequency.tolist(), "money": self.money.tolist()}

    def scores(self, recency_days: F64, frequency: F64, money: F64) -> tuple[I64, I64, I64]:
        """Return recency, frequency and money as 1 to 5, int64 [customers] each; 5 is best: bought last, most often, for most.

        Who stands on an edge belongs to the lower fifth, so that equals are never told apart.
        """
        latest = QUINTILES - np.searchsorted(self.recency_days, recency_days, side="left")
        often = 1 + np.searchsorted(self.frequency, frequency, side="left")
        much = 1 + np.searchsorted(self.money, money, side="left")
        return latest, often, much


def segments(recency: I64, frequency: I64, money: I64) -> list[str]:
    """Return the name of each customer's segment; frequency and money count half each, rounded up."""
    both = (frequency + money + 1) // 2
    return [GRID[QUINTILES - latest][value - 1] for latest, value in zip(recency.tolist(), both.tolist(), strict=True)]
