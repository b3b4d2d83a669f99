"""P(alive) and the expected purchases of customers within a time, discounted or not, by the models of `kernels.customers.counting`."""

import math

import numpy as np

from kernels.compile import formula, on_cpu, on_cuda
from kernels.customers.bg_nbd import (
    EIGHTHS,
    HELD,
    LINE,
    MAX_Z,
    MIN_OCTAVE,
    MIN_Z,
    NOT_CONVERGENT,
    NOT_MADE,
    STATES,
    bg_expected_purchases,
    has_series,
    make_panel,
    mean_by_panel,
    mean_by_series,
    reset_line,
)
from kernels.customers.counting import AGE, FREQUENCY, MBG_NBD, PARETO_NBD, RECENCY, alive
from kernels.customers.pareto_nbd import pareto_expected_purchases
from kernels.types import F64

ALIVE, EXPECTED = range(2)  # the columns of `expected_purchases`: EXPECTED is the first of as many as there are horizons
WEEKS_A_YEAR = 365.25 / 7
_MAX_LINES = 64


@formula
def expected_if_alive(model: int, params: F64, x: float, age: float, t: float) -> float:
    """Return the expected purchases from T to T + t of a customer who is alive at T."""
    r, alpha = params[0], params[1]
    if model == PARETO_NBD:
        return pareto_expected_purchases(r + x, alpha + age, params[2], params[3] + age, t)
    return bg_expected_purchases(r + x, alpha + age, params[2], params[3] + x + model, t)


@formula
def line_of(lines: F64, x: float) -> int:
    """Return which of the lines, float64 [lines, LINE], belongs to customers with x repeat purchases; reset it if it had another number."""
    place = int(x) % len(lines)
    if lines[place, HELD] != x:
        reset_line(lines[place], x)
    return place


@formula
def expected_by_panel(model: int, params: F64, x: float, age: float, t: float, lines: F64) -> float:
    """Return `expected_if_alive` within 1e-12 of it, from panels: worth their cost for a horizon that many customers share."""
    k, z = params[0] + x, t / (params[1] + age)
    if model == PARETO_NBD or not MIN_Z < z < MAX_Z:
        return expected_if_alive(model, params, x, age, t)
    line = lines[line_of(lines, x)]
    mantissa, octave = math.frexp(z)
    panel = (octave - MIN_OCTAVE) * EIGHTHS + int((mantissa - 0.5) * (2 * EIGHTHS))
    if line[STATES + panel] == NOT_MADE:
        make_panel(line, panel, k, z, params[2], params[3] + x + model)
    if line[STATES + panel] == NOT_CONVERGENT:
        return expected_if_alive(model, params, x, age, t)
    return mean_by_panel(line, panel, z)


@formula
def expected_by_series(model: int, params: F64, x: float, age: float, t: float, lines: F64) -> float:
    """Return `expected_if_alive` from the series, for one of many horizons."""
    k, z = params[0] + x, t / (params[1] + age)
    if model == PARETO_NBD or z <= 0 or not has_series(k, z):
        return expected_if_alive(model, params, x, age, t)
    return mean_by_series(lines[line_of(lines, x)], k, z, params[2], params[3] + x + model)


@formula
def expected_purchases_of(row: int, model: int, params: F64, seen: F64, horizons: F64, out: F64) -> None:
    """Write P(alive) of a customer and their expected purchases within each horizon; the arrays are those of `expected_purchases`."""
    x, t_x, age = seen[row, FREQUENCY], seen[row, RECENCY], seen[row, AGE]
    is_alive = alive(model, params, x, t_x, age)
    out[row, ALIVE] = is_alive
    for place in range(len(horizons)):
        out[row, EXPECTED + place] = is_alive * expected_if_alive(model, params, x, age, horizons[place])


@formula
def discount(weeks: float, rate: float) -> float:
    """Return the present value of 1 after so many weeks, at a yearly rate."""
    return math.exp(-math.log1p(rate) * weeks / WEEKS_A_YEAR)


