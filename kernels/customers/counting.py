"""How many more purchases a customer will make, whether he is still one, and what he spends: four models of buying till you die.

While he is a customer he buys at a rate of his own, gamma distributed over customers (shape r, rate alpha). He stops:

- BG/NBD (Fader, Hardie & Lee 2005): after any repeat purchase, with a chance of his own, which is beta distributed (a, b).
- MBG/NBD (Batislam, Denizel & Filiztekin 2007): the same, and he may stop after his first purchase too.
- Pareto/NBD (Schmittlein, Morrison & Colombo 1987): at any time, at a rate of his own, which is gamma distributed (shape s, rate beta).

What he spends is apart from it: Gamma-Gamma (Fader & Hardie 2013), with p, q and v.

All three counting models are one sentence: the likelihood that he is still a customer, times 1 + the odds that he is not; and what he will
buy is P(alive) times what a living customer buys, whose own rates are distributed as before with other parameters. So each model gives only
its likelihood of living and its odds of having stopped. No formula here subtracts what is nearly equal, and each is taken in logarithms:

- The published forms with Gauss's hypergeometric function have a pole where a is 1, and cancel where t is small. For a living customer of
  the BG/NBD they are the mean of (1 - (1 + p t / alpha)^-r) / p over the beta distribution of p, which has neither. Short horizons take the
  series of this over the number of purchases, a sum of positive terms, and others the trapezoidal rule in logit p, whose error falls
  exponentially since nothing is singular near the real line (Trefethen & Weideman 2014).
- Those of the Pareto/NBD are a difference of two such functions. It is an integral over the time at which he stopped, which is taken in
  the logarithm of time: there its integrand is log-concave, and a panel of Gauss and Legendre's rule is exact to the last digits.

A time is in weeks, or in any other unit throughout. Valid input is finite: parameters above 0, x >= 0, 0 <= t_x <= T, t_x = 0 where x = 0.
"""

import math

import numpy as np

from kernels.compile import formula, on_cpu, on_cuda
from kernels.types import F64

# The models. BG/NBD and MBG/NBD are one but for this number: how often he might have stopped before his first repeat purchase.
BG_NBD, MBG_NBD, PARETO_NBD = range(3)
# The columns of what is known of a customer: x repeat purchases, the last of them at t_x, and watched until T, from the first on.
FREQUENCY, RECENCY, AGE = range(3)
# And of what he spent: x purchases, on average so much.
PURCHASES, MEAN_SPEND = range(2)
ALIVE, EXPECTED = range(2)  # the columns of `futures`: the second is the first of as many as there are horizons
PARAMETERS = 4
SPEND_PARAMETERS = 3

WEEKS_A_YEAR = 365.25 / 7

