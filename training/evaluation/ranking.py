"""Rankings of rows by a score. Rows of equal score are tied and count together: a statistic does not depend on the order of the rows.

Within a tie every order is equally likely, and a statistic that is linear in the order has its mean over these orders.
"""

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from kernels.types import F64, Intp


class Ranking(NamedTuple):
    """Rows in the order of a score. order: intp [n], the largest score first; ends: intp [ties], one past the last place of each tie."""

    order: Intp
    ends: Intp

    @property
    def starts(self) -> Intp:
        """Return the first place of each tie, intp [ties]."""
        return np.concatenate((np.zeros(min(1, len(self.ends)), np.intp), self.ends[:-1]))


def ranked(score: F64, *within: F64) -> Ranking:
    """Return the ranking of rows by score [n], the largest first; NaN is the smallest.

    within: columns [n] that order tied rows, so that sums over them have the same bits for any order of the rows.
    """
    order = np.lexsort((*reversed(within), -score))
    ordered = score[order]
    differs = (ordered[1:] != ordered[:-1]) & ~(np.isnan(ordered[1:]) & np.isnan(ordered[:-1]))
    ends = np.flatnonzero(differs) + 1
    return Ranking(order, np.append(ends, len(score))[: len(score)].astype(np.intp))


def means_of_ties(score: F64, column: F64) -> F64:
    """Return a column, float64 [n], in the order of a score, the largest first; each row has the mean of its tie."""
    ranking = ranked(score, column)
    if not len(column):
        return np.empty(0)
    sizes = ranking.ends - ranking.starts
    return np.repeat(np.add.reduceat(column[ranking.order], ranking.starts) / sizes, sizes)


def slices(score: F64, number: int) -> list[slice]:
    """Return at most `number` slices of nearly equal size of the rows of a ranking; a tie is never divided.

    Each boundary is moved to the nearest end of a tie, the earlier one of two; slices that become empty are left out.
    """
    n, ends = len(score), np.concatenate(([0], ranked(score).ends))
    sizes = np.full(number, n // number) + (np.arange(number) < n % number)
    wanted = np.cumsum(sizes)[:-1]
    after = np.searchsorted(ends, wanted)
    before = np.maximum(after - 1, 0)
    nearest = np.where(wanted - ends[before] <= ends[after] - wanted, ends[before], ends[after])
    edges = np.unique(np.concatenate(([0], nearest, [n])))
    return [slice(start, end) for start, end in pairwise(edges.tolist())]
