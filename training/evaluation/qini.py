"""The Qini curve and coefficient: how well predicted treatment effects rank customers (Radcliffe 2007).

Rank the customers by predicted effect, largest first. After the first k, the curve is the incremental outcome of the treated among them:
Y_t(k) - Y_c(k) N_t(k) / N_c(k). Customers of equal effect come together: between the first and the last of them the curve is a straight
line. A random ranking gives the straight line from 0 to the end of the curve. The coefficient is the area between the curve and that line
over the share of customers k / n, divided by n.
"""

import numpy as np

from kernels.types import F64, Bool
from training.evaluation.ranking import ranked

RESAMPLES = 200


def curve(effect: F64, treated: Bool, outcome: F64) -> F64:
    """Return the curve after k = 1, ... n customers, float64 [n]."""
    ranking = ranked(effect)
    is_treated, y = treated[ranking.order], outcome[ranking.order]
    last = ranking.ends - 1
    treated_count, control_count = np.cumsum(is_treated)[last], np.cumsum(~is_treated)[last]
    treated_outcome, control_outcome = np.cumsum(y * is_treated)[last], np.cumsum(y * ~is_treated)[last]
    share = np.divide(treated_count, control_count, out=np.zeros(len(last)), where=control_count > 0)
    points = treated_outcome - control_outcome * share
    return np.interp(np.arange(1, len(y) + 1), np.concatenate(([0], ranking.ends)), np.concatenate(([0.0], points)))


def coefficient(effect: F64, treated: Bool, outcome: F64) -> float:
    """Return the Qini coefficient; 0 for a random ranking, for equal effects, and without both treated and control customers.

    effect: float64 [n], predicted; treated: bool [n], randomised; outcome: float64 [n], 1 for the desired outcome.
    """
    n = len(effect)
    if n == 0 or treated.all() or not treated.any():
        return 0.0
    found = curve(effect, treated, outcome)
    straight = found[-1] * np.arange(1, n + 1) / n
    return float((found - straight).mean() / n)


def standard_error(effect: F64, treated: Bool, outcome: F64, seed: int) -> float:
    """Return the standard error of the coefficient, over RESAMPLES bootstrap samples of the customers; their order does not matter."""
    order = ranked(effect, treated.astype(np.float64), outcome).order
    effect, treated, outcome = effect[order], treated[order], outcome[order]
    random, n = np.random.default_rng(seed), len(effect)
    found = []
    for _ in range(RESAMPLES):
        rows = random.integers(0, n, n)
        found.append(coefficient(effect[rows], treated[rows], outcome[rows]))
    return float(np.std(found, ddof=1))
