"""Quantiles of the spend and the number of purchases of one customer within a time: the distributions, not their means.

The purchases of a customer who is alive are negative binomial until they churn (`kernels.customers.counting`). BG/NBD, MBG/NBD: they make n
or more if n fall into the time and they did not churn at one of the n - 1 before. Pareto/NBD: a mixture over the time of churn, at the
nodes of a Gauss-Legendre rule. The sum of n purchases is beta prime distributed by Gamma-Gamma (Fader & Hardie 2013: shapes p n and q + p
x), which is a scaled F distribution; its cube root is nearly normal (Paulson 1942). A quantile of the mixture over n is found by regula
falsi in the cube root of the amount.
"""

import math

import numpy as np

from kernels.compile import formula, on_cpu
from kernels.customers.counting import AGE, FREQUENCY, PARETO_NBD
from kernels.customers.spend import MEAN_SPEND, PURCHASES
from kernels.types import F64

_BINS, _SINGLE = 128, 48  # bins of the number of purchases: one number each at first, then ranges that grow geometrically
_NEGLIGIBLE = 1e-6  # the probability of more purchases that is neglected
_STEPS = 60
_MIN_LOG = -600.0  # of the first probability of a recurrence: with a smaller one it would begin with a denormal number
_TOLERANCE = 1e-5  # of the cube root of a quantile, relative
_NODES, _WEIGHTS = (np.ascontiguousarray(part) for part in np.polynomial.legendre.leggauss(16))
_SHARES, _COUNTS = 0, 1  # the rows of the table that `purchase_distribution` writes
_SCALES, _SPREADS = 2, 3  # and the rows that `prepare_spend` adds
_ROWS = 4


@formula
def max_purchases(k: float, z: float) -> float:
    """Return a number that a negative binomial of shape k and odds z exceeds with negligible probability."""
    mean = k * z
    return math.ceil(mean + 9 * math.sqrt(mean * (1 + z)) + 30 * (1 + z))


@formula
def log_weight(k: float, z: float, n: float) -> float:
    """Return the log of the probability of n by a negative binomial."""
    if n == 0:
        return -k * math.log1p(z)
    return math.lgamma(k + n) - math.lgamma(k) - math.lgamma(n + 1) - k * math.log1p(z) - n * math.log1p(1 / z)


@formula
def first_count(k: float, z: float) -> float:
    """Return the smallest number of purchases to start from: fewer have negligible probability, and its own is a normal float64."""
    mean = k * z
    low = max(0.0, math.floor(mean - 9 * math.sqrt(mean * (1 + z))))
    if log_weight(k, z, low) > _MIN_LOG:
        return low
    high = math.floor(mean)
    while high - low > 1:
        middle = math.floor(0.5 * (low + high))
        if log_weight(k, z, middle) > _MIN_LOG:
            high = middle
        else:
            low = middle
    return high


@formula
def add_to_bin(table: F64, width: float, n: float, share: float) -> None:
    """Add the probability of n purchases to its bin; width: of a bin, in the logarithm of n."""
    bin_ = int(n) if n < _SINGLE else min(_SINGLE + int(math.log(n / _SINGLE) / width), _BINS - 1)
    table[_SHARES, bin_] += share
    table[_COUNTS, bin_] += share * n


@formula
def add_binomial(table: F64, width: float, k: float, z: float, share: float) -> None:
    """Add a negative binomial with weight `share`."""
    n = first_count(k, z)
    probability = math.exp(log_weight(k, z, n))
    left, limit, w = 1.0, max_purchases(k, z), z / (1 + z)
    while left > _NEGLIGIBLE and n <= limit:
        add_to_bin(table, width, n, share * probability)
        left -= probability
        probability *= w * (k + n) / (n + 1)
        n += 1


@formula
def add_bg_purchases(table: F64, width: float, k: float, z: float, a: float, b: float) -> None:
    """Add the purchases of a customer who churns after each purchase with a probability from Beta(a, b)."""
    first, limit, w = first_count(k, z), max_purchases(k, z), z / (1 + z)
    probability = math.exp(log_weight(k, z, first))
    reached, n = 1.0, 0.0  # the probability of n purchases within t and no churn before the n-th
    tail, survival = 1.0, 1.0  # P(n or more) by the negative binomial, and P(no churn at the first n - 1 purchases)
    while reached > _NEGLIGIBLE and n <= limit:
        if n >= first:
            tail = max(tail - probability, 0.0)
            probability *= w * (k + n) / (n + 1)
        after = tail * survival
        add_to_bin(table, width, n, reached - after)
        reached = after
        survival *= (b + n) / (a + b + n)
        n += 1


@formula
def purchase_distribution(model: int, params: F64, x: float, age: float, t: float, table: F64) -> None:
    """Write the distribution of the purchases within t of a customer who is alive: each bin's probability and mean number of purchases."""
    k, z = params[0] + x, t / (params[1] + age)
    width = max(math.log(max_purchases(k, z) / _SINGLE), 1.0) / (_BINS - _SINGLE)
    for bin_ in range(_BINS):
        table[_SHARES, bin_] = table[_COUNTS, bin_] = 0.0
    if model == PARETO_NBD:
        s, beta = params[2], params[3] + age
        lost = -math.expm1(-s * math.log1p(t / beta))
        add_binomial(table, width, k, z, 1 - lost)
        for node in range(len(_NODES)):
            share = 0.5 * lost * (1 + _NODES[node])
            later = min(beta * math.expm1(-math.log1p(-share) / s), t)
            add_binomial(table, width, k, later / (params[1] + age), 0.5 * lost * _WEIGHTS[node])
    else:
        add_bg_purchases(table, width, k, z, params[2], params[3] + x + model)
    for bin_ in range(_BINS):
        if table[_SHARES, bin_] > 0:
            table[_COUNTS, bin_] /= table[_SHARES, bin_]


