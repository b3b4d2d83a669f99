"""Summarise purchases as histories: how often customers bought again, when last, and how long they have been observed."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

import numpy as np

from kernels.types import F64, I64, Bool
from training.errors import TableError
from training.tables.purchases import Purchases
from training.tables.summaries import DAYS_A_WEEK, Summaries


@dataclass(frozen=True, slots=True)
class Histories:
    """Customers who bought by `split`, in order of their names.

    known: their summaries as of the split, in which purchases are days of purchases, and times are not rounded. holdout_count,
    holdout_spend: days of purchases after the split, until the end, and money, [customers]; None where the split is the end. left_out:
    numbers of customers and purchases that are left out, by reason.
    """

    customers: tuple[str, ...]
    known: Summaries
    holdout_count: I64 | None
    holdout_spend: F64 | None
    first: date
    split: date
    end: date
    left_out: Mapping[str, int]


def of(purchases: Purchases, *, split: date | None = None, end: date | None = None) -> Histories:
    """Return the histories of customers until `split`, and their purchases from then until `end`; both by default the last day.

    Raises TableError where the split is before the first purchase, or after the end.
    """
    first_day, last_day = int(purchases.day.min()), int(purchases.day.max())
    until = last_day if end is None else end.toordinal()
    at = until if split is None else split.toordinal()
    _check(at, until, first_day)
    number = len(purchases.customers)
    calibration = purchases.day <= at
    later = ~calibration & (purchases.day <= until)
    first, last = np.full(number, np.iinfo(np.int64).max), np.full(number, np.iinfo(np.int64).min)
    np.minimum.at(first, purchases.customer[calibration], purchases.day[calibration])
    np.maximum.at(last, purchases.customer[calibration], purchases.day[calibration])
    seen = first <= at
    repeat = calibration & (purchases.day > first[purchases.customer])
    spent = repeat & (purchases.amount > 0)

    def counted(rows: Bool) -> I64:
        return np.bincount(purchases.customer[rows], minlength=number)[seen]

    def summed(rows: Bool) -> F64:
        return np.bincount(purchases.customer[rows], purchases.amount[rows], minlength=number)[seen].astype(np.float64)

    spend_repeats = counted(spent).astype(np.float64)
    has_holdout = until > at
    return Histories(
        customers=tuple(name for name, there in zip(purchases.customers, seen.tolist(), strict=True) if there),
        known=Summaries(
            frequency=counted(repeat).astype(np.float64),
            recency=(last[seen] - first[seen]) / DAYS_A_WEEK,
            age=(at - first[seen]) / DAYS_A_WEEK,
            spend_repeats=spend_repeats,
            mean_spend=np.divide(summed(spent), spend_repeats, out=np.full(len(spend_repeats), np.nan), where=spend_repeats > 0),
            total=summed(calibration),
        ),
        holdout_count=counted(later) if has_holdout else None,
        holdout_spend=summed(later) if has_holdout else None,
        first=date.fromordinal(first_day),
        split=date.fromordinal(at),
        end=date.fromordinal(until),
        left_out={
            "customers new after the split": int((~seen).sum()),
            "purchases after the end": int((purchases.day > until).sum()),
        },
    )


def _check(split: int, end: int, first: int) -> None:
    if split > end:
        raise TableError(f"--split {date.fromordinal(split)} is after --end {date.fromordinal(end)}; the hold-out comes after the split")
    if split < first:
        raise TableError(f"--split {date.fromordinal(split)} is before the first purchase, {date.fromordinal(first)}; choose a later day")
