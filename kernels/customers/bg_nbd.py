"""BG/NBD and MBG/NBD: the log-odds that a customer has churned, and the expected purchases of one who has not.

A customer who is alive buys at a rate from Gamma(k, rate), and churns after each purchase with probability p from Beta(a, b). The published
form of their expected purchases, with Gauss's hypergeometric function, has a pole where a is 1 and cancels where t is small. It is the mean
of (1 - (1 + p t / rate)^-k) / p over p, which has neither. There are three ways to compute it, with z = t / rate:

- Short horizons: a series over the number of purchases, a sum of positive terms (`mean_by_terms`). Its coefficients are the same for all
  horizons and ages, so `mean_by_series` keeps them for customers with the same number of purchases.
- Long horizons: the trapezoidal rule in logit p (`mean_by_trapezoids`), whose error falls exponentially since nothing is singular near the
  real line (Trefethen & Weideman 2014).
- A horizon that many customers share: Chebyshev polynomials in z, made from the series (`mean_by_panel`).

The MBG/NBD differs in one number: its customers may churn once more, after the first purchase.
"""

import math

import numpy as np

from kernels.compile import formula
from kernels.customers.special import softplus
from kernels.types import F64

_EPS = 1e-16
_MAX_TERMS = 1000  # with more, the trapezoidal rule is faster
_LANES = 16
_MAX_SHAPE = 200.0  # with a larger k the last coefficients overflow
_LARGEST_EXPONENT = 600.0  # e to the minus of this is still a normal number

# A panel is an eighth of an octave of z. The pole at -1 is 17 of its half widths away, so that the truncated terms are about 34^-11.
EIGHTHS, MIN_OCTAVE, _MAX_OCTAVE = 8, -40, 14
MIN_Z, MAX_Z = 2.0**MIN_OCTAVE, 2.0 ** (_MAX_OCTAVE - 1)
_PANELS = (_MAX_OCTAVE - MIN_OCTAVE) * EIGHTHS
_TERMS = 11
_LOW, _SCALE, _FIRST = range(3)  # of a panel's record: where it begins, how wide it is, and the first of its coefficients
_RECORD = _FIRST + _TERMS
NOT_MADE, _MADE, NOT_CONVERGENT = 0.0, 1.0, 2.0  # the states of a panel

# A line caches, while many customers are scored, the numbers shared by customers with the same number of purchases: that number; how many
# coefficients of the series are there, and the three numbers that the next coefficient is made of; the states of the panels; the
# coefficients of the series, in whole blocks of _LANES; the records of the panels.
HELD, _LENGTH, _WAYS, _SURVIVAL, _SUM, STATES = range(6)
_SERIES = STATES + _PANELS
_COEFFICIENTS = _SERIES + 1008
LINE = _COEFFICIENTS + _PANELS * _RECORD
_ANGLES = (np.arange(_TERMS) + 0.5) * np.pi / _TERMS
_PLACES = np.cos(_ANGLES)
_COSINES = np.cos(np.outer(np.arange(_TERMS), _ANGLES)) * (2 / _TERMS)

# Steps in logit p: with b large the weights are those of a log-gamma variable, whose characteristic function at 2 pi / step is the error.
_STEP = 0.2
_STEP_SD = 0.5  # in standard deviations of logit p
_MAX_STEPS = 5000


@formula
def bg_churn_log_odds(first: int, params: F64, x: float, t_x: float, age: float) -> tuple[float, float, float, float, float]:
    """Return the log-odds that a customer of the BG/NBD or the MBG/NBD has churned at t_x, and their derivatives by the four parameters.

    The odds are a / (b + n - 1) ((alpha + T) / (alpha + t_x))^(r + x), FHL 2005 (6) and (10). The customer could churn n = x + `first`
    times; first: 0 for the BG/NBD, 1 for the MBG/NBD.
    """
    r, alpha, a, b = params[0], params[1], params[2], params[3]
    n = x + first
    if n <= 0:
        return -math.inf, 0.0, 0.0, 0.0, 0.0
    logs = math.log1p((age - t_x) / (alpha + t_x))
    odds = math.log(a / (b + n - 1)) + (r + x) * logs
    return odds, logs, (r + x) * (t_x - age) / ((alpha + age) * (alpha + t_x)), 1 / a, -1 / (b + n - 1)


