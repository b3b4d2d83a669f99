"""Between what bounds lies what one customer will spend: the distribution of his purchases, and of the money at them, not their means.

How the purchases of a living customer of `kernels.customers.counting` within a time are distributed is known: a negative binomial, cut off
where he stops. BG/NBD, MBG/NBD: he makes n or more when n fall into the time, and he has not stopped at one of the n - 1 before.
Pareto/NBD: he is lost at a time of his own, and those nodes of Gauss and Legendre's rule stand for. What n purchases bring is, by
Gamma-Gamma, beta prime distributed (Fader & Hardie 2013: a sum of p n and a rate of q + p x), which is an F distribution; its cube root is
nearly normal (Paulson 1942). A quantile of the mixture over n is found by regula falsi in the cube root of money.
"""

import math

import numpy as np

from kernels.compile import formula, on_cpu
from kernels.customers.counting import AGE, FREQUENCY, MEAN_SPEND, PARETO_NBD, PURCHASES
from kernels.types import F64

_BINS, _SINGLE = 128, 48  # of how many purchases: one each at first, then so many together that as many can be made
_NEGLIGIBLE = 1e-6  # of the chance of more purchases
_STEPS = 60
_MIN_LOG = -600.0  # of a chance, so that its recurrence has digits to begin with
_EXACT = 1e-5  # of a cube root of money, relative
_NODES, _WEIGHTS = (np.ascontiguousarray(part) for part in np.polynomial.legendre.leggauss(16))
_SHARES, _COUNTS = 0, 1  # the rows of what `purchases_of` writes
_ROOTS, _SPREADS = 2, 3  # and of what `spend_at` adds to it
_ROWS = 4


@formula
def max_purchases(k: float, z: float) -> float:
    """Return how many purchases a negative binomial of shape k and odds z hardly exceeds."""
    mean = k * z
    return math.ceil(mean + 9 * math.sqrt(mean * (1 + z)) + 30 * (1 + z))


@formula
def log_weight(k: float, z: float, n: float) -> float:
    """Return the log of the chance of n by a negative binomial."""
    if n == 0:
        return -k * math.log1p(z)
    return math.lgamma(k + n) - math.lgamma(k) - math.lgamma(n + 1) - k * math.log1p(z) - n * math.log1p(1 / z)


@formula
def first_count(k: float, z: float) -> float:
    """Return below what number of purchases hardly any chance is, and at which the chance is still a float64."""
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
def put(table: F64, width: float, n: float, share: float) -> None:
    """Add the chance of n purchases to its bin; width: of a bin, in the logarithm of n."""
    bin_ = int(n) if n < _SINGLE else min(_SINGLE + int(math.log(n / _SINGLE) / width), _BINS - 1)
    table[_SHARES, bin_] += share
    table[_COUNTS, bin_] += share * n


@formula
def put_binomial(table: F64, width: float, k: float, z: float, share: float) -> None:
    """Add a negative binomial, `share` of all there is."""
    n = first_count(k, z)
    chance = math.exp(log_weight(k, z, n))
    left, most, w = 1.0, max_purchases(k, z), z / (1 + z)
    while left > _NEGLIGIBLE and n <= most:
        put(table, width, n, share * chance)
        left -= chance
        chance *= w * (k + n) / (n + 1)
        n += 1


@formula
def put_stopping(table: F64, width: float, k: float, z: float, a: float, b: float) -> None:
    """Add the purchases of one who may stop after each, with a chance from Beta(a, b)."""
    first, most, w = first_count(k, z), max_purchases(k, z), z / (1 + z)
    chance = math.exp(log_weight(k, z, first))
    reached, n = 1.0, 0.0  # the chance that n purchases fall into the time and he has not stopped before the n-th
    tail, lives = 1.0, 1.0  # of the negative binomial, and of not having stopped at n - 1 purchases
    while reached > _NEGLIGIBLE and n <= most:
        if n >= first:
            tail = max(tail - chance, 0.0)
            chance *= w * (k + n) / (n + 1)
        after = tail * lives
        put(table, width, n, reached - after)
        reached = after
        lives *= (b + n) / (a + b + n)
        n += 1


@formula
def purchases_of(model: int, params: F64, x: float, age: float, t: float, table: F64) -> None:
    """Write the distribution of the purchases within t of one who is a customer: the share of each bin, and the mean number in it."""
    k, z = params[0] + x, t / (params[1] + age)
    width = max(math.log(max_purchases(k, z) / _SINGLE), 1.0) / (_BINS - _SINGLE)
    for bin_ in range(_BINS):
        table[_SHARES, bin_] = table[_COUNTS, bin_] = 0.0
    if model == PARETO_NBD:
        s, beta = params[2], params[3] + age
        lost = -math.expm1(-s * math.log1p(t / beta))
        put_binomial(table, width, k, z, 1 - lost)
        for node in range(len(_NODES)):
            share = 0.5 * lost * (1 + _NODES[node])
            later = min(beta * math.expm1(-math.log1p(-share) / s), t)
            put_binomial(table, width, k, later / (params[1] + age), 0.5 * lost * _WEIGHTS[node])
    else:
        put_stopping(table, width, k, z, params[2], params[3] + x + model)
    for bin_ in range(_BINS):
        if table[_SHARES, bin_] > 0:
            table[_COUNTS, bin_] /= table[_SHARES, bin_]


