"""Thompson sampling without a draw: the exact probability that each arm's draw is the best (Thompson 1933).

A decision then takes one random number and its propensity is known; with a draw from every arm's posterior it would have to be simulated.
"""

import math

import numpy as np

from kernels.compile import on_cpu
from kernels.types import F64, Bool

POINTS, TAIL = 33, 6.0  # of an arm's grid, and the standard deviations that it spans on each side: 2e-9 are beyond

_SQRT_HALF = math.sqrt(0.5)


@on_cpu
def _share(mean: float, spread: float, at: float) -> float:
    """Return the probability that a normal variable is below `at`."""
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
    """Write the probability that each arm is below `at`, 1 for a known arm and one that is not allowed; return their product."""
    every = 1.0
    for arm in range(len(out)):
        out[arm] = 1.0
        if allowed[row, arm] and spread[row, arm] > 0.0:
            out[arm] = _share(mean[row, arm], spread[row, arm], at)
        every *= out[arm]
    return every


@on_cpu
def _floored(allowed: Bool, floor: float, out: F64) -> None:
    """Normalise the probabilities of a row to 1, and give every allowed arm its part of the floor."""
    arms, total = 0, 0.0
    for arm in range(len(out)):
        arms += int(allowed[arm])
        total += out[arm]
    for arm in range(len(out)):
        if allowed[arm]:
            share = out[arm] / total if total > 0.0 else 1.0 / arms
            out[arm] = (1.0 - floor) * share + floor / arms


@on_cpu
def best_arm_probabilities(mean: F64, spread: F64, allowed: Bool, floor: float, out: F64) -> None:
    """Write the probability that each arm is the best, float64 [n, arms], 0 for one that is not allowed; a row adds up to 1.

    mean, spread: float64 [n, arms], mean and sd of independent normal posteriors; an arm with sd 0 is known, and the first of equal ones
    wins. allowed: bool [n, arms], at least one per row. floor: the total of the minimum probabilities of the allowed arms, in [0, 1].
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
