"""The best price on a ladder: what is earned at each rung in the mean over draws of the elasticity, less what that may be off."""

import math

import numpy as np

from kernels.compile import formula, on_cpu, on_cuda
from kernels.pricing.demand import DRAWS, SERIES, Z, mean_exponential, relative_demand, terms
from kernels.types import F64, Bool

# The columns of what is asked of a product, and of the answer.
PRICE, QUANTITY, ELASTICITY, SD, COST, LOW, HIGH, STOCK, PROFIT_WEIGHT, REVENUE_WEIGHT, RISK, TICK = range(12)
ASKED = 12
PRICES = -1.0  # instead of a TICK: a ladder of one row holds prices, not ratios
BEST, DEMAND, DEMAND_SD, VALUE, SHADOW = range(5)
ANSWERED = 5
# And of what a price changes: three in the mean, three at one end and three at the other, and how sure.
DEMAND_CHANGE, REVENUE_CHANGE, PROFIT_CHANGE = range(3)
SURE, CHANGED = 9, 10
_WHOLE = 2.0**52  # from here on a float64 has no parts


@formula
def nearest(number: float) -> float:
    """Return the nearest whole number, of two as near the even one: what np.rint does, which CUDA has not."""
    whole = math.copysign(_WHOLE, number)
    return number if abs(number) >= _WHOLE else (number + whole) - whole


@formula
def change(row: int, at: int, price: float, base: float, cost: float, before: float, after: float, out: F64) -> None:
    """Write by how much demand, revenue and profit change, one after the other."""
    out[row, at] = after - before
    out[row, at + 1] = price * after - base * before
    out[row, at + 2] = (price - cost) * after - (base - cost) * before


@formula
def ticked(price: float, tick: float) -> float:
    """Return the multiple of `tick` that is next to a price; of a tick such as a cent, the number that people write."""
    if tick <= 0:
        return price
    parts = nearest(1 / tick)
    if abs(parts * tick - 1) < 1e-9:
        return float(nearest(price * parts) / parts)
    return float(nearest(price / tick) * tick)


@formula
def rung(row: int, step: int, ladder: F64, asked: F64) -> float:
    """Return the price of a rung: as it is where the ladder has a row for each product, else a ratio to the product's price."""
    if len(ladder) > 1 or asked[row, TICK] < 0:
        return float(ladder[row if len(ladder) > 1 else 0, step])
    return ticked(float(ladder[0, step] * asked[row, PRICE]), asked[row, TICK])


@formula
def worth(price: float, demand: float, demand_sd: float, stock: float, row: int, asked: F64) -> float:
    """Return what a price earns: a unit's weighted profit and revenue, times the demand that can be met, less the risk."""
    unit = asked[row, PROFIT_WEIGHT] * (price - asked[row, COST]) + asked[row, REVENUE_WEIGHT] * price
    return float(unit * min(demand, stock) - asked[row, RISK] * abs(unit) * demand_sd)


@formula
def best_of(row: int, stock: float, number: int, ladder: F64, asked: F64) -> tuple[int, float, float, float]:
    """Return the rung that earns most of those within the bounds, the first of equals, -1 for none; its demand, sd and worth."""
    best, best_demand, best_sd, best_worth = -1, math.nan, math.nan, -math.inf
    base, quantity = asked[row, PRICE], asked[row, QUANTITY]
    for step in range(ladder.shape[1]):
        price = rung(row, step, ladder, asked)
        if not asked[row, LOW] <= price <= asked[row, HIGH]:
            continue
        mean, sd = relative_demand(math.log(price / base), asked[row, ELASTICITY], asked[row, SD], number)
        value = worth(price, quantity * mean, quantity * sd, stock, row, asked)
        if value > best_worth:
            best, best_demand, best_sd, best_worth = step, quantity * mean, quantity * sd, value
    return best, best_demand, best_sd, best_worth


@formula
def shadow(row: int, stock: float, value: float, number: int, ladder: F64, asked: F64) -> float:
    """Return what one unit of stock more would add to what is earned at most."""
    if stock == math.inf:
        return 0.0
    _, _, _, more = best_of(row, stock + 1, number, ladder, asked)
    return max(more - value, 0.0)


@formula
def price_of(row: int, ladder: F64, asked: F64, out: F64) -> None:
    """Write the best price of a product, what it sells in expectation and how sure that is, what it earns, and the worth of one unit more.

    ladder: [1, rungs], ratios to each product's price, rounded to its TICK where that is more than 0, or prices for all where it is PRICES;
    or [products, rungs], prices, NaN where a ladder is shorter. asked: [products, ASKED]; out: [products, ANSWERED], NaN where no rung is
    within LOW and HIGH.
    """
    base = asked[row, PRICE]
    lowest, highest = base, base
    for step in range(ladder.shape[1]):
        price = rung(row, step, ladder, asked)
        if price < lowest:  # no `min`: a rung may be NaN
            lowest = price
        elif price > highest:
            highest = price
    number = terms(2 * asked[row, SD] * max(math.log(highest / base), math.log(base / lowest)))
    stock = asked[row, STOCK]
    step, demand, sd, value = best_of(row, stock, number, ladder, asked)
    out[row, BEST] = rung(row, step, ladder, asked) if step >= 0 else math.nan
    out[row, DEMAND], out[row, DEMAND_SD] = demand, sd
    out[row, VALUE] = value if step >= 0 else math.nan
    out[row, SHADOW] = shadow(row, stock, value, number, ladder, asked) if step >= 0 else 0.0