_EPS = 1e-16
_MIN_ALIVE = 2.2250738585072014e-308  # nobody is quite dead: the least normal number
_MAX_TERMS = 1000  # with more, the trapezoidal rule is quicker
_LANES = 16
_MAX_SHAPE = 200.0  # with a larger one the last coefficients would be no float64
# A panel is an eighth of an octave of t / rate. The pole at -1 is 17 of its half widths away, so that what is left out is 34^-11.
_EIGHTHS, _MIN_OCTAVE, _MAX_OCTAVE = 8, -40, 14
_MIN, _MAX = 2.0**_MIN_OCTAVE, 2.0 ** (_MAX_OCTAVE - 1)
_PANELS = (_MAX_OCTAVE - _MIN_OCTAVE) * _EIGHTHS
_TERMS = 11
_LOW, _SCALE, _FIRST = range(3)  # of a panel's record: where it begins, how wide it is, and the first of its coefficients
_RECORD = _FIRST + _TERMS
_UNKNOWN, _KNOWN, _BEYOND = 0.0, 1.0, 2.0  # the states of a panel
# A line is kept, while many customers are scored, for those who have bought as often: how often, up to where the series has been made and
# what its next coefficient is made of; the states of the panels; the coefficients of the series, in whole blocks of _LANES; the records.
_KEPT = 64
_HELD, _MADE, _WAYS, _LIVES, _SUM, _STATES = range(6)
_SERIES = _STATES + _PANELS
_COEFFICIENTS = _SERIES + 1008
_LINE = _COEFFICIENTS + _PANELS * _RECORD
_ANGLES = (np.arange(_TERMS) + 0.5) * np.pi / _TERMS
_PLACES = np.cos(_ANGLES)
_COSINES = np.cos(np.outer(np.arange(_TERMS), _ANGLES)) * (2 / _TERMS)
_MAX_EXPONENT = 709.0  # e to this is still a float64
_LARGEST_EXPONENT = 600.0  # e to the minus of this is still a normal number
# Steps in logit p: with b large the weights are those of a log-gamma variable, whose characteristic function at 2 pi / step is the error.
_STEP = 0.2
_STEP_SD = 0.5  # in standard deviations of logit p
_MAX_STEPS = 5000
_WIDEST_PANEL = 2.0
_STEEPEST_PANEL = 16.0  # the most by which the log of the integrand may change over a panel
_NEGLIGIBLE = -40.0  # log of what part of the largest is nothing
_NO_TIME = 1e-200  # the product of this with any parameter is still a normal number
_STIRLING_FROM = 10.0
_NODES, _WEIGHTS = (np.ascontiguousarray(part) for part in np.polynomial.legendre.leggauss(16))


@formula
def stirling(c: float) -> float:
    """Return the log of the gamma function at c >= 10, less (c - 1/2) ln c - c + ln(2 pi) / 2."""
    u = 1 / (c * c)
    return (1 / 12 - u * (1 / 360 - u * (1 / 1260 - u * (1 / 1680 - u * (1 / 1188 - u * 691 / 360360))))) / c


@formula
def log_rising(c: float, x: float) -> float:
    """Return ln(gamma(c + x) / gamma(c)), c > 0, x >= 0: of large c both are large and nearly equal, and their difference is not."""
    if x == 0:
        return 0.0
    if c < _STIRLING_FROM:
        return math.lgamma(c + x) - math.lgamma(c)
    return (c - 0.5) * math.log1p(x / c) + x * (math.log(c + x) - 1) + stirling(c + x) - stirling(c)


@formula
def digamma_tail(c: float) -> float:
    """Return the digamma function at c >= 10, less ln c."""
    u = 1 / (c * c)
    return -0.5 / c - u * (1 / 12 - u * (1 / 120 - u * (1 / 252 - u * (1 / 240 - u * (1 / 132 - u * 691 / 32760)))))


@formula
def digamma(c: float) -> float:
    """Return the derivative of the log of the gamma function at c > 0."""
    less = 0.0
    while c < _STIRLING_FROM:
        less += 1 / c
        c += 1
    return math.log(c) + digamma_tail(c) - less


@formula
def digamma_rise(c: float, x: float) -> float:
    """Return digamma(c + x) - digamma(c), the derivative of `log_rising` by c."""
    if x == 0:
        return 0.0
    if c < _STIRLING_FROM:
        return digamma(c + x) - digamma(c)
    return math.log1p(x / c) + digamma_tail(c + x) - digamma_tail(c)


@formula
def softplus(y: float) -> float:
    """Return ln(1 + e^y)."""
    return y + math.log1p(math.exp(-y)) if y > 0 else math.log1p(math.exp(y))


@formula
def by_terms(k: float, z: float, a: float, b: float) -> float:
    """Return the mean of (1 - (1 + z p)^-k) / p over p from Beta(a, b), from the series over the number of purchases n.

    Nobody stopping, it is n by a negative binomial; of n, he lives to make the sum over i < n of E[(1 - p)^i].
    """
    w = z / (1 + z)
    chance, lives, made, total = math.exp(-k * math.log1p(z)), 1.0, 0.0, 0.0
    for n in range(2 * _MAX_TERMS):
        made += lives
        lives *= (b + n) / (a + b + n)
        ratio = w * (k + n) / (n + 1)
        chance *= ratio
        term = chance * made
        total += term
        if term <= _EPS * total:
            # What follows is less than a geometric series: `ratio` falls, or stays below w, and `made` is concave in n.
            ratio = max(ratio, w) * (n + 2) / (n + 1)
            if ratio < 1 and term <= _EPS * total * (1 - ratio):
                break
    return total


