"""The card of a churn model, for people (Mitchell et al. 2019)."""

from collections.abc import Mapping
from typing import Any

LISTED = 20


def card(meta: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    """Return the card as Markdown; meta: the bundle's manifest, metrics: the content of metrics.json."""
    data, label = meta["trainingData"], meta["label"]
    listed = sorted(metrics["features"], key=lambda one: -one["importance"])
    unused = ", ".join(f"{name} ({why})" for name, why in data["unused"].items()) or "none"
    warnings = "".join(f"**{warning}**\n\n" for warning in metrics["warnings"])
    return f"""# Will this customer leave?

XGBoost with a calibrated probability that `{label["column"]}` is `{label["positive"]}`, within the period of this
column; the table does not state its length.

**Use** it to choose whom to retain, and to estimate what that is worth. **Do not** take its factors for causes: what correlates with
leaving need not cause it, and customers who are likely to leave need not be those who can be retained. Only an experiment measures the
effect of an action. Leave out columns by which the law forbids to treat people differently (`--map leftOut=COLUMN`).

{warnings}## Data

`{data["name"]}`, SHA-256 `{data["sha256"]}`: {data["rows"]:,} rows, {data["labelRate"]:.2%} of which left. Columns that were not used:
{unused}.

## Metrics

{metrics["folds"]}-fold cross-validation, seed {metrics["seed"]}, all rows pooled; the order of categories, the trees and the calibration
are fitted inside the fold.

| cells known | AUC | average precision | log loss | Brier | ECE |
|---|---|---|---|---|---|
{_row("all of the table", metrics)}
{_row("half of them, at random", metrics["halfMissing"])}

ECE: 10 equal-mass bins; rows of equal probability are in one bin.
{_treatments(metrics.get("uplift"))}

## Feature importance

Mean absolute SHAP value, in log-odds.

| feature | kind | importance |
|---|---|---|
{chr(10).join(f"| {one['name']} | {one['kind']} | {one['importance']:.3f} |" for one in listed[:LISTED])}

## Made with

{", ".join(f"{name} {version}" for name, version in meta["software"].items())}; seed {meta["parameters"]["seed"]}.
"""


def _row(name: str, figures: Mapping[str, Any]) -> str:
    return f"| {name} | " + " | ".join(f"{figures[one]:.4f}" for one in ("auc", "averagePrecision", "logLoss", "brier", "ece")) + " |"


def _treatments(uplift: Mapping[str, Any] | None) -> str:
    """Return the section on the experiment, empty without one."""
    if uplift is None:
        return ""
    judged = uplift["learners"][uplift["served"]]
    rows = [
        f"| {arm['name']} | {arm['customers']:,} | {_with_error(arm['average'], arm['averageError'])} "
        f"| {_with_error(judged[arm['name']]['qini'], judged[arm['name']]['error'])} | {_served(arm)} |"
        for arm in uplift["arms"]
    ]
    return f"""
## Treatments

Compared with `{uplift["control"]}`: the change of the probability of staying, and how well its prediction ranks customers of held-out rows
(Qini), each with its standard error.

| arm | customers | average effect | Qini | served |
|---|---|---|---|---|
{chr(10).join(rows)}
"""


def _with_error(value: float, error: float) -> str:
    return f"{value:+.4f} ± {error:.4f}"


def _served(arm: Mapping[str, Any]) -> str:
    if arm["differs"]:
        return "an effect for each customer"
    return "the average effect" if arm["significant"] else "no effect: the experiment shows none"
