"""Model cards: what a bundle is, what it may be used for and how good it is, for people (Mitchell et al. 2019)."""

from collections.abc import Mapping
from typing import Any

_CASES = (
    ("everything that the table records", None),
    ("page value missing", "without_page_values"),
    ("all page statistics missing", "without_page_statistics"),
    ("nothing but the context", "context_only"),
)
_COLUMNS = ("auc", "average_precision", "log_loss", "brier", "ece")


def purchase(meta: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    """Return the card of a purchase model as Markdown; meta: its manifest, metrics: the content of metrics.json."""
    data, order, specialists, confidence = meta["trainingData"], meta["orderValue"], metrics["specialists"], metrics["confidence"]["whole"]
    return f"""# Will this session buy?

One XGBoost model with a calibrated probability that a web session ends in a purchase, for callers who know much of it and who know little.

**Use** it to decide what a shop shows, offers or asks while the shopper is there. **Do not** read cause into its factors, price by it, or
treat a person by it where the law asks for more; it knows sessions, not people.

## Data

`{data["name"]}`, SHA-256 `{data["sha256"]}`: {data["rows"]:,} sessions, {data["labelRate"]:.2%} of which bought. Average order:
{order["amount"]:.2f} {order["currency"]}{" (the table knows none: predictedValue counts orders)" if order["currency"] == "XXX" else ""}.
Columns that were not used: {", ".join(data["ignored"]) or "none"}.

## How good it is

{metrics["folds"]}-fold cross-validation, seed {metrics["seed"]}, all rows pooled; trees, category order and calibration are fitted inside
the fold.

| known of the session | AUC | average precision | log loss | Brier | ECE |
|---|---|---|---|---|---|
{chr(10).join(_row(name, metrics if case is None else metrics[case]) for name, case in _CASES)}
{_row("*a model for everything alone*", specialists["whole"])}
{_row("*a model without page value alone*", specialists["without_page_values"])}

ECE: 10 bins of equally many sessions. Page value is filled in from later transactions in many tools: where yours does so, the figures
without it are what to expect while the session runs.

## What the confidence means

1 - confidenceScore is a distance. Of sessions like the one scored, the share that buys is within it of the probability (90 % certainty),
and 9 of 10 are within it of what a second model says that knows all that is recorded. On held-out sessions
{confidence["rows_within"]:.1%} were, and {confidence["groups_within"]} of {confidence["groups"]} groups; the mean confidence was
{confidence["mean"]:.3f}.

## Made with

{", ".join(f"{name} {version}" for name, version in meta["software"].items())}; seed {meta["parameters"]["seed"]}.
"""


def _row(name: str, figures: Mapping[str, float]) -> str:
    return f"| {name} | " + " | ".join(f"{figures[column]:.4f}" for column in _COLUMNS) + " |"