@formula
def terms_needed(k: float, z: float) -> float:
    """Return how many terms of the series hold all but what a float64 does not: beyond are 9 standard deviations and e^-40."""
    mean = k * z
    return mean + 9 * math.sqrt(mean * (1 + z)) + 40 * (1 + z)


@formula
def has_series(k: float, z: float) -> bool:
    """Return whether the coefficients that are kept are enough."""
    return bool(k <= _MAX_SHAPE and terms_needed(k, z) < _MAX_TERMS - _LANES)


@formula
def prolong(line: F64, k: float, a: float, b: float, terms: int) -> None:
    """Make the coefficients of the series up to that of w^terms: those that are there stay; the others are the same whenever made.

    They are what `by_terms` sums but for the powers of w, and so the same for all horizons and ages: gamma(k + n) / (gamma(k) n!) times the
    sum over i < n of E[(1 - p)^i].
    """
    n = int(line[_MADE])
    ways, lives, made = line[_WAYS], line[_LIVES], line[_SUM]
    while n < terms:
        made += lives
        lives *= (b + n) / (a + b + n)
        ways *= (k + n) / (n + 1)
        n += 1
        line[_SERIES + n] = ways * made
    line[_MADE], line[_WAYS], line[_LIVES], line[_SUM] = n, ways, lives, made


@formula
def hold(line: F64, x: float) -> None:
    """Forget whose line it was."""
    line[_HELD], line[_MADE], line[_WAYS], line[_LIVES], line[_SUM] = x, 0.0, 1.0, 1.0, 0.0
    line[_SERIES] = 0.0
    for panel in range(_PANELS):
        line[_STATES + panel] = _UNKNOWN


@formula
def by_series(line: F64, k: float, z: float, a: float, b: float) -> float:
    """Return what `by_terms` does, from coefficients that are kept: Horner's scheme, _LANES of them side by side."""
    blocks = int(terms_needed(k, z)) // _LANES + 1
    prolong(line, k, a, b, blocks * _LANES - 1)
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
    """Make the Chebyshev polynomials of the panel that z lies in, or note that the series does not serve there."""
    mantissa, octave = math.frexp(z)
    width = math.ldexp(0.5 / _EIGHTHS, octave)
    low = (_EIGHTHS + int((mantissa - 0.5) * (2 * _EIGHTHS))) * width
    if not has_series(k, low + width):
        line[_STATES + panel] = _BEYOND
        return
    first = _COEFFICIENTS + panel * _RECORD
    for place in range(_RECORD):
        line[first + place] = 0.0
    line[_STATES + panel], line[first + _LOW], line[first + _SCALE] = _KNOWN, low, 4 / width
    for node in range(_TERMS):
        value = by_series(line, k, low + 0.5 * width * (1 + _PLACES[node]), a, b)
        for place in range(_TERMS):
            line[first + _FIRST + place] += _COSINES[place, node] * value


