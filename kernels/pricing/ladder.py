"""The best price on a ladder: the expected objective at each rung, over draws of the elasticity, less a penalty for its risk."""

import math

import numpy as np

from kernels.compile import formula, on_cpu, on_cuda
from kernels.pricing.demand import DRAWS, SERIES, Z, mean_exponential, relative_demand, terms
from kernels.types import F64, Bool

# The columns of a product's inputs, and of the outputs.
PRICE, QUANTITY, ELASTICITY, SD, COST, LOW, HIGH, STOCK, PROFIT_WEIGHT, REVENUE_WEIGHT, RISK, TICK = range(12)
INPUTS = 12
PRICES = -1.0  # instead of a TICK: a ladder of one row holds prices, not ratios
BEST, DEMAND, DEMAND_SD, VALUE, SHADOW_PRICE = range(5)
OUTPUTS = 5
# The columns of the changes: three means, three at one interval end and three at the other, and the confidence.
DEMAND_CHANGE, REVENUE_CHANGE, PROFIT_CHANGE = range(3)
CONFIDENCE, CHANGES = 9, 10
EDGES = 2  # the prices next to the bounds, the last of a ladder
EDGE_TOLERANCE = 1e-9  # of a tick: bounds such as a margin have no exact binary form
_MIN_WHOLE = 2.0**52  # from here on every float64 is a whole number
_MAX_SCALE = 1e10  # more than the decimals of any tick
# A multiplier (shadow price) below this share of the objective is the rounding of its two values: the constraint does not bind.
MULTIPLIER_TOLERANCE = 1e-12


@formula
def round_half_even(number: float) -> float:
    """Return the nearest whole number, of two as near the even one: np.rint, which CUDA does not have."""
    whole = math.copysign(_MIN_WHOLE, number)
    return number if abs(number) >= _MIN_WHOLE else (number + whole) - whole


@formula
def write_change(row: int, at: int, price: float, base: float, cost: float, before: float, after: float, out: F64) -> None:
    """Write the changes of demand, revenue and profit, one after the other."""
    out[row, at] = after - before
    out[row, at + 1] = price * after - base * before
    out[row, at + 2] = (price - cost) * after - (base - cost) * before


@formula
def ticked(price: float, tick: float) -> float:
    """Return the multiple of `tick` nearest to a price, as the float64 nearest to its decimal digits where `tick` has at most nine."""
    if tick <= 0:
        return price
    parts = round_half_even(1 / tick)
    if abs(parts * tick - 1) < 1e-9:
        return float(round_half_even(price * parts) / parts)
    number, scale = round_half_even(price / tick), 1.0
    while scale < _MAX_SCALE and abs(tick * scale - round_half_even(tick * scale)) > 1e-9 * tick * scale:
        scale *= 10
    return float(number * round_half_even(tick * scale) / scale) if scale < _MAX_SCALE else float(number * tick)


@formula
def rung(row: int, step: int, ladder: F64, inputs: F64) -> float:
    """Return the price of a rung: the ladder's own where it has a row for each product, else a ratio times the product's price."""
    if len(ladder) > 1 or inputs[row, TICK] < 0:
        return float(ladder[row if len(ladder) > 1 else 0, step])
    return ticked(float(ladder[0, step] * inputs[row, PRICE]), inputs[row, TICK])


@formula
def unit_value(price: float, row: int, inputs: F64) -> float:
    """Return the weighted profit and revenue of one unit."""
    return float(inputs[row, PROFIT_WEIGHT] * (price - inputs[row, COST]) + inputs[row, REVENUE_WEIGHT] * price)


@formula
def objective(price: float, demand: float, demand_sd: float, stock: float, row: int, inputs: F64) -> float:
    """Return the value of a price: weighted profit and revenue per unit, times the demand that the stock can meet, less the risk."""
    unit = unit_value(price, row, inputs)
    return float(unit * min(demand, stock) - inputs[row, RISK] * abs(unit) * demand_sd)


@formula
def multiplier(value: float, more: float, unit: float, sold: float) -> float:
    """Return by how much `more` exceeds `value`, 0 where that is the rounding of an objective of `sold` units worth `unit` each."""
    gained = more - value
    return gained if gained > MULTIPLIER_TOLERANCE * abs(unit) * sold else 0.0


@formula
def best_of(row: int, stock: float, number: int, ladder: F64, inputs: F64) -> tuple[int, float, float, float]:
    """Return the rung with the highest value within the bounds, the first of equals, -1 for none; its demand, sd and value."""
    best, best_demand, best_sd, best_value = -1, math.nan, math.nan, -math.inf
    base, quantity = inputs[row, PRICE], inputs[row, QUANTITY]
    for step in range(ladder.shape[1]):
        price = rung(row, step, ladder, inputs)
        if not inputs[row, LOW] <= price <= inputs[row, HIGH]:
            continue
        mean, sd = relative_demand(math.log(price / base), inputs[row, ELASTICITY], inputs[row, SD], number)
        value = objective(price, quantity * mean, quantity * sd, stock, row, inputs)
        if value > best_value:
            best, best_demand, best_sd, best_value = step, quantity * mean, quantity * sd, value
    return best, best_demand, best_sd, best_value


