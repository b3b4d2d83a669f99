"""Thompson sampling without a draw: the exact chance with which each arm would be the best draw (Thompson 1933).

A decision can then be made by one number and its propensity is known, which a draw from every arm's posterior leaves to be simulated.
"""

import math

import numpy as np
from numpy.typing import NDArray

from kernels.compile import on_cpu

POINTS = 96  # of the integral over what the best arm's draw is
TAIL = 6.0  # standard deviations that are integrated over: beyond are 2e-9

_SQRT_HALF = math.sqrt(0.5)
_INVERSE_ROOT = 1 / math.sqrt(2 * math.pi)


@on_cpu
def best_chances(
    mean: NDArray[np.float64], spread: NDArray[np.float64], allowed: NDArray[np.bool_], floor: float, out: NDArray[np.float64]
) -> None:
    """Write the chance of each arm to be the best, float64 [n, arms], 0 for one that is not allowed; the chances of a row add up to 1.

    mean, spread: float64 [n, arms], of independent normal posteriors; an arm of spread 0 is known, and the first of equals is the best.
    allowed: bool [n, arms], at least one of them in a row. floor: what every allowed arm has at least, as a share of all, in [0, 1].
    """
    for row in range(mean.shape[0]):
        known = -1
        low, high = math.inf, -math.inf
        arms = 0
        for arm in range(mean.shape[1]):
            out[row, arm] = 0.0
            if not allowed[row, arm]:
                continue
            arms += 1
            m, s = mean[row, arm], spread[row, arm]
            if s <= 0.0:
                if known < 0 or m > mean[row, known]:
                    known = arm
            else:
                low, high = min(low, m - TAIL * s), max(high, m + TAIL * s)
        if known >= 0:
            low = max(low, mean[row, known])
            out[row, known] = _below(mean, spread, allowed, row, mean[row, known], -1)
        if high > low:
            step = (high - low) / POINTS
            for point in range(POINTS):
                at = low + (point + 0.5) * step
                for arm in range(mean.shape[1]):
                    s = spread[row, arm]
                    if allowed[row, arm] and s > 0.0:
                        z = (at - mean[row, arm]) / s
                        density = _INVERSE_ROOT * math.exp(-0.5 * z * z) / s
                        if density > 1e-12:
                            out[row, arm] += step * density * _below(mean, spread, allowed, row, at, arm)
        total = 0.0
        for arm in range(mean.shape[1]):
            total += out[row, arm]
        for arm in range(mean.shape[1]):
            if allowed[row, arm]:
                share = out[row, arm] / total if total > 0.0 else 1.0 / arms
                out[row, arm] = (1.0 - floor) * share + floor / arms


@on_cpu
def _below(mean: NDArray[np.float64], spread: NDArray[np.float64], allowed: NDArray[np.bool_], row: int, at: float, but: int) -> float:
    """Return the chance that every uncertain arm of a row is below `at`, one left out."""
    chance = 1.0
    for arm in range(mean.shape[1]):
        s = spread[row, arm]
        if arm != but and allowed[row, arm] and s > 0.0:
            chance *= 0.5 * math.erfc((mean[row, arm] - at) / s * _SQRT_HALF)
    return chance
