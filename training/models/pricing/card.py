"""The card of a pricing model, for people (Mitchell et al. 2019)."""

from collections.abc import Mapping
from typing import Any

LISTED = 20


def card(meta: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    """Return the card as Markdown; meta: the bundle's manifest, metrics: the content of metrics.json."""
    data, served = meta["trainingData"], metrics["promotionState"]
    rows = [one for one in metrics["elasticities"] if one["promotion"] == served]
    left_out = ", ".join(f"{number:,} {reason}" for reason, number in data["leftOut"].items()) or "none"
    return f"""# Which price earns the most?

Log-log demand: by how many per cent the sales of a product change when its price rises by one per cent, learned from `{data["name"]}`,
SHA-256 `{data["sha256"]}`: {data["rows"]:,} rows of {metrics["products"]:,} products. Rows left out: {left_out}. Effects:
{", ".join(metrics["effects"])}.

**Use** it to choose prices within bounds that a person has set. **Do not** take its elasticities for causal where prices followed demand:
they are biased towards zero in a shop that cuts prices when demand is weak, and away from it in one that raises them then. Only prices that
were changed at random, or at least for reasons unrelated to demand, identify the effect.

## Elasticities

| product | own | standard error | after shrinkage | 80 % | rows |
|---|---|---|---|---|---|
{chr(10).join(_row(one) for one in rows[:LISTED])}
{f"{len(rows) - LISTED:,} more are in metrics.json." if len(rows) > LISTED else ""}

{metrics["insufficient"]:,} of {metrics["products"]:,} products had insufficient history: their elasticity is that of
their category. The prior is from 1,851 published elasticities (Bijmolt, van Heerde and Pieters 2005): mean -2.62, never positive.

## Made with

{", ".join(f"{name} {version}" for name, version in meta["software"].items())}.
"""


def _row(one: Mapping[str, Any]) -> str:
    low, high = one["interval80"]
    own = "-" if one["own"] is None else f"{one['own']:.3f}"
    error = "-" if one["standardError"] is None else f"{one['standardError']:.3f}"
    return f"| {one['product']} | {own} | {error} | {one['shrunk']:.3f} | {low:.2f} to {high:.2f} | {one['observations']:,} |"
