"""Thompson sampling without a draw: the exact chance with which each arm would be the best draw (Thompson 1933).

A decision can then be made by one number and its propensity is known, which a draw from every arm's posterior leaves to be simulated.
"""

import math

import numpy as np

from kernels.compile import on_cpu
from kernels.types import F64, Bool

POINTS, TAIL = 33, 6.0  # of an arm's own grid, and the standard deviations on each side that it spans: beyond are 2e-9

_SQRT_HALF = math.sqrt(0.5)


@on_cpu
def _share(mean: float, spread: float, at: float) -> float:
    """Return the share of a normal distribution below `at`."""
    return 0.5 * math.erfc((mean - at) / spread * _SQRT_HALF)


@on_cpu
def _below(
    mean: F64,
    spread: F64,
    allowed: Bool,
    row: int,
    at: float,
    out: F64,
) -> float:
    """Write the chance of each arm to be below `at`, 1 of one that is known or not allowed, and return the chance that all are."""
    every = 1.0
    for arm in range(len(out)):
        out[arm] = 1.0
        if allowed[row, arm] and spread[row, arm] > 0.0:
            out[arm] = _share(mean[row, arm], spread[row, arm], at)
        every *= out[arm]
    return every


@on_cpu
def _floored(allowed: Bool, floor: float, out: F64) -> None:
    """Make the chances of a row add up to 1, and give every allowed arm its part of the floor."""
    arms, total = 0, 0.0
    for arm in range(len(out)):
        arms += int(allowed[arm])
        total += out[arm]
    for arm in range(len(out)):
        if allowed[arm]:
            share = out[arm] / total if total > 0.0 else 1.0 / arms
            out[arm] = (1.0 - floor) * share + floor / arms


@on_cpu
def best_chances(mean: F64, spread: F64, allowed: Bool, floor: float, out: F64) -> None:
    """Write the chance of each arm to be the best, float64 [n, arms], 0 for one that is not allowed; the chances of a row add up to 1.

    mean, spread: float64 [n, arms], of independent normal posteriors; an arm of spread 0 is known, and the first of equals is the best.
    allowed: bool [n, arms], at least one of them in a row. floor: what every allowed arm has at least, as a share of all, in [0, 1].
    """
    arms = mean.shape[1]
    grid, below = np.empty(arms * POINTS), np.empty(arms)
    for row in range(mean.shape[0]):
        known, count = -1, 0
        for arm in range(arms):
            out[row, arm] = 0.0
            if allowed[row, arm] and spread[row, arm] > 0.0:
                for point in range(POINTS):
                    share = 2.0 * point / (POINTS - 1) - 1.0
                    grid[count] = mean[row, arm] + spread[row, arm] * TAIL * share
                    count += 1
            elif allowed[row, arm] and (known < 0 or mean[row, arm] > mean[row, known]):
                known = arm
        points = np.sort(grid[:count])
        if known >= 0:
            out[row, known] = _below(mean, spread, allowed, row, mean[row, known], below)
        for point in range(count - 1):
            begin, end = points[point], points[point + 1]
            if known >= 0:
                begin = max(begin, mean[row, known])
            if end > begin:
                _below(mean, spread, allowed, row, 0.5 * (begin + end), below)
                for arm in range(arms):
                    if allowed[row, arm] and spread[row, arm] > 0.0:
                        there = _share(mean[row, arm], spread[row, arm], end) - _share(mean[row, arm], spread[row, arm], begin)
                        for other in range(arms):
                            if other != arm:
                                there *= below[other]
                        out[row, arm] += there
        _floored(allowed[row], floor, out[row])