@formula
def shadow(row: int, stock: float, value: float, number: int, ladder: F64, inputs: F64) -> float:
    """Return the increase of the highest value with one unit more in stock."""
    if stock == math.inf:
        return 0.0
    step, demand, _, more = best_of(row, stock + 1, number, ladder, inputs)
    return multiplier(value, more, unit_value(rung(row, step, ladder, inputs), row, inputs), min(demand, stock + 1))


@formula
def price_of(row: int, ladder: F64, inputs: F64, out: F64) -> None:
    """Write the best price of a product, its expected demand and the sd of that, its value, and the shadow price of a unit in stock.

    ladder: [1, rungs], ratios to each product's price, rounded to its TICK where that is more than 0, or prices for all where it is PRICES;
    or [products, rungs], prices, NaN where a ladder is shorter. inputs: [products, INPUTS]; out: [products, OUTPUTS], NaN where no rung is
    within LOW and HIGH. All are float64.
    """
    base = inputs[row, PRICE]
    lowest, highest = base, base
    for step in range(ladder.shape[1]):
        price = rung(row, step, ladder, inputs)
        if price < lowest:  # not `min`: a rung may be NaN
            lowest = price
        elif price > highest:
            highest = price
    number = terms(2 * inputs[row, SD] * max(math.log(highest / base), math.log(base / lowest)))
    stock = inputs[row, STOCK]
    step, demand, sd, value = best_of(row, stock, number, ladder, inputs)
    out[row, BEST] = rung(row, step, ladder, inputs) if step >= 0 else math.nan
    out[row, DEMAND], out[row, DEMAND_SD] = demand, sd
    out[row, VALUE] = value if step >= 0 else math.nan
    out[row, SHADOW_PRICE] = shadow(row, stock, value, number, ladder, inputs) if step >= 0 else 0.0


@formula
def mean_exponentials(a: F64, factor: float, count: int, number: int, out: F64) -> None:
    """Write M(factor a) of each of the first `count`: the loop over them is the inner one, which the compiler vectorizes."""
    if number == 0:
        for step in range(count):
            out[step] = mean_exponential(factor * a[step], number)
        return
    for step in range(count):
        out[step] = 0.0
    for back in range(number):
        term = SERIES[number - 1 - back]
        for step in range(count):
            out[step] = out[step] * (factor * a[step]) + term


@on_cpu
def prices(ladder: F64, inputs: F64, out: F64) -> None:
    """Write the best price of every product; arrays and results are those of `price_of`, which differs in the last bits at most.

    All rungs of a product are computed at once, one operation at a time.
    """
    rungs = ladder.shape[1]
    shared = len(ladder) == 1
    work = np.zeros((7, rungs))  # one array: to allocate seven takes as long as to price a product
    logs, price, log_ratio, a, certain, mean, second = work[0], work[1], work[2], work[3], work[4], work[5], work[6]
    for step in range(rungs if shared else 0):
        logs[step] = math.log(ladder[0, step])
    for row in range(len(inputs)):
        base, low, high = inputs[row, PRICE], inputs[row, LOW], inputs[row, HIGH]
        count, lowest, highest = 0, base, base
        for step in range(rungs):
            here = rung(row, step, ladder, inputs)
            if here < lowest:  # not `min`: a rung may be NaN
                lowest = here
            elif here > highest:
                highest = here
            if low <= here <= high:
                price[count] = here
                log_ratio[count] = logs[step]
                count += 1
        if not (shared and inputs[row, TICK] == 0):
            for step in range(count):
                log_ratio[step] = math.log(price[step] / base)
        number = terms(2 * inputs[row, SD] * max(math.log(highest / base), math.log(base / lowest)))
        quantity, elasticity, sd, stock = inputs[row, QUANTITY], inputs[row, ELASTICITY], inputs[row, SD], inputs[row, STOCK]
        for step in range(count):
            a[step] = sd * log_ratio[step]
            certain[step] = quantity * math.exp(elasticity * log_ratio[step])
        mean_exponentials(a, 1.0, count, number, mean)
        if inputs[row, RISK] > 0:
            mean_exponentials(a, 2.0, count, number, second)
        best, value = -1, -math.inf
        for step in range(count):
            demand_sd = certain[step] * math.sqrt(max(second[step] - mean[step] * mean[step], 0.0)) if inputs[row, RISK] > 0 else 0.0
            here = objective(price[step], certain[step] * mean[step], demand_sd, stock, row, inputs)
            if here > value:
                best, value = step, here
        if best < 0:
            out[row, BEST] = out[row, DEMAND] = out[row, DEMAND_SD] = out[row, VALUE] = math.nan
            out[row, SHADOW_PRICE] = 0.0
            continue
        spread = mean_exponential(2 * a[best], number) - mean[best] * mean[best]
        out[row, BEST], out[row, DEMAND] = price[best], certain[best] * mean[best]
        out[row, DEMAND_SD], out[row, VALUE] = certain[best] * math.sqrt(max(spread, 0.0)), value
        out[row, SHADOW_PRICE] = shadow(row, stock, value, number, ladder, inputs)


