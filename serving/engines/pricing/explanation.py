"""The explanation of a price: every rule that moved it away from the one that earns most, a code and a sentence."""

from collections.abc import Sequence

from serving.engines.pricing.guard_rails import GUARD_RAILS, Band
from serving.engines.pricing.types import PriceAdjustment, Reason


def adjustments(allowed: Sequence[Band], stock: float, unconstrained: float, with_stock: float, price: float) -> list[PriceAdjustment]:
    """Return the rules that moved the price from the one that earns most to the recommended one, in order.

    allowed: the band of each guard rail; unconstrained: the best price without any rule; with_stock: with no rule but the stock.
    """
    if stock == 0:
        return [PriceAdjustment(rule="out_of_stock", before=unconstrained, after=price)]
    moved, at = list[PriceAdjustment](), with_stock
    if with_stock != unconstrained:
        moved.append(PriceAdjustment(rule="inventory", before=unconstrained, after=with_stock))
    for rail, (low, high) in zip(GUARD_RAILS, allowed, strict=True):
        within = min(max(at, low), high)
        if within != at:
            moved.append(PriceAdjustment(rule=rail.name, before=at, after=within))
            at = within
    if at != price:
        moved.append(PriceAdjustment(rule="price_ladder", before=at, after=price))
    return moved


def reason(price: float, current: float, moved: Sequence[PriceAdjustment]) -> Reason:
    """Return the code of how the price changes, and whether a rule decided it."""
    if moved and moved[0].rule == "out_of_stock":
        return "kept_out_of_stock"
    ruled = any(adjustment.rule != "price_ladder" for adjustment in moved)
    if price > current:
        return "raised_by_rule" if ruled else "raised"
    if price < current:
        return "lowered_by_rule" if ruled else "lowered"
    return "kept_by_rule" if ruled else "kept"


def sentence(code: Reason, price: float, current: float, moved: Sequence[PriceAdjustment]) -> str:
    """Return the reason in a sentence."""
    if code == "kept_out_of_stock":
        return "The product is out of stock: the price stays as it is until there is stock."
    change = {"raised": "is raised from", "lowered": "is lowered from", "kept": "stays at"}[code.partition("_")[0]]
    summary = f"The price {change} {current:g}" + ("" if price == current else f" to {price:g}")
    meanings: dict[str, str] = {rail.name: rail.meaning for rail in GUARD_RAILS} | {"inventory": "the stock would not last"}
    binding = next((adjustment for adjustment in reversed(moved) if adjustment.rule in meanings), None)
    if binding is None:
        return summary + ": the price of the ladder that is expected to earn most."
    return f"{summary}: {moved[0].before:g} would earn most, but {meanings[binding.rule]}."
