"""Twins of `kernels.pricing`."""

import math
from collections.abc import Sequence
from decimal import Decimal
from typing import NamedTuple


class Priced(NamedTuple):
    """The best price, its mean demand over the draws, the standard deviation of that, and its value."""

    price: float
    demand: float
    sd: float
    worth: float


def prices(
    ladder: Sequence[float],
    price: float,
    quantity: float,
    draws: Sequence[float],
    cost: float,
    bounds: tuple[float, float],
    stock: float,
    weights: tuple[float, float, float],
) -> Priced | None:
    """Return the price of the ladder with the highest value, None where none is within the bounds.

    draws: elasticities; weights: of profit, of revenue, and of the risk.
    """
    best = None
    for rung in ladder:
        if not bounds[0] <= rung <= bounds[1]:
            continue
        sold = [quantity * (rung / price) ** elasticity for elasticity in draws]
        mean = math.fsum(sold) / len(sold)
        sd = math.sqrt(math.fsum((one - mean) ** 2 for one in sold) / len(sold))
        unit = weights[0] * (rung - cost) + weights[1] * rung
        worth = unit * min(mean, stock) - weights[2] * abs(unit) * sd
        if best is None or worth > best.worth:
            best = Priced(rung, mean, sd, worth)
    return best


def joint_values(
    rungs: Sequence[float], products: Sequence[tuple[float, float, Sequence[float], float, float]], weights: tuple[float, float, float]
) -> list[float]:
    """Return the total value of products at each price that all have; each is price, quantity, elasticities, cost and stock."""
    anything = (0.0, math.inf)
    found = []
    for rung in rungs:
        each = [prices([rung], price, quantity, draws, cost, anything, stock, weights) for price, quantity, draws, cost, stock in products]
        found.append(math.fsum(one.worth for one in each if one is not None))
    return found


def ladders(ratios: Sequence[float], price: float, tick: float) -> list[float]:
    """Return prices at these ratios to a price, each rounded to a multiple of the tick, and at least the tick."""
    return [max(float(round(Decimal(ratio * price) / Decimal(str(tick))) * Decimal(str(tick))), tick) for ratio in ratios]


def impacts(
    price: float, base: float, quantity: float, draws: Sequence[float], cost: float, stock: float, weights: tuple[float, float]
) -> tuple[float, float, float, float]:
    """Return the mean changes of demand, revenue and profit over the draws, and the share of draws that are elastic and gain."""
    changes, sure, before = list[tuple[float, float, float]](), 0, min(quantity, stock)
    for elasticity in draws:
        after = min(quantity * (price / base) ** elasticity, stock)
        revenue, profit = price * after - base * before, (price - cost) * after - (base - cost) * before
        changes.append((after - before, revenue, profit))
        sure += weights[0] * profit + weights[1] * revenue >= 0 and elasticity < -1
    demand, revenue, profit = (math.fsum(column) / len(draws) for column in zip(*changes, strict=True))
    return demand, revenue, profit, sure / len(draws)