prices_on_cuda = on_cuda(price_of)


@on_cpu
def joint_values(prices: F64, inputs: F64, out: F64) -> None:
    """Write the total value of products that have the same price, at each of `prices`, float64 [n], into out, float64 [n].

    inputs: float64 [products, INPUTS].
    """
    out[:] = 0.0
    for row in range(len(inputs)):
        base, quantity = inputs[row, PRICE], inputs[row, QUANTITY]
        max_log_ratio = max(math.log(max(prices.max(), base) / base), math.log(base / min(prices.min(), base)))
        number = terms(2 * inputs[row, SD] * max_log_ratio)
        for step in range(len(prices)):
            mean, sd = relative_demand(math.log(prices[step] / base), inputs[row, ELASTICITY], inputs[row, SD], number)
            out[step] += objective(prices[step], quantity * mean, quantity * sd, inputs[row, STOCK], row, inputs)


@on_cpu
def ladders(ratios: F64, inputs: F64, out: F64) -> None:
    """Write a ladder for each product: its price times ratios, rounded to its TICK and at least that.

    ratios: float64 [rungs]; inputs: float64 [products, INPUTS]; out: float64 [products, >= rungs].
    """
    for row in range(len(inputs)):
        tick = inputs[row, TICK]
        for step in range(len(ratios)):
            out[row, step] = max(ticked(ratios[step] * inputs[row, PRICE], tick), tick)


@on_cpu
def add_edges(inputs: F64, ladder: F64) -> None:
    """Write the last EDGES rungs of each ladder: the multiples of its TICK next to LOW, upwards, and to HIGH, downwards.

    They are prices only where no other rung is within LOW and HIGH and there is a TICK; elsewhere they are copies of the first rung.
    inputs: float64 [products, INPUTS]; ladder: float64 [products, rungs + EDGES], NaN where a ladder is shorter.
    """
    rungs = ladder.shape[1] - EDGES
    for row in range(len(inputs)):
        tick, low, high, within = inputs[row, TICK], inputs[row, LOW], inputs[row, HIGH], 0
        for step in range(rungs):
            within += int(low <= ladder[row, step] <= high)
        ladder[row, rungs:] = ladder[row, 0]
        if within == 0 and tick > 0:
            ladder[row, rungs] = ticked(max(np.ceil(low / tick - EDGE_TOLERANCE), 1.0) * tick, tick)
            if high < math.inf:
                ladder[row, rungs + 1] = ticked(max(np.floor(high / tick + EDGE_TOLERANCE), 1.0) * tick, tick)


@on_cpu
def impacts(inputs: F64, price: F64, known: Bool, ends: F64, out: F64) -> None:
    """Write the changes that a price brings against the present one: demand, revenue and profit, their means and both interval ends.

    inputs: float64 [products, INPUTS]; price: float64 [products]; known: bool [products], whether demand is known; ends: float64 [2],
    standard normal quantiles; out: float64 [products, CHANGES], changes of 0 where demand is not known. Demand is limited to STOCK in every
    draw. CONFIDENCE is the share of draws in which demand is elastic and the price earns no less, (k + 1/2) / (DRAWS + 1) of k draws: a
    finite number of draws is no evidence for a probability of 0 or 1.
    """
    for row in range(len(inputs)):
        base, cost, stock, quantity = inputs[row, PRICE], inputs[row, COST], inputs[row, STOCK], inputs[row, QUANTITY]
        log_ratio, before = math.log(price[row] / base), min(quantity, stock)
        total, favourable = 0.0, 0
        for draw in range(DRAWS + 2):
            z = Z[draw] if draw < DRAWS else ends[draw - DRAWS]
            elasticity = inputs[row, ELASTICITY] + inputs[row, SD] * z
            after = min(quantity * math.exp(elasticity * log_ratio), stock)
            if draw < DRAWS:
                revenue = price[row] * after - base * before
                profit = (price[row] - cost) * after - (base - cost) * before
                total += after - before
                favourable += int(inputs[row, PROFIT_WEIGHT] * profit + inputs[row, REVENUE_WEIGHT] * revenue >= 0 and elasticity < -1)
            else:
                write_change(row, DEMAND_CHANGE + 3 * (draw - DRAWS + 1), price[row], base, cost, before, after, out)
        write_change(row, DEMAND_CHANGE, price[row], base, cost, before, before + total / DRAWS, out)
        if not known[row]:
            out[row, :CONFIDENCE] = 0.0
        out[row, CONFIDENCE] = (favourable + 0.5) / (DRAWS + 1)