@formula
def mean_exponentials(a: F64, factor: float, count: int, number: int, out: F64) -> None:
    """Write M(factor a) of each of the first `count`: the loop over them is the inner one, so that the processor takes several at once."""
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
def prices(ladder: F64, asked: F64, out: F64) -> None:
    """Write the best price of every product; the arrays are those of `price_of`, float64, and so are the answers, to the last bits.

    A product's rungs are gone through together, a step of the reckoning at a time.
    """
    rungs = ladder.shape[1]
    shared = len(ladder) == 1
    work = np.zeros((7, rungs))  # one array: to ask for seven takes as long as to price a product
    logs, price, log_ratio, a, certain, mean, second = work[0], work[1], work[2], work[3], work[4], work[5], work[6]
    for step in range(rungs if shared else 0):
        logs[step] = math.log(ladder[0, step])
    for row in range(len(asked)):
        base, low, high = asked[row, PRICE], asked[row, LOW], asked[row, HIGH]
        count, lowest, highest = 0, base, base
        for step in range(rungs):
            here = rung(row, step, ladder, asked)
            if here < lowest:  # no `min`: a rung may be NaN
                lowest = here
            elif here > highest:
                highest = here
            if low <= here <= high:
                price[count] = here
                log_ratio[count] = logs[step]
                count += 1
        if not (shared and asked[row, TICK] == 0):
            for step in range(count):
                log_ratio[step] = math.log(price[step] / base)
        number = terms(2 * asked[row, SD] * max(math.log(highest / base), math.log(base / lowest)))
        quantity, elasticity, sd, stock = asked[row, QUANTITY], asked[row, ELASTICITY], asked[row, SD], asked[row, STOCK]
        for step in range(count):
            a[step] = sd * log_ratio[step]
            certain[step] = quantity * math.exp(elasticity * log_ratio[step])
        mean_exponentials(a, 1.0, count, number, mean)
        if asked[row, RISK] > 0:
            mean_exponentials(a, 2.0, count, number, second)
        best, value = -1, -math.inf
        for step in range(count):
            demand_sd = certain[step] * math.sqrt(max(second[step] - mean[step] * mean[step], 0.0)) if asked[row, RISK] > 0 else 0.0
            here = worth(price[step], certain[step] * mean[step], demand_sd, stock, row, asked)
            if here > value:
                best, value = step, here
        if best < 0:
            out[row, BEST] = out[row, DEMAND] = out[row, DEMAND_SD] = out[row, VALUE] = math.nan
            out[row, SHADOW] = 0.0
            continue
        spread = mean_exponential(2 * a[best], number) - mean[best] * mean[best]
        out[row, BEST], out[row, DEMAND] = price[best], certain[best] * mean[best]
        out[row, DEMAND_SD], out[row, VALUE] = certain[best] * math.sqrt(max(spread, 0.0)), value
        out[row, SHADOW] = shadow(row, stock, value, number, ladder, asked)


prices_on_cuda = on_cuda(price_of)


@on_cpu
def earned_together(prices: F64, asked: F64, out: F64) -> None:
    """Write what products earn together where they all have the same price: at each of `prices`, float64 [n], into out, [n]."""
    out[:] = 0.0
    for row in range(len(asked)):
        base, quantity = asked[row, PRICE], asked[row, QUANTITY]
        far = max(math.log(max(prices.max(), base) / base), math.log(base / min(prices.min(), base)))
        number = terms(2 * asked[row, SD] * far)
        for step in range(len(prices)):
            mean, sd = relative_demand(math.log(prices[step] / base), asked[row, ELASTICITY], asked[row, SD], number)
            out[step] += worth(prices[step], quantity * mean, quantity * sd, asked[row, STOCK], row, asked)


@on_cpu
def ladders(ratios: F64, asked: F64, out: F64) -> None:
    """Write a ladder for each product: its price times ratios [rungs], rounded to its TICK and not below it. out: [products, >= rungs]."""
    for row in range(len(asked)):
        tick = asked[row, TICK]
        for step in range(len(ratios)):
            out[row, step] = max(ticked(ratios[step] * asked[row, PRICE], tick), tick)


@on_cpu
def impacts(asked: F64, price: F64, known: Bool, ends: F64, out: F64) -> None:
    """Write what a price changes against the present one: demand, revenue and profit, in the mean over the draws and at both ends.

    price: float64 [products]; known: bool [products], whether any demand is; ends: float64 [2], standard normal; out: [products, CHANGED].
    Demand is cut off at STOCK, in every draw. SURE is the share of draws in which the price earns no less and demand is elastic.
    """
    for row in range(len(asked)):
        base, cost, stock = asked[row, PRICE], asked[row, COST], asked[row, STOCK]
        quantity = asked[row, QUANTITY] if known[row] else 0.0
        log_ratio, before = math.log(price[row] / base), min(quantity, stock)
        total, sure = 0.0, 0
        for draw in range(DRAWS + 2):
            z = Z[draw] if draw < DRAWS else ends[draw - DRAWS]
            elasticity = asked[row, ELASTICITY] + asked[row, SD] * z
            after = min(quantity * math.exp(elasticity * log_ratio), stock)
            if draw < DRAWS:
                revenue = price[row] * after - base * before
                profit = (price[row] - cost) * after - (base - cost) * before
                total += after - before
                sure += int(asked[row, PROFIT_WEIGHT] * profit + asked[row, REVENUE_WEIGHT] * revenue >= 0 and elasticity < -1)
            else:
                change(row, DEMAND_CHANGE + 3 * (draw - DRAWS + 1), price[row], base, cost, before, after, out)
        change(row, DEMAND_CHANGE, price[row], base, cost, before, before + total / DRAWS, out)
        out[row, SURE] = sure / DRAWS
