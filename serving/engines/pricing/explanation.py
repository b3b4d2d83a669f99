"""The explanation of a price: what each rule did to it, in the order in which the price was decided, a code and sentences."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from kernels.pricing import trail as kernel
from serving.engines.pricing.guard_rails import GUARD_RAILS, Band, RuleName
from serving.engines.pricing.types import Objective, PriceAdjustment, Reason, Source

# The rule of each value of kernels.pricing.trail.BINDING.
RULES: tuple[RuleName | None, ...] = (None, "inventory", *(rail.name for rail in GUARD_RAILS))
_PLACES: Mapping[str, int] = {rail.name: place for place, rail in enumerate(GUARD_RAILS)}
_GOALS: Mapping[Objective, str] = {
    "profit": "the most profit",
    "revenue": "the most revenue",
    "mix": "the best mix of profit and revenue",
}
_SOURCES: Mapping[Source, str] = {
    "product": "",
    "category": " The product's own history is too short: its elasticity is that of its category.",
    "prior": " The model has no history of this product: its elasticity is what is expected of any product.",
}
_ROUNDING = 1e-9  # share of a price: bounds have no exact binary form


class PriceFinding(NamedTuple):
    """A decided price, and what it was decided from.

    trail: a row of kernels.pricing.trail; allowed: the band of each guard rail; digits: decimals of the currency; risk: whether risk was
    subtracted; wanted: the objective of the policy, `objective` what could be pursued.
    """

    price: float
    decided: float  # before exploration
    current: float
    stock: float
    trail: Sequence[float]
    allowed: Sequence[Band]
    digits: int
    objective: Objective
    wanted: Objective
    risk: bool
    source: Source
    has_cost: bool
    has_demand: bool


def adjustments(found: PriceFinding) -> list[PriceAdjustment]:
    """Return what moved the price from the one that earns most by demand alone to the recommended one, in order.

    `price_ladder` is the way from a bound to the nearest possible price.
    """
    trail, moved = found.trail, list[PriceAdjustment]()
    at = trail[kernel.FREE]
    if found.stock == 0:
        return _moved(moved, "out_of_stock", at, found.price)
    _moved(moved, "inventory", at, at := trail[kernel.STOCKED])
    for place, rail in enumerate(GUARD_RAILS):
        bound, then = trail[kernel.STEPS + 2 * place], trail[kernel.STEPS + 2 * place + 1]
        if then == then:
            _moved(moved, rail.name, at, bound)
            _moved(moved, "price_ladder", bound, at := then)
    if trail[kernel.BEST] != trail[kernel.BEST]:  # no price of the ladder meets the last rail
        floor, _ = found.allowed[-1]
        floor = found.decided if math.isclose(floor, found.decided, rel_tol=_ROUNDING) else floor
        _moved(moved, GUARD_RAILS[-1].name, at, floor)
        _moved(moved, "price_ladder", floor, found.decided)
    return _moved(moved, "exploration", found.decided, found.price)


def _moved(moved: list[PriceAdjustment], rule: RuleName, before: float, after: float) -> list[PriceAdjustment]:
    if before != after:
        moved.append(PriceAdjustment(rule=rule, before=before, after=after))
    return moved


def binding_rule(found: PriceFinding) -> RuleName | None:
    """Return the rule that decided the price, None where no rule did."""
    if found.stock == 0:
        return "out_of_stock"
    return "exploration" if found.price != found.decided else RULES[int(found.trail[kernel.BINDING])]


def reason(price: float, current: float, binding: RuleName | None) -> Reason:
    """Return the code of how the price changes, and whether a rule decided it."""
    if binding == "out_of_stock":
        return "kept_out_of_stock"
    if price > current:
        return "raised_by_rule" if binding else "raised"
    if price < current:
        return "lowered_by_rule" if binding else "lowered"
    return "kept_by_rule" if binding else "kept"


def explanation(found: PriceFinding, moved: Sequence[PriceAdjustment]) -> str:
    """Return the reason of a price in sentences: its change, what each rule did, the rules it does not keep, and what was not known."""
    if found.stock == 0:
        return "The product is out of stock: the price stays as it is until there is stock."
    price, current, digits = found.price, found.current, found.digits
    change = f"is raised from {amount(current, digits)} to" if price > current else f"is lowered from {amount(current, digits)} to"
    goal = _GOALS[found.objective] + (", less an allowance for risk" if found.risk else "")
    text = f"The price {change if price != current else 'stays at'} {amount(price, digits)}: "
    if moved:
        clauses = [f"by demand alone {_rung(found, found.trail[kernel.FREE])} would earn {goal}"]
        clauses += [_clause(found, adjustment) for adjustment in moved]
        text += "; ".join(clauses) + "."
    else:
        text += f"of the prices of the ladder {_rung(found, price)} is expected to earn {goal}."
    return text + _not_kept(found) + _not_known(found)


def _clause(found: PriceFinding, adjustment: PriceAdjustment) -> str:
    """Return what one rule did."""
    after = amount(adjustment.after, found.digits)
    match adjustment.rule:
        case "inventory":
            return f"with {found.stock:,.10g} in stock {_rung(found, adjustment.after)} would"
        case "exploration":
            return f"{after}, the price beside it on the ladder, is tried to learn demand"
        case "price_ladder":
            return f"the nearest possible price is {after}"
    place = _PLACES[adjustment.rule]
    low, high = found.allowed[place]
    clause = f"but {GUARD_RAILS[place].meaning} ({_bound(found, adjustment.before, place)})"
    return clause if adjustment.after in (low, high) else f"{clause}; of the prices that this leaves {_rung(found, adjustment.after)} would"


def _bound(found: PriceFinding, price: float, place: int) -> str:
    """Return the bound of a guard rail that a price is beyond."""
    low, high = found.allowed[place]
    return f"at least {amount(low, found.digits)}" if price < low else f"at most {amount(high, found.digits)}"


def _not_kept(found: PriceFinding) -> str:
    """Return a sentence for the guard rails that the price does not keep, "" where it keeps all."""
    price = found.price
    beyond = [place for place, band in enumerate(found.allowed) if not _keeps(price, band)]
    if not beyond:
        return ""
    listed = "; ".join(f"{GUARD_RAILS[place].meaning} ({_bound(found, price, place)})" for place in beyond)
    return f" Not kept, since no possible price keeps it and the rules of higher precedence: {listed}."


def _keeps(price: float, band: Band) -> bool:
    return band[0] <= price * (1 + _ROUNDING) and price <= band[1] * (1 + _ROUNDING)


def _not_known(found: PriceFinding) -> str:
    """Return what was not known of the product, "" where everything was."""
    text = _SOURCES[found.source]
    if not found.has_cost:
        instead = "" if found.wanted == found.objective else "revenue is pursued instead of profit, and "
        text += f" No cost is known: {instead}no margin is kept."
    if not found.has_demand:
        text += " How much is sold is not known: the stock is left out, and the expected impact is given as 0."
    return text


def _rung(found: PriceFinding, price: float) -> str:
    """Return a price of the ladder in words."""
    lowest, highest, shown = found.trail[kernel.LOWEST], found.trail[kernel.HIGHEST], amount(price, found.digits)
    if price not in (lowest, highest):
        return shown
    return f"{shown}, the {'only' if lowest == highest else 'lowest' if price == lowest else 'highest'} price of the ladder,"


def amount(value: float, digits: int) -> str:
    """Return an amount with the decimals of its currency; one that lies between two of these with as many more as tell it apart."""
    shown = f"{value:.{digits}f}"
    if float(shown) == value:
        return shown
    longer = f"{value:.{max(digits + 2, 3 - math.floor(math.log10(value)))}f}".rstrip("0")
    return longer if len(longer.partition(".")[2]) > digits else shown