@formula
def mean_by_terms(k: float, z: float, a: float, b: float) -> float:
    """Return the mean of (1 - (1 + z p)^-k) / p over p from Beta(a, b), from the series over the number of purchases n.

    Without churn, n is negative binomial; with churn, the expected part of n purchases is the sum over i < n of E[(1 - p)^i].
    """
    w = z / (1 + z)
    probability, survival, made, total = math.exp(-k * math.log1p(z)), 1.0, 0.0, 0.0
    for n in range(2 * _MAX_TERMS):
        made += survival
        survival *= (b + n) / (a + b + n)
        ratio = w * (k + n) / (n + 1)
        probability *= ratio
        term = probability * made
        total += term
        if term <= _EPS * total:
            # The rest is less than a geometric series: `ratio` falls, or stays below w, and `made` is concave in n.
            ratio = max(ratio, w) * (n + 2) / (n + 1)
            if ratio < 1 and term <= _EPS * total * (1 - ratio):
                break
    return total


@formula
def terms_needed(k: float, z: float) -> float:
    """Return how many terms of the series a float64 needs: 9 standard deviations, and a tail of e^-40."""
    mean = k * z
    return mean + 9 * math.sqrt(mean * (1 + z)) + 40 * (1 + z)


@formula
def has_series(k: float, z: float) -> bool:
    """Return whether a line has room for all coefficients that the series needs at z."""
    return bool(k <= _MAX_SHAPE and terms_needed(k, z) < _MAX_TERMS - _LANES)


@formula
def extend_series(line: F64, k: float, a: float, b: float, terms: int) -> None:
    """Compute the coefficients of the series up to that of w^terms; those already there stay, and the order of requests changes no bits.

    They are the terms of `mean_by_terms` without the powers of w: gamma(k + n) / (gamma(k) n!) times the sum over i < n of E[(1 - p)^i].
    They do not depend on horizon and age.
    """
    n = int(line[_LENGTH])
    ways, survival, made = line[_WAYS], line[_SURVIVAL], line[_SUM]
    while n < terms:
        made += survival
        survival *= (b + n) / (a + b + n)
        ways *= (k + n) / (n + 1)
        n += 1
        line[_SERIES + n] = ways * made
    line[_LENGTH], line[_WAYS], line[_SURVIVAL], line[_SUM] = n, ways, survival, made


@formula
def reset_line(line: F64, x: float) -> None:
    """Reset a line for customers with x repeat purchases."""
    line[HELD], line[_LENGTH], line[_WAYS], line[_SURVIVAL], line[_SUM] = x, 0.0, 1.0, 1.0, 0.0
    line[_SERIES] = 0.0
    for panel in range(_PANELS):
        line[STATES + panel] = NOT_MADE


@formula
def mean_by_series(line: F64, k: float, z: float, a: float, b: float) -> float:
    """Return the mean of `mean_by_terms` from cached coefficients: Horner's scheme, _LANES of them side by side."""
    blocks = int(terms_needed(k, z)) // _LANES + 1
    extend_series(line, k, a, b, blocks * _LANES - 1)
    w = z / (1 + z)
    w_2 = w * w
    w_4 = w_2 * w_2
    w_8 = w_4 * w_4
    w_16 = w_8 * w_8
    lanes = line[_COEFFICIENTS - _LANES : _COEFFICIENTS]
    for lane in range(_LANES):
        lanes[lane] = 0.0
    for block in range(blocks - 1, -1, -1):
        first = _SERIES + block * _LANES
        for lane in range(_LANES):
            lanes[lane] = lanes[lane] * w_16 + line[first + lane]
    for lane in range(8):
        lanes[lane] += w_8 * lanes[lane + 8]
    for lane in range(4):
        lanes[lane] += w_4 * lanes[lane + 4]
    for lane in range(2):
        lanes[lane] += w_2 * lanes[lane + 2]
    return float(math.exp(-k * math.log1p(z)) * (lanes[0] + w * lanes[1]))


