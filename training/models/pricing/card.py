"""The card of a pricing model, for people (Mitchell et al. 2019)."""

from collections.abc import Mapping
from typing import Any

LISTED = 20


def card(meta: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    """Return the card as Markdown; meta: the bundle's manifest, metrics: the content of metrics.json."""
    data, served = meta["trainingData"], metrics["promotionOfPrices"]
    rows = [one for one in metrics["elasticities"] if one["promotion"] == served]
    left_out = ", ".join(f"{number:,} {reason}" for reason, number in data["leftOut"].items()) or "none"
    return f"""# The right price

Log-log demand: how many per cent less of a product is sold when its price is one per cent higher, learned from `{data["name"]}`, SHA-256
`{data["sha256"]}`: {data["rows"]:,} rows of {metrics["products"]:,} products. Rows left out: {left_out}. Effects:
{", ".join(metrics["effects"])}.

**Use** it to choose prices within bounds that a person has set. **Do not** take its elasticities for causes where prices followed demand:
a shop that cuts prices when demand is weak sees less of an effect than there is, and the other way round. Only prices that were changed at
random, or at least not for reasons that also moved demand, tell the effect as it is.

## Elasticities

| product | own | standard error | after shrinkage | 80 % | rows |
|---|---|---|---|---|---|
{chr(10).join(_row(one) for one in rows[:LISTED])}
{f"{len(rows) - LISTED:,} more are in metrics.json." if len(rows) > LISTED else ""}

{metrics["insufficient"]:,} of {metrics["products"]:,} products had too little history: they are priced by what their category has in
common. The prior is what 1,851 published elasticities say (Bijmolt, van Heerde and Pieters 2005): mean -2.62, and never positive.

## Made with

{", ".join(f"{name} {version}" for name, version in meta["software"].items())}.
"""


def _row(one: Mapping[str, Any]) -> str:
    low, high = one["interval80"]
    own = "-" if one["own"] is None else f"{one['own']:.3f}"
    error = "-" if one["standardError"] is None else f"{one['standardError']:.3f}"
    return f"| {one['product']} | {own} | {error} | {one['shrunk']:.3f} | {low:.2f} to {high:.2f} | {one['observations']:,} |"
