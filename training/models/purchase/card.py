"""The card of a purchase model, for people: what it is, its intended use and its metrics (Mitchell et al. 2019)."""

from collections.abc import Mapping
from typing import Any

_CASES = (
    ("all features of the table", None),
    ("page value missing", "without_page_values"),
    ("all page statistics missing", "without_page_statistics"),
    ("context alone", "context_only"),
)
_COLUMNS = ("auc", "average_precision", "log_loss", "brier", "ece")


def card(meta: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    """Return the card as Markdown; meta: its manifest, metrics: the content of metrics.json."""
    data, order, specialists, confidence = meta["trainingData"], meta["orderValue"], metrics["specialists"], metrics["confidence"]["whole"]
    return f"""# Will this session buy?

One XGBoost model with a calibrated probability that a web session ends in a purchase, for requests with many features and with few.

**Use** it to decide what a shop shows or offers while the shopper is there. **Do not** take its factors for causes, set prices by it, or
base a decision on it that has legal effects for a person; it models sessions, not people.

## Data

`{data["name"]}`, SHA-256 `{data["sha256"]}`: {data["rows"]:,} sessions, {data["labelRate"]:.2%} of which bought. Average order:
{order["amount"]:.2f} {order["currency"]}{" (no order values: predictedValue counts orders)" if order["currency"] == "XXX" else ""}.
Columns that were not used: {", ".join(data["ignored"]) or "none"}.

## Metrics

{metrics["folds"]}-fold cross-validation, seed {metrics["seed"]}, all rows pooled; trees, category order and calibration are fitted inside
the fold.

| features known | AUC | average precision | log loss | Brier | ECE |
|---|---|---|---|---|---|
{chr(10).join(_row(name, metrics if case is None else metrics[case]) for name, case in _CASES)}
{_row("*a model trained for all features*", specialists["whole"])}
{_row("*a model trained without page value*", specialists["without_page_values"])}

ECE: 10 equal-mass bins. Many analytics tools compute page value from later transactions: where yours does, the figures without it are those
to expect while the session runs.

## What the confidence means

1 - confidenceScore is a distance. Among similar sessions, the share that buys is within it of the probability (90 % confidence), and 9 of
10 sessions are within it of the probability of a second model that has all recorded features. On held-out sessions
{confidence["rows_within"]:.1%} were, and {confidence["groups_within"]} of {confidence["groups"]} groups; the mean confidence was
{confidence["mean"]:.3f}.

## Made with

{", ".join(f"{name} {version}" for name, version in meta["software"].items())}; seed {meta["parameters"]["seed"]}.
"""


def _row(name: str, figures: Mapping[str, float]) -> str:
    return f"| {name} | " + " | ".join(f"{figures[column]:.4f}" for column in _COLUMNS) + " |"
