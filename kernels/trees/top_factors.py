"""The largest SHAP values of each row: the factors that an answer lists."""

import math

import numpy as np

from kernels.compile import formula, on_cpu
from kernels.types import F32, F64, I64

REST = -1  # instead of a column: the sum of the shares that are not listed
DIGITS = 7  # the precision of a float32
_POWERS = np.power(10.0, np.arange(23))  # each exact in float64


@formula
def by_weight(shares: F64, order: I64) -> None:
    """Write the columns by the absolute value of their shares into `order`, the largest first, equal ones in order. Both are [columns]."""
    for column in range(shares.size):
        weight, at = abs(shares[column]), column
        while at > 0 and abs(shares[order[at - 1]]) < weight:
            order[at] = order[at - 1]
            at -= 1
        order[at] = column


@formula
def rounded(value: np.float32) -> float:
    """Return a value as the float64 nearest to its DIGITS significant digits: 0.2 instead of 0.20000000298.

    Whole numbers and values nearer to zero than 1e-15 are returned unchanged.
    """
    exact = float(value)
    size = abs(exact)
    if not 1e-15 < size < 1e7 or math.floor(size) == size:
        return exact
    places = DIGITS - 1 - math.floor(math.log10(size))
    # Near a power of ten the logarithm may be off by one.
    if size >= _POWERS[DIGITS] / _POWERS[places]:
        places -= 1
    elif size * _POWERS[places] < _POWERS[DIGITS - 1]:
        places += 1
    return float(np.rint(exact * _POWERS[places]) / _POWERS[places])


@on_cpu
def shortlist(X: F32, shares: F64, max_factors: I64, totals: F64) -> tuple[I64, I64, F64, F64]:
    """Return of each row its `max_factors[row]` largest shares, the largest first, and the sum of the others, without zeros.

    X: float32 [rows, columns], NaN is missing; shares: float64 [rows, columns]; max_factors: int64 [rows]; totals: float64 [rows], the sum
    to list for a row with max_factors 0. Returns ends int64 [rows], columns int64 [entries], or REST, values float64 [entries], `rounded`,
    and shares float64 [entries]: row `i` has the entries from ends[i - 1] to ends[i].
    """
    rows, width = shares.shape
    ends = np.empty(rows, np.int64)
    columns = np.empty(rows * (width + 1), np.int64)
    values, parts = np.empty(len(columns)), np.empty(len(columns))
    order = np.empty(width, np.int64)
    at = 0
    for row in range(rows):
        limit = min(max_factors[row], width)
        rest = totals[row] if limit <= 0 else 0.0
        if limit > 0:
            by_weight(shares[row], order)
            for place in range(width):
                column = order[place]
                share = shares[row, column]
                if place >= limit:
                    rest += share
                elif share != 0:
                    columns[at], values[at], parts[at] = column, rounded(X[row, column]), share
                    at += 1
        if rest != 0:
            columns[at], values[at], parts[at] = REST, np.nan, rest
            at += 1
        ends[row] = at
    return ends, columns[:at], values[:at], parts[:at]