@formula
def none_of(model: int, params: F64, x: float, age: float, t: float) -> float:
    """Return the chance that one who is a customer buys nothing within t."""
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
def spend_at(p: float, q: float, table: F64) -> None:
    """Write what the chance of spending less needs of each bin: the cube root of its scale, and its spread."""
    for bin_ in range(_BINS):
        if table[_COUNTS, bin_] > 0:
            shape = p * table[_COUNTS, bin_]
            table[_ROOTS, bin_] = (q / shape) ** (1 / 3)
            table[_SPREADS, bin_] = 1 / (9 * shape)


@formula
def less_than(y: float, q: float, table: F64) -> float:
    """Return the chance that a living customer spends, but more than nothing, less than y^3 v (Paulson 1942)."""
    rest = 1 / (9 * q)
    chance = 0.0
    for bin_ in range(_BINS):
        share, count = table[_SHARES, bin_], table[_COUNTS, bin_]
        if share > 0 and count > 0:
            root, spread = y * table[_ROOTS, bin_], table[_SPREADS, bin_]
            u = ((1 - rest) * root - (1 - spread)) / math.sqrt(rest * root * root + spread)
            chance += share * 0.5 * math.erfc(-u / math.sqrt(2.0))
    return chance


@formula
def money(level: float, none: float, alive: float, q: float, v: float, table: F64) -> float:
    """Return the quantile `level` of what a customer spends; none: the chance of nothing, alive: that he is a customer."""
    if level <= none:
        return 0.0
    wanted = (level - none) / alive
    low, high, at_low, at_high = 0.0, 1.0, -wanted, less_than(1.0, q, table) - wanted
    for _ in range(_STEPS):
        if at_high > 0:
            break
        low, at_low, high = high, at_high, 2 * high
        at_high = less_than(high, q, table) - wanted
    side = 0
    for _ in range(_STEPS):
        if high - low <= _EXACT * high:
            break
        y = low + (high - low) * at_low / (at_low - at_high)
        at = less_than(y, q, table) - wanted
        if at > 0:
            high, at_high = y, at
            at_low = 0.5 * at_low if side > 0 else at_low  # regula falsi as the Illinois algorithm mends it
            side = 1
        else:
            low, at_low = y, at
            at_high = 0.5 * at_high if side < 0 else at_high
            side = -1
        if at == 0:
            break
    y = 0.5 * (low + high) if high - low <= _EXACT * high else low + (high - low) * at_low / (at_low - at_high)
    return float(y * y * y * v)


@formula
def number(level: float, none: float, alive: float, table: F64) -> float:
    """Return the quantile `level` of how many purchases a customer makes."""
    if level <= none:
        return 0.0
    chance, count = 1 - alive, 0.0
    for bin_ in range(_BINS):
        if table[_SHARES, bin_] > 0:
            chance += alive * table[_SHARES, bin_]
            count = table[_COUNTS, bin_]
            if chance >= level:
                break
    return count


@on_cpu
def quiet(model: int, params: F64, seen: F64, alive: F64, t: float, out: F64) -> None:
    """Write the chance that each customer buys nothing within t weeks.

    model, params, seen: those of `lifetime.log_likelihoods`; alive: float64 [customers], P(alive) at T; out: float64 [customers].
    """
    for row in range(len(seen)):
        out[row] = 1 - alive[row] * (1 - none_of(model, params, seen[row, FREQUENCY], seen[row, AGE], t))


@on_cpu
def ranges(
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
    """Write quantiles of what each customer will spend within t weeks, not discounted.

    model, params, seen, alive: as for `quiet`. spend: float64 [3], p, q, v of Gamma-Gamma, or [0]: what a purchase brings is known, `each`,
    float64 [customers]; so it is for whom q + p x is 1 or less. spent: float64 [customers, 2], PURCHASES and MEAN_SPEND. levels: float64
    [levels], within 0 and 1. out: float64 [customers, levels], money. They are good to a few parts in a hundred.
    """
    table = np.empty((_ROWS, _BINS))
    for row in range(len(seen)):
        x, age = seen[row, FREQUENCY], seen[row, AGE]
        purchases_of(model, params, x, age, t, table)
        none = 1 - alive[row] * (1 - none_of(model, params, x, age, t))
        q = spend[0] * spent[row, PURCHASES] + spend[1] if len(spend) else 0.0
        if q > 1:
            spend_at(spend[0], q, table)
        for place in range(len(levels)):
            if q > 1:
                v = spend[2] + spent[row, PURCHASES] * spent[row, MEAN_SPEND]
                out[row, place] = money(levels[place], none, alive[row], q, v, table)
            else:
                out[row, place] = each[row] * number(levels[place], none, alive[row], table)
