"""Three models of repeat purchases ("buy till you die"): likelihoods, P(alive), and the distribution of a new customer's purchases.

A customer who is alive buys at a rate of their own, gamma distributed over customers (shape r, rate alpha). They churn:

- BG/NBD (Fader, Hardie & Lee 2005): after any repeat purchase, with a probability of their own, beta distributed (a, b).
- MBG/NBD (Batislam, Denizel & Filiztekin 2007): the same, and after the first purchase too.
- Pareto/NBD (Schmittlein, Morrison & Colombo 1987): at any time, at a rate of their own, gamma distributed (shape s, rate beta).

All three have one structure. The likelihood is that of a customer who is alive, times 1 + the odds that they have churned. Future purchases
are P(alive) times those of a customer who is alive, whose rates are distributed as before with other parameters. So a model needs only its
likelihood of survival and its odds of churn (`bg_nbd`, `pareto_nbd`). No formula subtracts nearly equal numbers, and odds are logarithms.

A time is in weeks, or in any other unit throughout. Valid input is finite: parameters above 0, x >= 0, 0 <= t_x <= T, t_x = 0 where x = 0.
FHL 2005 and SMC 1987 are the first and the third paper above.
"""

import math

import numpy as np

from kernels.compile import formula, on_cpu
from kernels.customers.bg_nbd import bg_churn_log_odds
from kernels.customers.pareto_nbd import pareto_churn_log_odds
from kernels.customers.special import digamma_rise, log_rising, softplus
from kernels.types import F64

# BG/NBD and MBG/NBD differ in this number alone: how often a customer could churn before the first repeat purchase.
BG_NBD, MBG_NBD, PARETO_NBD = range(3)
# The columns of a customer's history: x repeat purchases, the last of them at t_x, and the time T from the first purchase until now.
FREQUENCY, RECENCY, AGE = range(3)
PARAMETERS = 4

_EPS = 1e-16
_MIN_ALIVE = 2.2250738585072014e-308  # the least normal number: P(alive) is never 0
_MAX_EXPONENT = 709.0  # e to this is still a float64


@formula
def churn_log_odds(model: int, params: F64, x: float, t_x: float, age: float) -> tuple[float, float, float, float, float]:
    """Return the log-odds that a customer has churned, and their derivatives by the four parameters."""
    if model == PARETO_NBD:
        return pareto_churn_log_odds(params, x, t_x, age)
    return bg_churn_log_odds(model, params, x, t_x, age)


@formula
def log_survival(model: int, params: F64, x: float, age: float) -> tuple[float, float, float]:
    """Return the log of the probability that a customer has not churned until T, and its derivatives by the last two parameters."""
    if model == PARETO_NBD:
        s, beta = params[2], params[3]
        logs = math.log1p(age / beta)
        return -s * logs, -logs, s / beta * (age / (beta + age))
    a, b, n = params[2], params[3], x + model
    both = -digamma_rise(a + b, n)
    return log_rising(b, n) - log_rising(a + b, n), both, both + digamma_rise(b, n)


@formula
def log_likelihood_of(row: int, model: int, params: F64, seen: F64) -> tuple[float, float, float, float, float]:
    """Return a customer's log-likelihood and its derivatives by the logs of the four parameters."""
    x, t_x, age = seen[row, FREQUENCY], seen[row, RECENCY], seen[row, AGE]
    r, alpha, third, fourth = params[0], params[1], params[2], params[3]
    odds, odds_1, odds_2, odds_3, odds_4 = churn_log_odds(model, params, x, t_x, age)
    log_survived, stayed_3, stayed_4 = log_survival(model, params, x, age)
    log_odds = softplus(odds)
    churned = math.exp(odds - log_odds)
    logs = math.log1p(age / alpha)
    log_purchases = log_rising(r, x) - r * logs - x * math.log(alpha + age)
    return (
        log_purchases + log_survived + log_odds,
        r * (digamma_rise(r, x) - logs + churned * odds_1),
        r * (age / (alpha + age)) - x * (alpha / (alpha + age)) + alpha * churned * odds_2,
        third * (stayed_3 + churned * odds_3),
        fourth * (stayed_4 + churned * odds_4),
    )


@formula
def alive(model: int, params: F64, x: float, t_x: float, age: float) -> float:
    """Return P(alive), the probability that a customer has not churned at T: above 0 and at most 1."""
    if model == PARETO_NBD:
        odds, _, _, _, _ = pareto_churn_log_odds(params, x, t_x, age)
        return float(max(1 / (1 + math.exp(min(odds, _MAX_EXPONENT))), _MIN_ALIVE))
    n = x + model
    if n <= 0:
        return 1.0
    no_purchase_odds = math.exp(min((params[0] + x) * math.log1p((age - t_x) / (params[1] + t_x)), _MAX_EXPONENT))
    return float(max(1 / (1 + params[2] / (params[3] + n - 1) * no_purchase_odds), _MIN_ALIVE))


