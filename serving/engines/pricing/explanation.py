"""The way from the price that earns most to the one that is recommended: every rule that moved it, and what is said of that."""

from collections.abc import Sequence

from serving.engines.pricing.guard_rails import RAILS, Band
from serving.engines.pricing.types import Clamp, Reason


def trail(allowed: Sequence[Band], stock: float, free: float, stocked: float, price: float) -> list[Clamp]:
    """Return the rules that led from the price that earns most to the one that is recommended.

    allowed: by rail; free, stocked: the best price without any rule, and with none but the stock.
    """
    if stock == 0:
        return [Clamp(rule="out_of_stock", before=free, after=price)]
    clamps, at = list[Clamp](), stocked
    if stocked != free:
        clamps.append(Clamp(rule="inventory", before=free, after=stocked))
    for rail, (low, high) in zip(RAILS, allowed, strict=True):
        moved = min(max(at, low), high)
        if moved != at:
            clamps.append(Clamp(rule=rail.name, before=at, after=moved))
            at = moved
    if at != price:
        clamps.append(Clamp(rule="price_ladder", before=at, after=price))
    return clamps


def reason(price: float, current: float, clamps: Sequence[Clamp]) -> Reason:
    """Return the code of what became of the price, and whether a rule decided it."""
    if clamps and clamps[0].rule == "out_of_stock":
        return "kept_out_of_stock"
    ruled = any(clamp.rule != "price_ladder" for clamp in clamps)
    if price > current:
        return "raised_by_rule" if ruled else "raised"
    if price < current:
        return "lowered_by_rule" if ruled else "lowered"
    return "kept_by_rule" if ruled else "kept"


def explained(code: Reason, price: float, current: float, clamps: Sequence[Clamp]) -> str:
    """Return a reason in a sentence."""
    if code == "kept_out_of_stock":
        return "There is nothing to sell: the price stays as it is until there is."
    moved = {"raised": "is raised from", "lowered": "is lowered from", "kept": "stays at"}[code.partition("_")[0]]
    said = f"The price {moved} {current:g}" + ("" if price == current else f" to {price:g}")
    rules: dict[str, str] = {rail.name: rail.meaning for rail in RAILS} | {"inventory": "what is in stock would not last"}
    bound = next((clamp for clamp in reversed(clamps) if clamp.rule in rules), None)
    if bound is None:
        return said + ": that is the price of the ladder that is expected to earn most."
    return f"{said}: {clamps[0].before:g} would earn most, but {rules[bound.rule]}."