@formula
def by_panel(line: F64, panel: int, z: float) -> float:
    """Return what `by_terms` does, from the polynomials of a panel: Clenshaw's recurrence."""
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
def by_trapezoids(k: float, z: float, a: float, b: float) -> float:
    """Return what `by_terms` does, from the trapezoidal rule in logit p, in which Beta(a, b) is p^a (1 - p)^b: from its mode both ways.

    The weights are divided by their own sum, so no gamma function is needed. At both ends they become a geometric series, which is summed.
    """
    step = min(_STEP, _STEP_SD * math.sqrt(1 / a + 1 / b))
    mode = math.log(a / b)
    log_p, log_q, f = at_logit(mode, k, z)
    largest = a * log_p + b * log_q
    weights, total = 1.0, f
    for side in range(2):
        power, sign = (a, -1) if side == 0 else (b, 1)
        rate = k * z + z + b if side == 0 else k + a + 1  # how fast the summand departs from the power of p, or of 1 - p
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
def bought_till_stopped(k: float, rate: float, a: float, b: float, t: float) -> float:
    """Return the expected purchases within t of one who is a customer: lambda from Gamma(k, rate), p from Beta(a, b).

    It is (a + b - 1) / (a - 1) (1 - (rate / (rate + t))^k 2F1(k, b; a + b - 1; t / (rate + t))), FHL 2005 (9).
    """
    z = t / rate
    if z <= 0:
        return 0.0
    if terms_needed(k, z) < _MAX_TERMS and k * math.log1p(z) < _LARGEST_EXPONENT:
        return by_terms(k, z, a, b)
    return by_trapezoids(k, z, a, b)


@formula
def bought_till_lost(k: float, rate: float, s: float, beta: float, t: float) -> float:
    """Return the same where he is lost at a rate from Gamma(s, beta): k beta / (rate (s - 1)) (1 - (beta / (beta + t))^(s - 1)).

    SMC 1987 (17).
    """
    logs = math.log1p(t / beta)
    exponent = (s - 1) * logs
    share = 1.0 if exponent == 0 else -math.expm1(-exponent) / exponent  # where s is 1 it is a logarithm
    return k / rate * beta * logs * share


@formula
def slope_at(y: float, near: float, far: float, power: float, other_power: float) -> float:
    """Return the slope of the log of what `lost` integrates, which falls with y. near, far: the smaller scale and the other, at y = 0."""
    return 1 - power - other_power * near / (near + (far - near) * math.exp(-y))


@formula
def lost(params: F64, x: float, t_x: float, age: float) -> tuple[float, float, float, float, float]:
    """Return the log odds that a customer of the Pareto/NBD has been lost between t_x and T, and their derivatives by the parameters.

    The odds are the integral from t_x to T over tau of s (alpha + T)^k (beta + T)^s / ((alpha + tau)^k (beta + tau)^(s + 1)), with
    k = r + x (SMC 1987, appendix; Fader & Hardie 2005, "A note on deriving the Pareto/NBD model"). It is taken in
    y = ln((m + tau) / (m + mode)), m the smaller of alpha and beta, from the mode both ways till what follows is nothing.
    """
    r, alpha, s, beta = params[0], params[1], params[2], params[3]
    k = r + x
    alpha_near = alpha <= beta
    near, far = min(alpha, beta) + t_x, max(alpha, beta) + t_x
    power, other_power = (k, s + 1) if alpha_near else (s + 1, k)
    end = math.log1p((age - t_x) / near)
    if end < _NO_TIME:
        return -math.inf, 0.0, 0.0, 0.0, 0.0
    shift, high = 0.0, end
    if slope_at(0.0, near, far, power, other_power) > 0:
        if slope_at(end, near, far, power, other_power) >= 0:
            shift = end
        else:
            for _ in range(30):  # to be near the mode is enough
                middle = 0.5 * (shift + high)
                if slope_at(middle, near, far, power, other_power) > 0:
                    shift = middle
                else:
                    high = middle
    mode = t_x + near * math.expm1(shift)
    near, far = near + (mode - t_x), far + (mode - t_x)
    total = sum_alpha = sum_alpha_rate = sum_beta = sum_beta_rate = 0.0
    for side in range(2):
        sign, length = (-1, shift) if side == 0 else (1, end - shift)
        start = 0.0
        while start < length:
            width = min(_WIDEST_PANEL, length - start)
            while abs(slope_at(sign * (start + width), near, far, power, other_power)) * width > _STEEPEST_PANEL:
                width *= 0.5
            for node in range(len(_NODES)):
                y = sign * (start + 0.5 * width * (1 + _NODES[node]))
                later = near * math.expm1(y)
                other = math.log1p(later / far)
                weight = _WEIGHTS[node] * 0.5 * width * math.exp((1 - power) * y - other_power * other)
                log_alpha, log_beta = (y, other) if alpha_near else (other, y)
                total += weight
                sum_alpha += weight * log_alpha
                sum_beta += weight * log_beta
                sum_alpha_rate += weight / (alpha + mode + later)
                sum_beta_rate += weight / (beta + mode + later)
            start += width
            reached = near * math.expm1(sign * start)
            if (1 - power) * sign * start - other_power * math.log1p(reached / far) < _NEGLIGIBLE:
                break
    from_alpha, from_beta = math.log1p((age - mode) / (alpha + mode)), math.log1p((age - mode) / (beta + mode))
    odds = k * from_alpha + s * from_beta + math.log(s * (near / (beta + mode)) * total)
    return (
        odds,
        from_alpha - sum_alpha / total,
        k * (1 / (alpha + age) - sum_alpha_rate / total),
        1 / s + from_beta - sum_beta / total,
        s / (beta + age) - (s + 1) * sum_beta_rate / total,
    )


