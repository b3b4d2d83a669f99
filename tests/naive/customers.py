"""Twins of `kernels.customers`."""

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from scipy.integrate import quad
from scipy.special import beta as beta_function
from scipy.special import betaln, gammaln, hyp2f1
from scipy.stats import nbinom


def log_likelihoods(model: int, params: Sequence[float], customer: tuple[float, float, float]) -> float:
    """Return a customer's log-likelihood, in the published form with Gauss's function.

    model: 0 BG/NBD, 1 MBG/NBD, 2 Pareto/NBD; customer: x, t_x, T.
    """
    r, alpha, third, fourth = params
    x, t_x, age = customer
    buys = gammaln(r + x) - gammaln(r) + r * math.log(alpha)
    stays = buys - (r + x) * math.log(alpha + age) + log_survival(model, params, x, age)
    if model == 2:
        goes = buys + third * math.log(fourth) + math.log(third / (r + third + x)) + _log_churned(params, customer)
    elif x + model == 0:
        return float(stays)
    else:
        goes = buys - (r + x) * math.log(alpha + t_x) + betaln(third + 1, fourth + x + model - 1) - betaln(third, fourth)
    return float(np.logaddexp(stays, goes))


def log_survival(model: int, params: Sequence[float], x: float, age: float) -> float:
    """Return the log of the probability of no churn: at x or x + 1 purchases, or in all the time."""
    _, _, third, fourth = params
    return -third * math.log1p(age / fourth) if model == 2 else float(betaln(third, fourth + x + model) - betaln(third, fourth))


def _log_churned(params: Sequence[float], customer: tuple[float, float, float]) -> float:
    """Return ln A0 of Fader & Hardie's note on the Pareto/NBD, -inf where T is t_x."""
    r, alpha, s, beta = params
    x, t_x, age = customer
    every, most, power = r + s + x, max(alpha, beta), s + 1 if alpha >= beta else r + x
    terms = [hyp2f1(every, power, every + 1, abs(alpha - beta) / (most + t)) * ((most + age) / (most + t)) ** every for t in (t_x, age)]
    return math.log(terms[0] - terms[1]) - every * math.log(most + age) if terms[0] > terms[1] else -math.inf


def log_likelihood(model: int, params: Sequence[float], customers: Sequence[tuple[float, float, float]], counts: Sequence[float]) -> float:
    """Return the log-likelihood of customers; counts: the weight of each."""
    return math.fsum(count * log_likelihoods(model, params, one) for one, count in zip(customers, counts, strict=True))


def expected_purchases(model: int, params: Sequence[float], customer: tuple[float, float, float], horizon: float) -> tuple[float, float]:
    """Return P(alive) and the purchases expected within a horizon: P(alive) is the part of the likelihood without churn."""
    r, alpha, third, fourth = params
    x, _, age = customer
    stays = gammaln(r + x) - gammaln(r) + r * math.log(alpha) - (r + x) * math.log(alpha + age) + log_survival(model, params, x, age)
    alive = math.exp(stays - log_likelihoods(model, params, customer))
    later = (r + x, alpha + age, third, fourth + age if model == 2 else fourth + x + model)
    return alive, alive * expected_if_alive(model, later, horizon)


def expected_if_alive(model: int, params: Sequence[float], t: float) -> float:
    """Return the purchases of a customer who is alive: the mean over p, or the integral of the rate over the times that they survive to."""
    r, alpha, third, fourth = params
    if model == 2:
        return float(quad(lambda u: r / alpha * (1 + u / fourth) ** -third, 0, t, epsabs=0, epsrel=1e-9, limit=500)[0])

    def part(v: float) -> float:
        p = 1 / (1 + math.exp(-v))
        density = math.exp(-third * math.log1p(math.exp(-v)) - fourth * math.log1p(math.exp(v)) - betaln(third, fourth))
        return density * -math.expm1(-r * math.log1p(p * t / alpha)) / p

    edges = np.arange(-40 / min(third, 1.0) - 4, 40 / min(fourth, 1.0) + 8, 2.0)  # of logit p
    return math.fsum(quad(part, low, high, epsabs=1e-13 * r * t / alpha, limit=500)[0] for low, high in pairwise(edges))


def new_customer_purchases(model: int, params: Sequence[float], t: float) -> float:
    """Return the purchases expected of a new customer, who by the MBG/NBD may have churned at once."""
    if model != 1:
        return expected_if_alive(model, params, t)
    r, alpha, a, b = params
    return b / (a + b) * expected_if_alive(model, (r, alpha, a, b + 1), t)


