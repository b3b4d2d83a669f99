"""Expected demand at a price of uncertain elasticity: the mean over draws of the elasticity, without a loop over the draws.

Demand at price p is q (p / p0)^e, the elasticity e one of DRAWS values m + s z, with the same z for every product: evenly spaced quantiles
of a normal distribution, standardised. With l = ln(p / p0) the mean over the draws is q exp(m l) M(s l), where

    M(a) = mean over z of exp(a z) = sum over k of mean(z^k) / k! a^k

is one series for all products and prices. Its terms fall faster than those of exp(|a| max|z|); only the significant ones are added.
"""

import math
from statistics import NormalDist

import numpy as np

from kernels.compile import formula
from kernels.types import F64

DRAWS = 64
TERMS = 64
MAX_REACH = 12.0  # of |a| max|z|: up to it TERMS terms are exact; beyond it the mean is taken over the draws
_MIN_TERM = 1e-17  # terms below this do not change a float64


def _draws(number: int) -> F64:
    z = np.array([NormalDist().inv_cdf((place + 0.5) / number) for place in range(number)])
    return np.asarray(z / z.std())


def _series(z: F64) -> F64:
    factorials = np.cumprod(np.concatenate(([1.0], np.arange(1.0, TERMS))))
    return np.array([np.mean(z**k) / factorial for k, factorial in enumerate(factorials)])


Z = _draws(DRAWS)
SERIES = _series(Z)
MAX_ABS_Z = float(np.abs(Z).max())


@formula
def terms(reach: float) -> int:
    """Return the number of terms of the series for |a| up to `reach`; 0 where a loop over the draws is needed."""
    max_exponent = reach * MAX_ABS_Z
    if max_exponent > MAX_REACH:
        return 0
    number, size = 1, 1.0
    while number < TERMS and size > _MIN_TERM:
        size *= max_exponent / number
        number += 1
    return number


@formula
def mean_exponential(a: float, number: int) -> float:
    """Return M(a), from `number` terms of the series, or from the draws where that is 0."""
    total = 0.0
    if number == 0:
        for draw in range(DRAWS):
            total += math.exp(a * Z[draw])
        return total / DRAWS
    for back in range(number):
        total = total * a + SERIES[number - 1 - back]
    return total


@formula
def relative_demand(log_ratio: float, elasticity: float, sd: float, number: int) -> tuple[float, float]:
    """Return the mean over the draws of (p / p0)^e, and its standard deviation. log_ratio: ln(p / p0)."""
    certain = math.exp(elasticity * log_ratio)
    a = sd * log_ratio
    mean = mean_exponential(a, number)
    variance = mean_exponential(2 * a, number) - mean * mean
    return certain * mean, certain * math.sqrt(max(variance, 0.0))