@formula
def stopped(first: int, params: F64, x: float, t_x: float, age: float) -> tuple[float, float, float, float, float]:
    """Return the log odds that a customer of the BG/NBD, or the MBG/NBD, has stopped at t_x, and their derivatives by the parameters.

    They are a / (b + n - 1) ((alpha + T) / (alpha + t_x))^(r + x), FHL 2005 (6) and (10). n: how often he might have stopped, x + `first`.
    """
    r, alpha, a, b = params[0], params[1], params[2], params[3]
    n = x + first
    if n <= 0:
        return -math.inf, 0.0, 0.0, 0.0, 0.0
    logs = math.log1p((age - t_x) / (alpha + t_x))
    odds = math.log(a / (b + n - 1)) + (r + x) * logs
    return odds, logs, (r + x) * (t_x - age) / ((alpha + age) * (alpha + t_x)), 1 / a, -1 / (b + n - 1)


@formula
def gone(model: int, params: F64, x: float, t_x: float, age: float) -> tuple[float, float, float, float, float]:
    """Return the log odds that he is no customer any more, and their derivatives by the four parameters."""
    if model == PARETO_NBD:
        return lost(params, x, t_x, age)
    return stopped(model, params, x, t_x, age)


@formula
def stayed(model: int, params: F64, x: float, age: float) -> tuple[float, float, float]:
    """Return the log of the chance that he has not stopped until T, and its derivatives by the last two parameters."""
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
    odds, odds_1, odds_2, odds_3, odds_4 = gone(model, params, x, t_x, age)
    log_stayed, stayed_3, stayed_4 = stayed(model, params, x, age)
    log_odds = softplus(odds)
    is_gone = math.exp(odds - log_odds)
    logs = math.log1p(age / alpha)
    buys = log_rising(r, x) - r * logs - x * math.log(alpha + age)
    return (
        buys + log_stayed + log_odds,
        r * (digamma_rise(r, x) - logs + is_gone * odds_1),
        r * (age / (alpha + age)) - x * (alpha / (alpha + age)) + alpha * is_gone * odds_2,
        third * (stayed_3 + is_gone * odds_3),
        fourth * (stayed_4 + is_gone * odds_4),
    )


@formula
def alive(model: int, params: F64, x: float, t_x: float, age: float) -> float:
    """Return the probability that he is still a customer at T, above 0 and at most 1."""
    if model == PARETO_NBD:
        odds, _, _, _, _ = lost(params, x, t_x, age)
        return float(max(1 / (1 + math.exp(min(odds, _MAX_EXPONENT))), _MIN_ALIVE))
    n = x + model
    if n <= 0:
        return 1.0
    silent = math.exp(min((params[0] + x) * math.log1p((age - t_x) / (params[1] + t_x)), _MAX_EXPONENT))
    return float(max(1 / (1 + params[2] / (params[3] + n - 1) * silent), _MIN_ALIVE))


