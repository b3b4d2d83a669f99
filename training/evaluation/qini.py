"""How well customers are ranked by what doing something changes: the Qini curve and its coefficient (Radcliffe 2007).

Treat the customers in the order of their effects, the largest first. After the k first of them, the curve is at what the treated among
these had more of the outcome than the others would have had: Y_t(k) - Y_c(k) N_t(k) / N_c(k). A ranking that knows nothing goes straight
from 0 to the end. The coefficient is the area between the curve and that line, over the share of customers k / n, and divided by n.
"""

import numpy as np

from kernels.types import F64, Bool

RESAMPLES = 200


def curve(effect: F64, treated: Bool, outcome: F64) -> F64:
    """Return the curve after k = 1, ... n customers, float64 [n]; those of one effect are in the order in which they come."""
    order = np.argsort(-effect, kind="stable")
    hers, y = treated[order], outcome[order]
    treated_count, control_count = np.cumsum(hers), np.cumsum(~hers)
    gained, would = np.cumsum(y * hers), np.cumsum(y * ~hers)
    share = np.divide(treated_count, control_count, out=np.zeros(len(y)), where=control_count > 0)
    return np.asarray(gained - would * share)


def coefficient(effect: F64, treated: Bool, outcome: F64) -> float:
    """Return the Qini coefficient; 0 for a ranking that knows nothing, and for fewer than two kinds of customers.

    effect: float64 [n], by which they are ranked; treated: bool [n], at random; outcome: float64 [n], 1 for what is wanted.
    """
    n = len(effect)
    if n == 0 or treated.all() or not treated.any():
        return 0.0
    found = curve(effect, treated, outcome)
    straight = found[-1] * np.arange(1, n + 1) / n
    return float((found - straight).mean() / n)


def spread(effect: F64, treated: Bool, outcome: F64, seed: int) -> float:
    """Return the standard error of the coefficient, over RESAMPLES bootstrap samples of the customers."""
    random, n = np.random.default_rng(seed), len(effect)
    found = []
    for _ in range(RESAMPLES):
        rows = random.integers(0, n, n)
        found.append(coefficient(effect[rows], treated[rows], outcome[rows]))
    return float(np.std(found, ddof=1))