@formula
def beta_fraction(x: float, r: float, w: float) -> float:
    """Return the continued fraction of the incomplete beta function (DLMF 8.17.22), by Lentz's method."""
    c, d = 1.0, 1 / (1 - (x + r) * w / (x + 1))
    total = d
    for m in range(1, 10_000):
        for odd in range(2):
            if odd == 0:
                part = m * (r - m) * w / ((x + 2 * m - 1) * (x + 2 * m))
            else:
                part = -(x + m) * (x + r + m) * w / ((x + 2 * m) * (x + 2 * m + 1))
            d = 1 / (1 + part * d)
            c = 1 + part / c
            total *= c * d
        if abs(c * d - 1) < _EPS:
            break
    return total


@formula
def tail_probability(x: float, r: float, z: float) -> float:
    """Return the probability of x >= 1 or more purchases without churn: the tail of the NBD, an incomplete beta function."""
    w = z / (1 + z)
    size = math.exp(log_rising(x, r) - math.lgamma(r) - x * math.log1p(1 / z) - r * math.log1p(z))
    if w * (x + r + 2) < x + 1:
        return min(size * beta_fraction(x, r, w) / x, 1.0)
    return max(1 - size * beta_fraction(r, x, 1 / (1 + z)) / r, 0.0)


@formula
def purchase_probability(model: int, params: F64, t: float, x: float) -> float:
    """Return P(X(t) = x) of a new customer of the BG/NBD or MBG/NBD: alive after x purchases, or churned after the x-th."""
    r, alpha, a, b = params[0], params[1], params[2], params[3]
    z, n = t / alpha, x + model
    if z <= 0:
        return 1.0 if x == 0 else 0.0
    log_survived = log_rising(b, n) - log_rising(a + b, n)
    log_bought = log_rising(r, x) - math.lgamma(x + 1) - r * math.log1p(z) - x * math.log1p(1 / z)
    alive_probability = math.exp(log_survived + log_bought)
    if n == 0:
        return alive_probability
    reached = tail_probability(x, r, z) if x > 0 else 1.0
    return float(alive_probability + math.exp(log_survived) * a / (b + n - 1) * reached)


@on_cpu
def log_likelihoods(model: int, params: F64, seen: F64, out: F64) -> None:
    """Write each customer's log-likelihood, and its derivatives by the logs of the parameters.

    model: BG_NBD, MBG_NBD or PARETO_NBD. params: float64 [4]: r, alpha, a, b of the first two, r, alpha, s, beta of the third.
    seen: float64 [customers, 3]: FREQUENCY, RECENCY and AGE, in weeks. out: float64 [customers, 1 + 4]. BG/NBD: FHL 2005 (6);
    MBG/NBD: Batislam et al. 2007, likelihood; Pareto/NBD: SMC 1987, appendix, in the form of Fader & Hardie 2005, "A note on deriving the
    Pareto/NBD model and related expressions", as an integral. The derivatives are exact, by formula or under the integral.
    """
    for row in range(len(seen)):
        out[row, 0], out[row, 1], out[row, 2], out[row, 3], out[row, 4] = log_likelihood_of(row, model, params, seen)


@on_cpu
def log_likelihood(model: int, params: F64, seen: F64, counts: F64) -> F64:
    """Return the sum of `log_likelihoods`, float64 [1 + 4]. counts: float64 [customers], the weight of each row; [0]: 1 for every row."""
    total = np.zeros(1 + PARAMETERS)
    for row in range(len(seen)):
        count = counts[row] if len(counts) else 1.0
        value, first, second, third, fourth = log_likelihood_of(row, model, params, seen)
        total[0] += count * value
        total[1] += count * first
        total[2] += count * second
        total[3] += count * third
        total[4] += count * fourth
    return total


@on_cpu
def purchase_probabilities(model: int, params: F64, t: float, out: F64) -> None:
    """Write P(X(t) = x), the probability that a new customer makes x repeat purchases within t weeks, for x = 0, 1, ... len(out) - 1.

    model: BG_NBD (FHL 2005 (8)) or MBG_NBD, whose customers may churn once more; the Pareto/NBD is not supported. params: as for
    `log_likelihoods`. out: float64 [n].
    """
    for x in range(len(out)):
        out[x] = purchase_probability(model, params, t, float(x))