@formula
def bought_by_alive(model: int, params: F64, x: float, age: float, t: float) -> float:
    """Return the expected purchases from T to T + t of one who is a customer at T."""
    r, alpha = params[0], params[1]
    if model == PARETO_NBD:
        return bought_till_lost(r + x, alpha + age, params[2], params[3] + age, t)
    return bought_till_stopped(r + x, alpha + age, params[2], params[3] + x + model, t)


@formula
def place_of(lines: F64, x: float) -> int:
    """Return which of the lines, float64 [lines, _LINE], is kept for who has bought x times again."""
    place = int(x) % len(lines)
    if lines[place, _HELD] != x:
        hold(lines[place], x)
    return place


@formula
def bought_by_horizon(model: int, params: F64, x: float, age: float, t: float, lines: F64) -> float:
    """Return what `bought_by_alive` does, to a few last digits, from panels: they are worth being made for a horizon that many share."""
    k, z = params[0] + x, t / (params[1] + age)
    if model == PARETO_NBD or not _MIN < z < _MAX:
        return bought_by_alive(model, params, x, age, t)
    line = lines[place_of(lines, x)]
    mantissa, octave = math.frexp(z)
    panel = (octave - _MIN_OCTAVE) * _EIGHTHS + int((mantissa - 0.5) * (2 * _EIGHTHS))
    if line[_STATES + panel] == _UNKNOWN:
        make_panel(line, panel, k, z, params[2], params[3] + x + model)
    if line[_STATES + panel] == _BEYOND:
        return bought_by_alive(model, params, x, age, t)
    return by_panel(line, panel, z)


@formula
def bought_by_period(model: int, params: F64, x: float, age: float, t: float, lines: F64) -> float:
    """Return the same from the series, for one of many horizons."""
    k, z = params[0] + x, t / (params[1] + age)
    if model == PARETO_NBD or z <= 0 or not has_series(k, z):
        return bought_by_alive(model, params, x, age, t)
    return by_series(lines[place_of(lines, x)], k, z, params[2], params[3] + x + model)


@formula
def future_of(row: int, model: int, params: F64, seen: F64, horizons: F64, out: F64) -> None:
    """Write P(alive) of a customer, and what he is expected to buy within each horizon; the arrays are those of `futures`."""
    x, t_x, age = seen[row, FREQUENCY], seen[row, RECENCY], seen[row, AGE]
    is_alive = alive(model, params, x, t_x, age)
    out[row, ALIVE] = is_alive
    for place in range(len(horizons)):
        out[row, EXPECTED + place] = is_alive * bought_by_alive(model, params, x, age, horizons[place])


@formula
def worth_at(weeks: float, rate: float) -> float:
    """Return what a purchase after so many weeks is worth, at a yearly rate."""
    return math.exp(-math.log1p(rate) * weeks / WEEKS_A_YEAR)


@formula
def discounted_of(row: int, model: int, params: F64, seen: F64, weeks: float, rate: float, period: float, out: F64) -> None:
    """Write the present value of a customer's purchases; the arrays are those of `discounted`."""
    x, age = seen[row, FREQUENCY], seen[row, AGE]
    before, total = 0.0, 0.0
    for place in range(math.ceil(weeks / period)):
        end = min((place + 1) * period, weeks)
        until = bought_by_alive(model, params, x, age, end)
        total += (until - before) * worth_at(end, rate)
        before = until
    out[row] = alive(model, params, x, seen[row, RECENCY], age) * total


@formula
def mean_spend_of(row: int, params: F64, spent: F64, out: F64) -> None:
    """Write a customer's expected spend; the arrays are those of `mean_spends`."""
    p, q, v = params[0], params[1], params[2]
    x = spent[row, PURCHASES]
    below = p * x + q - 1
    out[row] = p * (v + x * spent[row, MEAN_SPEND]) / below if below > 0 else math.inf