@formula
def make_panel(line: F64, panel: int, k: float, z: float, a: float, b: float) -> None:
    """Compute the Chebyshev polynomial of the panel that z is in, or mark the panel NOT_CONVERGENT."""
    mantissa, octave = math.frexp(z)
    width = math.ldexp(0.5 / EIGHTHS, octave)
    low = (EIGHTHS + int((mantissa - 0.5) * (2 * EIGHTHS))) * width
    if not has_series(k, low + width):
        line[STATES + panel] = NOT_CONVERGENT
        return
    first = _COEFFICIENTS + panel * _RECORD
    for place in range(_RECORD):
        line[first + place] = 0.0
    line[STATES + panel], line[first + _LOW], line[first + _SCALE] = _MADE, low, 4 / width
    for node in range(_TERMS):
        value = mean_by_series(line, k, low + 0.5 * width * (1 + _PLACES[node]), a, b)
        for place in range(_TERMS):
            line[first + _FIRST + place] += _COSINES[place, node] * value


@formula
def mean_by_panel(line: F64, panel: int, z: float) -> float:
    """Return the mean of `mean_by_terms` from the polynomial of a panel: Clenshaw's recurrence."""
    first = _COEFFICIENTS + panel * _RECORD
    u = (z - line[first + _LOW]) * line[first + _SCALE] - 2  # twice the place in the panel, from -1 to 1
    last, before = 0.0, 0.0
    for place in range(first + _FIRST + _TERMS - 1, first + _FIRST, -1):
        last, before = u * last - before + line[place], last
    return float(0.5 * u * last - before + 0.5 * line[first + _FIRST])


@formula
def at_logit(v: float, k: float, z: float) -> tuple[float, float, float]:
    """Return ln p and ln(1 - p) at v = logit p, and (1 - (1 + z p)^-k) / p."""
    log_p, log_q = -softplus(-v), -softplus(v)
    p = math.exp(log_p)
    return log_p, log_q, -math.expm1(-k * math.log1p(z * p)) / p


@formula
def mean_by_trapezoids(k: float, z: float, a: float, b: float) -> float:
    """Return the mean of `mean_by_terms` from the trapezoidal rule in logit p, where Beta(a, b) is p^a (1 - p)^b: from its mode both ways.

    The weights are divided by their own sum, so no gamma function is needed. At both ends they become a geometric series, which is summed.
    """
    step = min(_STEP, _STEP_SD * math.sqrt(1 / a + 1 / b))
    mode = math.log(a / b)
    log_p, log_q, f = at_logit(mode, k, z)
    largest = a * log_p + b * log_q
    weights, total = 1.0, f
    for side in range(2):
        power, sign = (a, -1) if side == 0 else (b, 1)
        rate = k * z + z + b if side == 0 else k + a + 1  # how fast the summand departs from a power of p, or of 1 - p
        for n in range(1, _MAX_STEPS):
            log_p, log_q, f = at_logit(mode + sign * n * step, k, z)
            weight = math.exp(a * log_p + b * log_q - largest)
            weights += weight
            total += weight * f
            if weight <= _EPS * weights and weight * f <= _EPS * total:
                break
            if (log_p if side == 0 else log_q) < math.log(_EPS / rate):
                rest = weight / math.expm1(power * step)
                weights += rest
                total += rest * f
                break
    return total / weights


@formula
def bg_expected_purchases(k: float, rate: float, a: float, b: float, t: float) -> float:
    """Return the expected purchases within t of a customer who is alive: lambda from Gamma(k, rate), p from Beta(a, b).

    It is (a + b - 1) / (a - 1) (1 - (rate / (rate + t))^k 2F1(k, b; a + b - 1; t / (rate + t))), FHL 2005 (9).
    """
    z = t / rate
    if z <= 0:
        return 0.0
    if terms_needed(k, z) < _MAX_TERMS and k * math.log1p(z) < _LARGEST_EXPONENT:
        return mean_by_terms(k, z, a, b)
    return mean_by_trapezoids(k, z, a, b)
