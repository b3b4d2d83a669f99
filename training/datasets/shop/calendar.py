"""Session times in the simulated shop: one year from FIRST_DAY, by season, day of the week and hour; and the special days.

Local time is UTC plus the region's fixed offset, without daylight saving time. Days and weeks count from FIRST_DAY.
"""

from dataclasses import dataclass
from datetime import date

import numpy as np

from kernels.types import F64, I64, Bool
from training.datasets.shop.catalog import FIRST_DAY, WEEKS

DAYS = 7 * WEEKS
HOUR_MS, DAY_MS = 3_600_000, 86_400_000
EPOCH_DAY = FIRST_DAY.toordinal() - date(1970, 1, 1).toordinal()
EPOCH_MS = EPOCH_DAY * DAY_MS

DAY_WEIGHTS = np.array([1.05, 1.0, 1.0, 1.0, 0.95, 0.9, 1.15])  # Monday to Sunday
HOUR_WEIGHTS = np.array([3, 1.5, 1, 0.7, 0.7, 1, 2, 3.5, 5, 6, 6.5, 6.5, 7, 6.5, 6, 6, 6, 6.5, 7, 8.5, 10, 10, 8, 5])
SPECIAL_DAYS = (date(2025, 2, 14), date(2025, 5, 11), date(2025, 6, 15), date(2025, 11, 28), date(2025, 12, 24))
SPECIAL_SPAN = 5  # closeness is 1 on the day and falls by a fifth with each day before it


@dataclass(frozen=True, slots=True)
class Moment:
    """The local calendar at given times, [times]: hour [0, 24) to the minute, day_of_week 0 Sunday, month 1-12, special 0-1."""

    hour: F64
    day_of_week: I64
    month: I64
    special: F64

    @property
    def weekend(self) -> Bool:
        """Return whether it is Saturday or Sunday."""
        return np.isin(self.day_of_week, (0, 6))


def draw_starts(rng: np.random.Generator, sessions: int) -> I64:
    """Return `sessions` local start times in epoch milliseconds, in random order."""
    days = np.arange(DAYS)
    weights = DAY_WEIGHTS[days % 7] * (1 + 0.5 * np.exp(-(((days - 330) / 20) ** 2)) + 0.5 * closeness(EPOCH_DAY + days))
    day = rng.choice(DAYS, sessions, p=weights / weights.sum())
    hour = rng.choice(24, sessions, p=HOUR_WEIGHTS / HOUR_WEIGHTS.sum())
    return np.asarray(EPOCH_MS + day * DAY_MS + hour * HOUR_MS + rng.integers(0, HOUR_MS, sessions), np.int64)


def moment(local_ms: I64) -> Moment:
    """Return the calendar of local epoch milliseconds."""
    day = local_ms // DAY_MS
    minute = local_ms % DAY_MS // 60_000
    month = day.astype("datetime64[D]").astype("datetime64[M]").astype(np.int64) % 12 + 1
    return Moment((minute / 60).round(4), (day + 4) % 7, month, closeness(day))  # 1 January 1970 was a Thursday


def closeness(epoch_day: I64) -> F64:
    """Return how close each day is to the next special day: 1 on it, 0.8 the day before, ... 0 from five days before."""
    special = np.array([day.toordinal() for day in SPECIAL_DAYS]) - date(1970, 1, 1).toordinal()
    ahead = special[None, :] - epoch_day[:, None]
    ahead = np.where(ahead < 0, SPECIAL_SPAN, ahead.clip(max=SPECIAL_SPAN)).min(axis=1)
    return np.asarray((1 - ahead / SPECIAL_SPAN).round(1))


def week(epoch_ms: I64) -> I64:
    """Return the shop's week of each time; times after the end of the year belong to the last week."""
    return np.asarray(((epoch_ms - EPOCH_MS) // (7 * DAY_MS)).clip(0, WEEKS - 1), np.int64)