@formula
def new_customer(model: int, params: F64, t: float) -> float:
    """Return the expected purchases of a new customer: who by the MBG/NBD may have stopped at once, with the chance a / (a + b)."""
    begins = params[3] / (params[2] + params[3]) if model == MBG_NBD else 1.0
    return float(begins * bought_by_alive(model, params, 0.0, 0.0, t))


@formula
def fraction(x: float, r: float, w: float) -> float:
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
def at_least(x: float, r: float, z: float) -> float:
    """Return the chance that one who does not stop buys x >= 1 times or more: the tail of the NBD, the incomplete beta function."""
    w = z / (1 + z)
    size = math.exp(log_rising(x, r) - math.lgamma(r) - x * math.log1p(1 / z) - r * math.log1p(z))
    if w * (x + r + 2) < x + 1:
        return min(size * fraction(x, r, w) / x, 1.0)
    return max(1 - size * fraction(r, x, 1 / (1 + z)) / r, 0.0)


@formula
def probability(model: int, params: F64, t: float, x: float) -> float:
    """Return P(X(t) = x) of a new customer of the BG/NBD or MBG/NBD: he lives and buys x times, or he has stopped after the x-th."""
    r, alpha, a, b = params[0], params[1], params[2], params[3]
    z, n = t / alpha, x + model
    if z <= 0:
        return 1.0 if x == 0 else 0.0
    log_stayed = log_rising(b, n) - log_rising(a + b, n)
    bought = log_rising(r, x) - math.lgamma(x + 1) - r * math.log1p(z) - x * math.log1p(1 / z)
    lives = math.exp(log_stayed + bought)
    if n == 0:
        return lives
    reached = at_least(x, r, z) if x > 0 else 1.0
    return float(lives + math.exp(log_stayed) * a / (b + n - 1) * reached)


@formula
def spend_log_likelihood_of(row: int, params: F64, spent: F64) -> tuple[float, float, float, float]:
    """Return the log-likelihood of what a customer spends on average, and its derivatives by the logs of p, q and v."""
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
def log_likelihoods(model: int, params: F64, seen: F64, out: F64) -> None:
    """Write each customer's log-likelihood, and its derivatives by the logs of the parameters.

    model: BG_NBD, MBG_NBD or PARETO_NBD. params: float64 [4], r, alpha, a, b of the first two, r, alpha, s, beta of the third.
    seen: float64 [customers, 3], FREQUENCY, RECENCY and AGE, in weeks. out: float64 [customers, 1 + 4]. BG/NBD: FHL 2005 (6);
    MBG/NBD: Batislam et al. 2007, likelihood; Pareto/NBD: SMC 1987, appendix, in the form of Fader & Hardie 2005, "A note on deriving the
    Pareto/NBD model and related expressions", as an integral. The derivatives are exact, by formula or under the integral.
    """
    for row in range(len(seen)):
        out[row, 0], out[row, 1], out[row, 2], out[row, 3], out[row, 4] = log_likelihood_of(row, model, params, seen)


@on_cpu
def log_likelihood(model: int, params: F64, seen: F64, counts: F64) -> F64:
    """Return the sum of `log_likelihoods`, float64 [1 + 4]. counts: float64 [customers], how many are like each; or [0]: one."""
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
def futures(model: int, params: F64, seen: F64, horizons: F64, out: F64) -> None:
    """Write P(alive) of each customer at T, and what he is expected to buy from T to T + t, for each horizon t.

    model, params, seen: those of `log_likelihoods`. horizons: float64 [horizons], weeks, from 0 to any length. out: float64 [customers,
    1 + horizons], ALIVE and then EXPECTED. BG/NBD: FHL 2005 (10); MBG/NBD: Batislam et al. 2007; Pareto/NBD: SMC 1987 (11) to (13), (22).
    """
    lines = np.empty((max(1, min(_KEPT, len(seen))), _LINE))
    lines[:, _HELD] = -1
    for row in range(len(seen)):
        x, t_x, age = seen[row, FREQUENCY], seen[row, RECENCY], seen[row, AGE]
        is_alive = alive(model, params, x, t_x, age)
        out[row, ALIVE] = is_alive
        for place in range(len(horizons)):
            out[row, EXPECTED + place] = is_alive * bought_by_horizon(model, params, x, age, horizons[place], lines)