def discounted_purchases(
    model: int, params: Sequence[float], customer: tuple[float, float, float], weeks: float, rate: float, period: float
) -> float:
    """Return the expected purchases of each period, discounted from its end."""
    ends = [min((place + 1) * period, weeks) for place in range(math.ceil(weeks / period))]
    expected_by = [0.0, *(expected_purchases(model, params, customer, end)[1] for end in ends)]
    return math.fsum(
        (after - before) / (1 + rate) ** (end * 7 / 365.25) for before, after, end in zip(expected_by, expected_by[1:], ends, strict=False)
    )


def purchase_probabilities(model: int, params: Sequence[float], t: float, most: int) -> list[float]:
    """Return P(X(t) = x), x from 0: alive after x purchases, or churned at the x-th; by the MBG/NBD at the first purchase too."""
    r, alpha, a, b = params
    bought = [float(nbinom.pmf(x, r, alpha / (alpha + t))) for x in range(most)]
    return [
        bought[x] * math.exp(log_survival(model, params, x, t))
        + (beta_function(a + 1, b + x + model - 1) / beta_function(a, b) * (1 - math.fsum(bought[:x])) if x + model else 0.0)
        for x in range(most)
    ]


def spend_log_likelihoods(params: Sequence[float], x: float, mean: float) -> float:
    """Return the log-likelihood of a mean spend over x purchases: a gamma distribution with a gamma distributed rate."""
    p, q, v = params
    return float(
        -betaln(p * x, q) + q * math.log(v) + (p * x - 1) * math.log(mean) + p * x * math.log(x) - (p * x + q) * math.log(v + x * mean)
    )


def spend_log_likelihood(params: Sequence[float], customers: Sequence[tuple[float, float]], counts: Sequence[float]) -> float:
    """Return the log-likelihood of customers' mean spends; counts: the weight of each."""
    return math.fsum(count * spend_log_likelihoods(params, *one) for one, count in zip(customers, counts, strict=True))


def mean_spends(params: Sequence[float], x: float, mean: float) -> float:
    """Return a customer's expected spend: between their own mean and that of all, by the number of their purchases."""
    p, q, v = params
    own = p * x / (p * x + q - 1)
    return (1 - own) * p * v / (q - 1) + own * mean


def simulated_purchases(
    model: int, params: Sequence[float], customer: tuple[float, float, float], t: float, random: np.random.Generator, many: int
) -> np.ndarray:
    """Return the purchases within t weeks of `many` customers with the same history, by simulation."""
    x, _, age = customer
    r, alpha, third, fourth = params
    rate = random.gamma(r + x, 1 / (alpha + age), many)
    if model == 2:
        lost_at = random.exponential(1 / random.gamma(third, 1 / (fourth + age), many))
        bought = random.poisson(rate * np.minimum(lost_at, t))
    else:
        stops = random.beta(third, fourth + x + model, many)
        bought = np.minimum(random.poisson(rate * t), random.geometric(np.maximum(stops, 1e-12)))
    alive, _ = expected_purchases(model, params, customer, t)
    return np.where(random.random(many) < alive, bought, 0)


def no_purchase_probabilities(model: int, params: Sequence[float], customer: tuple[float, float, float], t: float) -> float:
    """Return the probability of no purchase: churned already, or no purchase before churn or the end of the time."""
    x, _, age = customer
    r, alpha, third, fourth = params
    alive, _ = expected_purchases(model, params, customer, t)

    def none_until(end: float) -> float:
        return float((1 + end / (alpha + age)) ** -(r + x))

    if model != 2:
        return 1 - alive * (1 - none_until(t))
    left = (1 + t / (fourth + age)) ** -third
    lost = quad(lambda end: none_until(end) * third / (fourth + age) * (1 + end / (fourth + age)) ** (-third - 1), 0, t, epsrel=1e-10)[0]
    return float(1 - alive * (1 - left * none_until(t) - lost))


def spend_quantiles(
    model: int,
    params: Sequence[float],
    customer: tuple[float, float, float],
    t: float,
    spend: Sequence[float],
    spent: tuple[float, float],
    levels: Sequence[float],
    many: int = 400_000,
) -> np.ndarray:
    """Return quantiles of the spend of many customers with the same history, by simulation."""
    random = np.random.default_rng(0)
    bought = simulated_purchases(model, params, customer, t, random, many)
    p, q, v = spend
    x, mean = spent
    own = random.gamma(q + p * x, 1 / (v + x * mean), many)
    return np.quantile(np.where(bought > 0, random.gamma(p * np.maximum(bought, 1)) / own, 0.0), levels)
