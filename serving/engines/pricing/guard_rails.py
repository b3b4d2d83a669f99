"""Guard rails of a price: an ordered table of bounds, the later of which win where they contradict each other."""

import math
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

Band = tuple[float, float]  # the lowest and the highest price that a rail allows
RailName = Literal["cost_pass_through", "competitor_band", "change_per_step", "change_per_day", "price_bounds", "margin_floor"]
RuleName = Literal[RailName, "inventory", "price_ladder", "exploration", "out_of_stock"]

ANY: Band = (0.0, math.inf)


class Facts(NamedTuple):
    """What the rails of one price are reckoned from; None where it is not known, or not asked for. Shares are of what they change."""

    price: float  # as it is now
    price_of_day: float  # as it was when the day began
    cost: float | None
    cost_before: float | None
    competitor: float | None  # the median of the competitors' prices
    pass_through: float | None  # the share of a rise of the cost that the price must follow
    band_low: float | None  # shares of the competitors' price
    band_high: float | None
    change_per_step: float | None
    change_per_day: float | None
    lowest: float | None
    highest: float | None
    margin_share: float  # of the price
    margin: float  # money


class Rail(NamedTuple):
    """One rule: its name, what it means for people, and its band."""

    name: RailName
    meaning: str
    band: Callable[[Facts], Band]


def _pass_through(facts: Facts) -> Band:
    if facts.pass_through is None or facts.cost is None or facts.cost_before is None:
        return ANY
    return facts.price + facts.pass_through * max(facts.cost - facts.cost_before, 0.0), math.inf


def _competitors(facts: Facts) -> Band:
    if facts.competitor is None:
        return ANY
    return (
        0.0 if facts.band_low is None else facts.band_low * facts.competitor,
        math.inf if facts.band_high is None else facts.band_high * facts.competitor,
    )


def _change(price: float, share: float | None) -> Band:
    return ANY if share is None else (price * (1 - share), price * (1 + share))


def _per_step(facts: Facts) -> Band:
    return _change(facts.price, facts.change_per_step)


def _per_day(facts: Facts) -> Band:
    return _change(facts.price_of_day, facts.change_per_day)


def _bounds(facts: Facts) -> Band:
    return 0.0 if facts.lowest is None else facts.lowest, math.inf if facts.highest is None else facts.highest


def _margin(facts: Facts) -> Band:
    if facts.cost is None:
        return ANY
    return max(facts.cost / (1 - facts.margin_share), facts.cost + facts.margin), math.inf


# From the one that gives way first to the one that always holds.
RAILS: tuple[Rail, ...] = (
    Rail("cost_pass_through", "a rise of the cost must be passed on", _pass_through),
    Rail("competitor_band", "the price must stay near the competitors'", _competitors),
    Rail("change_per_step", "one step may not change the price by more", _per_step),
    Rail("change_per_day", "one day may not change the price by more", _per_day),
    Rail("price_bounds", "the lowest and the highest price that law or contract allow", _bounds),
    Rail("margin_floor", "no unit may be sold for less than its cost and the margin", _margin),
)


def bands(facts: Facts) -> list[Band]:
    """Return what each rail allows."""
    return [rail.band(facts) for rail in RAILS]


def together(allowed: Sequence[Band]) -> Band:
    """Return what rails allow together; where one contradicts those before it, its own bound that is nearest to them."""
    low, high = ANY
    for rail_low, rail_high in allowed:
        if rail_low > high:
            low = high = rail_low
        elif rail_high < low:
            low = high = rail_high
        else:
            low, high = max(low, rail_low), min(high, rail_high)
    return low, high