futures_on_cuda = on_cuda(future_of)


@on_cpu
def new_customers(model: int, params: F64, horizons: F64, out: F64) -> None:
    """Write E[X(t)], the expected repeat purchases of a new customer, for each horizon t.

    horizons: float64 [horizons], weeks; out: as many. BG/NBD: FHL 2005 (9); MBG/NBD: Batislam et al. 2007; Pareto/NBD: SMC 1987 (17).
    """
    for place in range(len(horizons)):
        out[place] = new_customer(model, params, horizons[place])


@on_cpu
def discounted(model: int, params: F64, seen: F64, weeks: float, rate: float, period: float, out: F64) -> None:
    """Write the expected purchases of each customer within `weeks` from T, each worth less the later it is: their present value.

    The sum over periods i = 1, 2, ... of what he is expected to buy in the i-th, times (1 + rate)^-(its end / 52.18 weeks): a purchase
    counts as if made at the end of its period. rate: yearly, 0.1 for 10 %. period: weeks, 1 is usual; the last one may be shorter.
    out: float64 [customers]. Times what he spends at a purchase (`mean_spends`) and the margin, it is his value (Fader, Hardie & Lee 2005,
    "RFM and CLV").
    """
    periods = math.ceil(weeks / period)
    lines = np.empty((max(1, min(_KEPT, len(seen))), _LINE))
    lines[:, _HELD] = -1
    for row in range(len(seen)):
        x, age = seen[row, FREQUENCY], seen[row, AGE]
        before, total = 0.0, 0.0
        for place in range(periods):
            end = min((place + 1) * period, weeks)
            until = bought_by_period(model, params, x, age, end, lines)
            total += (until - before) * worth_at(end, rate)
            before = until
        out[row] = alive(model, params, x, seen[row, RECENCY], age) * total


discounted_on_cuda = on_cuda(discounted_of)


@on_cpu
def purchase_probabilities(model: int, params: F64, t: float, out: F64) -> None:
    """Write P(X(t) = x), the chance that a new customer buys x times again within t weeks, for x = 0, 1, ... len(out) - 1.

    model: BG_NBD (FHL 2005 (8)) or MBG_NBD, which it is with one chance more to stop; there is no such form of the Pareto/NBD here.
    """
    for x in range(len(out)):
        out[x] = probability(model, params, t, float(x))


@on_cpu
def spend_log_likelihoods(params: F64, spent: F64, out: F64) -> None:
    """Write the log-likelihood of each customer's mean spend, and its derivatives by the logs of the parameters.

    params: float64 [3], p, q, v. spent: float64 [customers, 2], PURCHASES (at least 1) and MEAN_SPEND (above 0, in money). out: float64
    [customers, 1 + 3]. Gamma-Gamma: Fader & Hardie 2013, "The gamma-gamma model of monetary value", (1a). Derivatives are exact.
    """
    for row in range(len(spent)):
        out[row, 0], out[row, 1], out[row, 2], out[row, 3] = spend_log_likelihood_of(row, params, spent)


@on_cpu
def spend_log_likelihood(params: F64, spent: F64, counts: F64) -> F64:
    """Return the sum of `spend_log_likelihoods`, float64 [1 + 3]. counts: float64 [customers], how many are like each; or [0]: one."""
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
    """Write what each customer is expected to spend at a purchase, given what he has: p (v + x mean) / (p x + q - 1).

    params, spent: those of `spend_log_likelihoods`; PURCHASES may be 0 here, which leaves the mean of all customers, p v / (q - 1).
    out: float64 [customers], infinite where p x + q is 1 or less: the distribution then has no mean. Fader & Hardie 2013 (5).
    """
    for row in range(len(spent)):
        mean_spend_of(row, params, spent, out)


mean_spends_on_cuda = on_cuda(mean_spend_of)