@formula
def no_purchase_probability(model: int, params: F64, x: float, age: float, t: float) -> float:
    """Return the probability that a customer who is alive buys nothing within t."""
    k, rate = params[0] + x, params[1] + age
    if model != PARETO_NBD:
        return math.exp(-k * math.log1p(t / rate))
    s, beta = params[2], params[3] + age
    lost = -math.expm1(-s * math.log1p(t / beta))
    none = (1 - lost) * math.exp(-k * math.log1p(t / rate))
    for node in range(len(_NODES)):
        later = min(beta * math.expm1(-math.log1p(-0.5 * lost * (1 + _NODES[node])) / s), t)
        none += 0.5 * lost * _WEIGHTS[node] * math.exp(-k * math.log1p(later / rate))
    return none


@formula
def prepare_spend(p: float, q: float, table: F64) -> None:
    """Write the numbers that `spend_cdf` needs of each bin: the cube root of its scale, and its spread."""
    for bin_ in range(_BINS):
        if table[_COUNTS, bin_] > 0:
            shape = p * table[_COUNTS, bin_]
            table[_SCALES, bin_] = (q / shape) ** (1 / 3)
            table[_SPREADS, bin_] = 1 / (9 * shape)


@formula
def spend_cdf(y: float, q: float, table: F64) -> float:
    """Return the probability that a customer who is alive spends something, but less than y^3 v (Paulson 1942)."""
    rest = 1 / (9 * q)
    probability = 0.0
    for bin_ in range(_BINS):
        share, count = table[_SHARES, bin_], table[_COUNTS, bin_]
        if share > 0 and count > 0:
            root, spread = y * table[_SCALES, bin_], table[_SPREADS, bin_]
            u = ((1 - rest) * root - (1 - spread)) / math.sqrt(rest * root * root + spread)
            probability += share * 0.5 * math.erfc(-u / math.sqrt(2.0))
    return probability


@formula
def spend_quantile(level: float, none: float, alive: float, q: float, v: float, table: F64) -> float:
    """Return the quantile `level` of a customer's spend; none: the probability of no purchase; alive: P(alive)."""
    if level <= none:
        return 0.0
    target = (level - none) / alive
    low, high, at_low, at_high = 0.0, 1.0, -target, spend_cdf(1.0, q, table) - target
    for _ in range(_STEPS):
        if at_high > 0:
            break
        low, at_low, high = high, at_high, 2 * high
        at_high = spend_cdf(high, q, table) - target
    side = 0
    for _ in range(_STEPS):
        if high - low <= _TOLERANCE * high:
            break
        y = low + (high - low) * at_low / (at_low - at_high)
        at = spend_cdf(y, q, table) - target
        if at > 0:
            high, at_high = y, at
            at_low = 0.5 * at_low if side > 0 else at_low  # the Illinois variant of regula falsi
            side = 1
        else:
            low, at_low = y, at
            at_high = 0.5 * at_high if side < 0 else at_high
            side = -1
        if at == 0:
            break
    y = 0.5 * (low + high) if high - low <= _TOLERANCE * high else low + (high - low) * at_low / (at_low - at_high)
    return float(y * y * y * v)


@formula
def purchase_quantile(level: float, none: float, alive: float, table: F64) -> float:
    """Return the quantile `level` of a customer's number of purchases; none, alive: as for `spend_quantile`."""
    if level <= none:
        return 0.0
    probability, count = 1 - alive, 0.0
    for bin_ in range(_BINS):
        if table[_SHARES, bin_] > 0:
            probability += alive * table[_SHARES, bin_]
            count = table[_COUNTS, bin_]
            if probability >= level:
                break
    return count


@on_cpu
def no_purchase_probabilities(model: int, params: F64, seen: F64, alive: F64, t: float, out: F64) -> None:
    """Write the probability that each customer buys nothing within t weeks.

    model, params, seen: as for `counting.log_likelihoods`; alive: float64 [customers], P(alive) at T; out: float64 [customers].
    """
    for row in range(len(seen)):
        out[row] = 1 - alive[row] * (1 - no_purchase_probability(model, params, seen[row, FREQUENCY], seen[row, AGE], t))


@on_cpu
def spend_quantiles(
    model: int,
    params: F64,
    seen: F64,
    alive: F64,
    t: float,
    spend: F64,
    spent: F64,
    each: F64,
    levels: F64,
    out: F64,
) -> None:
    """Write quantiles of each customer's spend within t weeks, not discounted.

    model, params, seen, alive: as for `no_purchase_probabilities`. spend: float64 [3], p, q, v of Gamma-Gamma; [0]: every purchase of a
    customer has the amount in `each`, float64 [customers], as it has where q + p x is 1 or less. spent: float64 [customers, 2], PURCHASES
    and MEAN_SPEND. levels: float64 [levels], within 0 and 1. out: float64 [customers, levels], money, accurate to a few percent.
    """
    table = np.empty((_ROWS, _BINS))
    for row in range(len(seen)):
        x, age = seen[row, FREQUENCY], seen[row, AGE]
        purchase_distribution(model, params, x, age, t, table)
        none = 1 - alive[row] * (1 - no_purchase_probability(model, params, x, age, t))
        q = spend[0] * spent[row, PURCHASES] + spend[1] if len(spend) else 0.0
        if q > 1:
            prepare_spend(spend[0], q, table)
        for place in range(len(levels)):
            if q > 1:
                v = spend[2] + spent[row, PURCHASES] * spent[row, MEAN_SPEND]
                out[row, place] = spend_quantile(levels[place], none, alive[row], q, v, table)
            else:
                out[row, place] = each[row] * purchase_quantile(levels[place], none, alive[row], table)
