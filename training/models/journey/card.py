"""The card of a journey model, for people (Mitchell et al. 2019)."""

from collections.abc import Mapping
from typing import Any


def card(meta: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    """Return the card as Markdown; meta: the manifest, metrics: the content of metrics.json."""
    data = meta["trainingData"]
    rows = "\n".join(
        f"| {after} | {one['served']['auc']:.4f} | {one['served']['ece']:.4f} | {one['networkAuc']:.4f} | {one['treesAuc']:.4f} | "
        f"{one['baselineAuc']:.4f} | {one['servedAucLongSessions']:.4f} | {one['baselineAucLongSessions']:.4f} |"
        for after, one in metrics["candidates"].items()
    )
    return f"""# What happens next in this session?

A recurrent network of {meta["parameters"]["width"]} units, and XGBoost trees stacked on its outputs. It predicts calibrated probabilities:
that the session ends with a purchase, that this event is its last, and of each next step, which is a page or another event.

**Use** it to choose what to show next. **Do not** interpret the order of events as cause and effect, and do not infer emotions from it:
friction is counted from clicks, pages and waits. The data contain no ground truth of what a shopper feels.

## Law

Regulation (EU) 2024/1689 defines "emotion recognition" as inferring emotions or intentions from **biometric data** (Article 3(39)). This
model uses none: no keystroke timing, no pointer path as an identifying trait, no face, no voice, only events and their times. For an
identified customer the prediction is profiling, so the request must state consent to the purpose `profiling`.

## Data

`{data["name"]}`: {data["sessions"]:,} sessions, {data["events"]:,} events, {metrics["baseRate"]:.2%} bought. Trained on
{metrics["trainingSessions"]:,}, evaluated on {metrics["validationSessions"]:,} others. Whether a session has ended is an
input, never inferred.

## Metrics

| after events | AUC | ECE | network alone | trees alone | baseline | AUC, sessions of that length | baseline, same sessions |
|---|---|---|---|---|---|---|---|
{rows}

A session with fewer events counts as ended after its last one, so its length explains much of the AUC after 10 events and at the end.
Baseline: XGBoost on counts and times of the same rows, fitted separately for each number of events.
"""
