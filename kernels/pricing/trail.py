"""The best price of a product as its rules apply one after the other: by demand alone, with the stock, then within each guard rail."""

import math

import numpy as np

from kernels.compile import formula, on_cpu
from kernels.pricing.demand import terms
from kernels.pricing.ladder import (
    EDGES,
    ELASTICITY,
    PRICE,
    QUANTITY,
    RISK,
    SD,
    STOCK,
    mean_exponentials,
    multiplier,
    objective,
    unit_value,
)
from kernels.types import F64

# The columns of a trail. BEST: within all rules; FREE: by demand alone; STOCKED: with the stock, without a guard rail; LOWEST and HIGHEST
# price of the ladder; BINDING: the last rule that moved the price.
BEST, FREE, STOCKED, SHADOW_PRICE, LOWEST, HIGHEST, BINDING = range(7)
STEPS = 7  # from here on a pair for each guard rail: its bound that moved the price, and the price then; NaN where it moved none
NO_RULE, STOCK_RULE, FIRST_RAIL = range(3)  # values of BINDING; guard rail k is FIRST_RAIL + k


def width(rails: int) -> int:
    """Return the number of columns of a trail with so many guard rails."""
    return STEPS + 2 * rails


@formula
def beyond(price: float, low: float, high: float) -> float:
    """Return how far a price is outside a band, 0 within it."""
    return max(low - price, price - high, 0.0)


@formula
def best_kept(row: int, number: int, count: int, price: F64, value: F64, rails: F64, kept: F64) -> int:
    """Return the rung with the highest value, the first of equals, of those that keep the first `number` guard rails.

    A rail that no rung keeps together with those after it is kept as nearly as possible. kept: float64 [rungs], work space.
    """
    kept[:count] = 1.0
    for back in range(number):
        low, high, least = rails[row, number - 1 - back, 0], rails[row, number - 1 - back, 1], math.inf
        for step in range(count):
            if kept[step] > 0:
                least = min(least, beyond(price[step], low, high))
        for step in range(count):
            if beyond(price[step], low, high) > least:
                kept[step] = 0.0
    best, highest = -1, -math.inf
    for step in range(count):
        if kept[step] > 0 and value[step] > highest:
            best, highest = step, value[step]
    return best


@formula
def any_between(one: float, other: float, count: int, price: F64) -> bool:
    """Return whether a rung is strictly between two prices."""
    low, high, between = min(one, other), max(one, other), 0
    for step in range(count):
        between += int(low < price[step] < high)
    return between > 0


@on_cpu
def trails(ladder: F64, inputs: F64, rails: F64, out: F64) -> None:
    """Write the trail of every product: its price after each rule.

    ladder: float64 [products, rungs + EDGES], prices, NaN where a ladder is shorter; its last rungs are those of
    `kernels.pricing.ladder.add_edges`, and possible only once a guard rail moves the price. inputs: float64 [products,
    kernels.pricing.ladder.INPUTS], whose LOW, HIGH and TICK are not read. rails: float64 [products, rails, 2], the lowest and the highest
    price that each guard rail allows, a later one taking precedence. out: float64 [products, width(rails)].

    A rail that no rung keeps together with those after it is kept as nearly as possible. BEST is NaN where no rung keeps the last rail.
    """
    rungs, number_of_rails = ladder.shape[1] - EDGES, rails.shape[1]
    work = np.zeros((10, rungs + EDGES))
    price, log_ratio, a, certain, mean, second = work[0], work[1], work[2], work[3], work[4], work[5]
    demand_sd, value, kept, other = work[6], work[7], work[8], work[9]
    for row in range(len(inputs)):
        base, count, common = inputs[row, PRICE], 0, 0
        lowest, highest = base, base
        for step in range(rungs + EDGES):
            here = ladder[row, step]
            if here != here or (step >= rungs and here == price[0]):
                continue
            price[count] = here
            log_ratio[count] = math.log(here / base)
            count += 1
            lowest, highest = min(lowest, here), max(highest, here)
            if step < rungs:
                common = count
        number = terms(2 * inputs[row, SD] * max(math.log(highest / base), math.log(base / lowest)))
        quantity, elasticity, sd, stock = inputs[row, QUANTITY], inputs[row, ELASTICITY], inputs[row, SD], inputs[row, STOCK]
        for step in range(count):
            a[step] = sd * log_ratio[step]
            certain[step] = quantity * math.exp(elasticity * log_ratio[step])
        mean_exponentials(a, 1.0, count, number, mean)
        if inputs[row, RISK] > 0:
            mean_exponentials(a, 2.0, count, number, second)
        for step in range(count):
            demand_sd[step] = certain[step] * math.sqrt(max(second[step] - mean[step] * mean[step], 0.0)) if inputs[row, RISK] > 0 else 0.0
            mean[step] *= certain[step]
            other[step] = objective(price[step], mean[step], demand_sd[step], math.inf, row, inputs)
            value[step] = objective(price[step], mean[step], demand_sd[step], stock, row, inputs)
        free, at = best_kept(row, 0, common, price, other, rails, kept), best_kept(row, 0, common, price, value, rails, kept)
        out[row, FREE], out[row, STOCKED] = price[free], price[at]
        out[row, LOWEST], out[row, HIGHEST] = price[:common].min(), price[:common].max()
        out[row, BINDING] = NO_RULE if price[at] == price[free] else STOCK_RULE
        out[row, STEPS:] = math.nan
        for rail in range(number_of_rails):
            low, high = rails[row, rail, 0], rails[row, rail, 1]
            if low <= price[at] <= high:  # what is best of more prices is best of fewer
                continue
            then, bound = best_kept(row, rail + 1, count, price, value, rails, kept), min(max(price[at], low), high)
            if price[then] == price[at]:  # no rung is nearer to the band
                continue
            out[row, STEPS + 2 * rail] = price[then] if any_between(bound, price[then], count, price) else bound
            out[row, STEPS + 2 * rail + 1], out[row, BINDING] = price[then], FIRST_RAIL + rail
            at = then
        last = number_of_rails - 1
        if beyond(price[at], rails[row, last, 0], rails[row, last, 1]) > 0:
            out[row, BEST], out[row, SHADOW_PRICE], out[row, BINDING] = math.nan, 0.0, FIRST_RAIL + last
            out[row, STEPS + 2 * last :] = math.nan
            continue
        out[row, BEST] = price[at]
        for step in range(count):
            other[step] = objective(price[step], mean[step], demand_sd[step], stock + 1, row, inputs)
        more = best_kept(row, number_of_rails, count, price, other, rails, kept)
        # With an infinite stock both values are the same.
        sold = min(mean[more], stock + 1)
        out[row, SHADOW_PRICE] = multiplier(value[at], other[more], unit_value(price[more], row, inputs), sold)
