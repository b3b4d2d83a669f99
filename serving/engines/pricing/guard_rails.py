"""The guard rails of a price: an ordered table of bounds; where two contradict each other, the later one holds."""

import math
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

Band = tuple[float, float]  # the lowest and the highest price that a guard rail allows
RailName = Literal["cost_pass_through", "competitor_band", "change_per_step", "change_per_day", "price_bounds", "margin_floor"]
RuleName = Literal[RailName, "inventory", "price_ladder", "exploration", "out_of_stock"]

ANY: Band = (0.0, math.inf)


class PriceFacts(NamedTuple):
    """What the guard rails of one price are computed from; None: not known, or not part of the policy."""

    price: float  # the current one
    price_at_day_start: float
    cost: float | None
    previous_cost: float | None
    competitor: float | None  # the median of the competitors' prices
    pass_through: float | None  # the share of a cost increase that the price must follow
    competitor_low: float | None  # shares of the competitors' price
    competitor_high: float | None
    max_change: float | None  # share of the current price
    max_change_per_day: float | None  # share of the price at the start of the day
    min_price: float | None
    max_price: float | None
    min_margin_share: float  # of the price
    min_margin: float  # money per unit


class GuardRail(NamedTuple):
    """One rule: its name, its meaning in words, and its band."""

    name: RailName
    meaning: str
    band: Callable[[PriceFacts], Band]


def _pass_through(facts: PriceFacts) -> Band:
    if facts.pass_through is None or facts.cost is None or facts.previous_cost is None:
        return ANY
    return facts.price + facts.pass_through * max(facts.cost - facts.previous_cost, 0.0), math.inf


def _competitors(facts: PriceFacts) -> Band:
    if facts.competitor is None:
        return ANY
    return (
        0.0 if facts.competitor_low is None else facts.competitor_low * facts.competitor,
        math.inf if facts.competitor_high is None else facts.competitor_high * facts.competitor,
    )


def _change(price: float, share: float | None) -> Band:
    return ANY if share is None else (price * (1 - share), price * (1 + share))


def _per_step(facts: PriceFacts) -> Band:
    return _change(facts.price, facts.max_change)


def _per_day(facts: PriceFacts) -> Band:
    return _change(facts.price_at_day_start, facts.max_change_per_day)


def _bounds(facts: PriceFacts) -> Band:
    return 0.0 if facts.min_price is None else facts.min_price, math.inf if facts.max_price is None else facts.max_price


def _margin(facts: PriceFacts) -> Band:
    if facts.cost is None:
        return ANY
    return max(facts.cost / (1 - facts.min_margin_share), facts.cost + facts.min_margin), math.inf


# In order of precedence: the first gives way to all others, the last always holds.
GUARD_RAILS: tuple[GuardRail, ...] = (
    GuardRail("cost_pass_through", "a cost increase must be passed on", _pass_through),
    GuardRail("competitor_band", "the price must stay near the competitors' prices", _competitors),
    GuardRail("change_per_step", "one step may not change the price by more", _per_step),
    GuardRail("change_per_day", "one day may not change the price by more", _per_day),
    GuardRail("price_bounds", "the price must be between its lowest and highest allowed value", _bounds),
    GuardRail("margin_floor", "no unit may be sold for less than its cost plus the margin", _margin),
)


def bands(facts: PriceFacts) -> list[Band]:
    """Return the band of each guard rail, in their order."""
    return [rail.band(facts) for rail in GUARD_RAILS]


def intersection(allowed: Sequence[Band]) -> Band:
    """Return the intersection of bands; where one contradicts those before it, its own bound that is nearest to them."""
    low, high = ANY
    for rail_low, rail_high in allowed:
        if rail_low > high:
            low = high = rail_low
        elif rail_high < low:
            low = high = rail_high
        else:
            low, high = max(low, rail_low), min(high, rail_high)
    return low, high
