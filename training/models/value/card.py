"""The card of a value model, for people (Mitchell et al. 2019)."""

from collections.abc import Mapping
from typing import Any

NAMES = {"bg_nbd": "BG/NBD", "mbg_nbd": "MBG/NBD", "pareto_nbd": "Pareto/NBD", "nbd": "NBD (no churn)", "gamma_gamma": "Gamma-Gamma"}


def card(meta: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    """Return the card as Markdown; meta: the bundle's manifest, metrics: the content of metrics.json."""
    data = meta["trainingData"]
    left_out = ", ".join(f"{number:,} {reason}" for reason, number in data["leftOut"].items() if number) or "none"
    return f"""# What customers are worth

Predicts how often customers buy again, whether they are still active, and what they spend. Fitted to `{data["name"]}`, SHA-256
`{data["sha256"]}`: {metrics["customers"]:,} customers up to {data["split"]}, of whom {metrics["repeatCustomers"]:,} bought again. Rows left
out: {left_out}.

Served: {NAMES[metrics["served"]]}. **Use** it for totals over many customers: {_totals(metrics["holdout"])}. **Do not** rely on it for a
single customer, and do not expect it to rank customers much better than their past spend does.

{_warning(metrics)}

| model | parameters | log-likelihood |
|---|---|---|
{chr(10).join(_row(name, one) for name, one in metrics["parameters"].items())}

{_holdout(metrics["holdout"], data["end"])}

## Made with

{", ".join(f"{name} {version}" for name, version in meta["software"].items())}.
"""


def _totals(after: Mapping[str, Any] | None) -> str:
    """Return how far the totals of the hold-out were off, relative to what was bought."""
    if after is None:
        return "how far they are off was not measured, since there was no hold-out"
    money = after["spend"]
    predicted = money["models"][money["served"]]["predicted"]
    totals = {"purchases": (after["transactions"], after["actual"]), "money": (predicted, money["actual"])}
    off = [f"of {name} by {stated / actual - 1:+.1%}" for name, (stated, actual) in totals.items() if actual]
    return f"in the hold-out they were off, {' and '.join(off)}" if off else "nothing was bought in the hold-out to measure them by"


def _warning(metrics: Mapping[str, Any]) -> str:
    return "\n".join(f"- **{one[0].upper()}{one[1:]}.**" for one in metrics["warnings"]) or "No warnings."


def _row(name: str, one: Mapping[str, Any] | None) -> str:
    if one is None:
        return f"| {NAMES[name]} | could not be fitted | - |"
    values = ", ".join(f"{key} {one[key]:.5g}" for key in one["standardErrors"])
    prior = " (with a weakly informative prior)" if one["penalised"] else ""
    return f"| {NAMES[name]}{prior} | {values} | {one['logLikelihood']:,.2f} |"


def _holdout(after: Mapping[str, Any] | None, end: str) -> str:
    if after is None:
        return "There was no hold-out: set --split to a day before the end to measure the predictions."
    naive = after["naive"]
    lines = [f"## The hold-out, until {end}", ""]
    predictions = f"predicted {after['transactions']:,.1f}, by past rates {naive['transactions']:,.1f}"
    lines.append(f"{after['actual']:,.0f} purchases; {predictions}.")
    lines.append(f"Mean absolute error {after['mae']:.3f}, by past rate {naive['mae']:.3f}; correlation {_figure(after['correlation'])}.")
    money, interval = after["spend"], after["interval"]
    served = NAMES["gamma_gamma"] if money["served"] == "closed" else "trees with a zero-inflated log-normal head"
    predicted = money["models"][money["served"]]["predicted"]
    lines.append(f"Money {money['actual']:,.2f}; predicted {predicted:,.2f}, by {served}, the model with the lower deviance.")
    lines.append(f"The {interval['level']:.0%} interval covered {interval['within']:.1%} of the customers.")
    lines += ["", "| repeat purchases before | customers | predicted | actual |", "|---|---|---|---|"]
    lines += [
        f"| {row['repeatPurchases']} | {row['customers']:,} | {row['predicted']:.3f} | {row['actual']:.3f} |"
        for row in after["byRepeatPurchases"]
    ]
    if after["ranking"] is not None:
        lines += ["", "| ordered by | normalised Gini | best tenth's share of spend |", "|---|---|---|"]
        lines += [f"| {name} | {_figure(one['gini'])} | {_figure(one['topTenthOfSpend'])} |" for name, one in after["ranking"].items()]
    return "\n".join(lines)


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
