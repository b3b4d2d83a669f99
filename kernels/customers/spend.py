"""Gamma-Gamma: what customers spend at a purchase (Fader & Hardie 2013, "The gamma-gamma model of monetary value").

The amounts of a customer are gamma distributed with shape p and a rate of their own, which is gamma distributed (shape q, rate v).
"""

import math

import numpy as np

from kernels.compile import formula, on_cpu, on_cuda
from kernels.customers.special import digamma_rise, log_rising
from kernels.types import F64

PURCHASES, MEAN_SPEND = range(2)  # the columns of a customer's spend: x purchases, and the mean amount
SPEND_PARAMETERS = 3


@formula
def mean_spend_of(row: int, params: F64, spent: F64, out: F64) -> None:
    """Write a customer's expected spend at a purchase; the arrays are those of `mean_spends`."""
    p, q, v = params[0], params[1], params[2]
    x = spent[row, PURCHASES]
    below = p * x + q - 1
    out[row] = p * (v + x * spent[row, MEAN_SPEND]) / below if below > 0 else math.inf


@formula
def spend_log_likelihood_of(row: int, params: F64, spent: F64) -> tuple[float, float, float, float]:
    """Return the log-likelihood of a customer's mean spend, and its derivatives by the logs of p, q and v."""
    x, mean = spent[row, PURCHASES], spent[row, MEAN_SPEND]
    p, q, v = params[0], params[1], params[2]
    shape = p * x
    log_v = -math.log1p(x * mean / v)  # of v / (v + x mean), and then of x mean / (v + x mean)
    log_spend = -math.log1p(v / (x * mean))
    size = log_rising(shape, q) - math.lgamma(q)
    share = x * mean / (v + x * mean)
    return (
        size + shape * log_spend + q * log_v - math.log(mean),
        shape * (digamma_rise(shape, q) + log_spend),
        q * (digamma_rise(q, shape) + log_v),
        q * share - shape * (1 - share),
    )


@on_cpu
def spend_log_likelihoods(params: F64, spent: F64, out: F64) -> None:
    """Write the log-likelihood of each customer's mean spend, and its derivatives by the logs of the parameters.

    params: float64 [3]: p, q, v. spent: float64 [customers, 2]: PURCHASES (at least 1) and MEAN_SPEND (above 0, in money). out: float64
    [customers, 1 + 3]. Fader & Hardie 2013 (1a). The derivatives are exact.
    """
    for row in range(len(spent)):
        out[row, 0], out[row, 1], out[row, 2], out[row, 3] = spend_log_likelihood_of(row, params, spent)


@on_cpu
def spend_log_likelihood(params: F64, spent: F64, counts: F64) -> F64:
    """Return the sum of `spend_log_likelihoods`, float64 [1 + 3]. counts: float64 [customers], the weight of each row; [0]: all 1."""
    total = np.zeros(1 + SPEND_PARAMETERS)
    for row in range(len(spent)):
        count = counts[row] if len(counts) else 1.0
        value, first, second, third = spend_log_likelihood_of(row, params, spent)
        total[0] += count * value
        total[1] += count * first
        total[2] += count * second
        total[3] += count * third
    return total


@on_cpu
def mean_spends(params: F64, spent: F64, out: F64) -> None:
    """Write the expected spend of each customer at a purchase, given what they have spent: p (v + x mean) / (p x + q - 1).

    params, spent: as for `spend_log_likelihoods`; PURCHASES may be 0 here, which leaves the mean of all customers, p v / (q - 1).
    out: float64 [customers], infinite where p x + q is 1 or less: the distribution then has no mean. Fader & Hardie 2013 (5).
    """
    for row in range(len(spent)):
        mean_spend_of(row, params, spent, out)


mean_spends_on_cuda = on_cuda(mean_spend_of)
