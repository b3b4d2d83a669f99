"""Twins of `kernels.pricing`."""

import math
from collections.abc import Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
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


def add_edges(ladder: Sequence[float], low: float, high: float, tick: float | None) -> list[float]:
    """Return the prices next to the bounds, up from the lower and down from the higher one, where no price of the ladder is within them.

    Elsewhere the first price twice; tick: None where there are no other prices than those of the ladder.
    """
    if tick is None or any(low <= price <= high for price in ladder):
        return [ladder[0], ladder[0]]
    step, slack = Decimal(str(tick)), Decimal("1e-9")
    up = max(((Decimal(low) / step) - slack).to_integral_value(ROUND_CEILING), Decimal(1)) * step
    if math.isinf(high):
        return [float(up), ladder[0]]
    return [float(up), float(max(((Decimal(high) / step) + slack).to_integral_value(ROUND_FLOOR), Decimal(1)) * step)]


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


class Step(NamedTuple):
    """A rule that moved a price: "inventory" or the number of a guard rail, the prices before and after, and the rail's bound between."""

    rule: str | int
    before: float
    bound: float
    after: float


def beyond(price: float, band: tuple[float, float]) -> float:
    """Return how far a price is outside a band."""
    return max(band[0] - price, price - band[1], 0.0)


def trails(
    ladder: Sequence[float], free: Sequence[float], stocked: Sequence[float], rails: Sequence[tuple[float, float]], common: int
) -> tuple[float, list[Step]]:
    """Return the price by demand alone, and the steps from it to the final one: each rule is applied to all prices of the ladder anew.

    free, stocked: the value of each price without and with the stock. A rail that the price is outside of moves it: with the first k rails
    the price is the one that is nearest to the band of the k-th, of those nearest to the one before it, and so on; of those left the most
    valuable, of equals the first. common: how many prices, the first ones, are possible before that.
    """
    rungs, steps = range(len(ladder)), list[Step]()
    start = at = min(range(common), key=lambda rung: (-free[rung], rung))
    then = min(range(common), key=lambda rung: (-stocked[rung], rung))
    if ladder[then] != ladder[at]:
        steps.append(Step("inventory", ladder[at], ladder[then], ladder[then]))
    at = then
    for number, (low, high) in enumerate(rails):
        if low <= ladder[at] <= high:
            continue

        def rank(rung: int, first: int = number) -> tuple[float, ...]:
            return (*(beyond(ladder[rung], rails[rail]) for rail in range(first, -1, -1)), -stocked[rung], rung)

        then = min(rungs, key=rank)
        if ladder[then] != ladder[at]:
            bound = min(max(ladder[at], low), high)
            ends = sorted((bound, ladder[then]))
            skipped = any(ends[0] < price < ends[1] for price in ladder)
            steps.append(Step(number, ladder[at], ladder[then] if skipped else bound, ladder[then]))
            at = then
    return ladder[start], steps
