"""The card of a journey model, for people (Mitchell et al. 2019)."""

from collections.abc import Mapping
from typing import Any


def card(meta: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    """Return the card as Markdown; meta: what the manifest says, metrics: the content of metrics.json."""
    data = meta["trainingData"]
    rows = "\n".join(
        f"| {after} | {one['served']['auc']:.4f} | {one['served']['ece']:.4f} | {one['networkAuc']:.4f} | {one['treesAuc']:.4f} | "
        f"{one['plainAuc']:.4f} | {one['servedAucOfLong']:.4f} | {one['plainAucOfLong']:.4f} |"
        for after, one in metrics["candidates"].items()
    )
    return f"""# What happens next in this session?

A recurrent network of {meta["parameters"]["width"]} units and XGBoost trees that know what it says, with calibrated probabilities: that
the session will have bought when it ends, that this event is its last, and of the next step: a page, or what else is done.

**Use** it to choose what to show next. **Do not** take the order of things for their cause, and do not read feelings into it: friction is
counted from clicks, pages and waits, and says what it is. There is no ground truth of what a shopper feels in any of this.

## Law

Regulation (EU) 2024/1689 calls "emotion recognition" a system that infers emotions or intentions from **biometric data** (Article 3(39)).
Here are none: no keystroke's timing, no path of a pointer as a person's mark, no face, no voice; only which events came when. For a known
customer the answer is profiling, so the request must say that the purpose `profiling` was consented to.

## Data

`{data["name"]}`: {data["sessions"]:,} sessions, {data["events"]:,} events, {metrics["baseRate"]:.2%} bought. Learned from
{metrics["sessionsLearnedFrom"]:,}, judged by {metrics["sessionsJudgedBy"]:,} others. Whether a session has ended is said, never guessed.

## How good it is

| after events | AUC | ECE | network alone | trees alone | plain XGBoost | AUC of sessions at least so long | plain |
|---|---|---|---|---|---|---|---|
{rows}

A session with fewer events counts as ended after its last: much of the figures after 10 and of the whole is knowing that it was short.
Plain XGBoost: counts and times of the same rows, fitted for each number of events by itself.
"""