@formula
def discounted_purchases_of(row: int, model: int, params: F64, seen: F64, weeks: float, rate: float, period: float, out: F64) -> None:
    """Write the present value of a customer's purchases; the arrays are those of `discounted_purchases`."""
    x, age = seen[row, FREQUENCY], seen[row, AGE]
    before, total = 0.0, 0.0
    for place in range(math.ceil(weeks / period)):
        end = min((place + 1) * period, weeks)
        until = expected_if_alive(model, params, x, age, end)
        total += (until - before) * discount(end, rate)
        before = until
    out[row] = alive(model, params, x, seen[row, RECENCY], age) * total


@formula
def new_customer_purchases_of(model: int, params: F64, t: float) -> float:
    """Return the expected purchases of a new customer; by the MBG/NBD they have churned at once with probability a / (a + b)."""
    begins = params[3] / (params[2] + params[3]) if model == MBG_NBD else 1.0
    return float(begins * expected_if_alive(model, params, 0.0, 0.0, t))


@on_cpu
def expected_purchases(model: int, params: F64, seen: F64, horizons: F64, out: F64) -> None:
    """Write P(alive) of each customer at T, and their expected purchases from T to T + t, for each horizon t.

    model, params, seen: as for `counting.log_likelihoods`. horizons: float64 [horizons], weeks, 0 or more. out: float64 [customers,
    1 + horizons]: ALIVE, then EXPECTED. BG/NBD: FHL 2005 (10); MBG/NBD: Batislam et al. 2007; Pareto/NBD: SMC 1987 (11) to (13), (22).
    """
    lines = np.empty((max(1, min(_MAX_LINES, len(seen))), LINE))
    lines[:, HELD] = -1
    for row in range(len(seen)):
        x, t_x, age = seen[row, FREQUENCY], seen[row, RECENCY], seen[row, AGE]
        is_alive = alive(model, params, x, t_x, age)
        out[row, ALIVE] = is_alive
        for place in range(len(horizons)):
            out[row, EXPECTED + place] = is_alive * expected_by_panel(model, params, x, age, horizons[place], lines)


expected_purchases_on_cuda = on_cuda(expected_purchases_of)


@on_cpu
def new_customer_purchases(model: int, params: F64, horizons: F64, out: F64) -> None:
    """Write E[X(t)], the expected repeat purchases of a new customer, for each horizon t.

    model, params: as for `counting.log_likelihoods`. horizons: float64 [horizons], weeks; out: float64 [horizons]. BG/NBD: FHL 2005 (9);
    MBG/NBD: Batislam et al. 2007; Pareto/NBD: SMC 1987 (17).
    """
    for place in range(len(horizons)):
        out[place] = new_customer_purchases_of(model, params, horizons[place])


@on_cpu
def discounted_purchases(model: int, params: F64, seen: F64, weeks: float, rate: float, period: float, out: F64) -> None:
    """Write the expected purchases of each customer within `weeks` from T, discounted to T.

    The sum over periods i = 1, 2, ... of the expected purchases in the i-th, times (1 + rate)^-(its end / 52.18 weeks): a purchase counts
    as made at the end of its period. rate: yearly, 0.1 for 10 %. period: weeks, 1 is usual; the last one may be shorter. model, params,
    seen: as for `counting.log_likelihoods`. out: float64 [customers]. Times the spend at a purchase (`spend.mean_spends`) and the margin,
    it is the customer's lifetime value (Fader, Hardie & Lee 2005, "RFM and CLV").
    """
    periods = math.ceil(weeks / period)
    lines = np.empty((max(1, min(_MAX_LINES, len(seen))), LINE))
    lines[:, HELD] = -1
    for row in range(len(seen)):
        x, age = seen[row, FREQUENCY], seen[row, AGE]
        before, total = 0.0, 0.0
        for place in range(periods):
            end = min((place + 1) * period, weeks)
            until = expected_by_series(model, params, x, age, end, lines)
            total += (until - before) * discount(end, rate)
            before = until
        out[row] = alive(model, params, x, seen[row, RECENCY], age) * total


discounted_purchases_on_cuda = on_cuda(discounted_purchases_of)
