"""The card of an emotion model, for people (Mitchell et al. 2019)."""

from collections.abc import Mapping
from typing import Any


def card(meta: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    """Return the card as Markdown; meta: what the manifest says, metrics: the content of metrics.json."""
    data = meta["trainingData"]
    rows = "\n".join(f"| {one['name']} | {one['f1']:.3f} | {one['ece']:.3f} | {one['texts']:,} |" for one in metrics["outputs"])
    tuned = "it is used as it is, only the head was learned"
    if meta["encoder"].get("fineTuned"):
        tuned = "all of its weights were fine-tuned on them"
    return f"""# What feeling is in this text?

Calibrated probabilities that readers find each of 27 emotions, or none (neutral), in a text; Ekman's groups, and whether any of anger,
annoyance, disappointment, disapproval or disgust is there (frustration).

**Use** it to sort support messages and reviews, and to see which need a person first. **Do not** decide about a person by it, and do not
take it for what the writer feels: it says what readers of such words mostly find in them.

## Language and limits

English only; it learned from comments of an American forum, whose readers were English speakers in India. Irony is mostly lost. A text in
another language gets numbers that mean little. {meta["encoder"]["longest"]} word pieces are read, what is beyond is left out, and said so.
Rare emotions (grief, pride, relief, nervousness) are seldom right.

## Law

Regulation (EU) 2024/1689 calls "emotion recognition" a system that infers emotions or intentions from **biometric data** (Article 3(39)).
This reads text that a person has sent, and nothing of how it was typed: no keystrokes, no pointer, no voice, no face. For a known customer
the answer is profiling, so the request must say that the purpose `profiling` was consented to.

## Data

`{data["name"]}`, SHA-256 `{data["sha256"]}`: {data["texts"]:,} texts. The encoder is all-MiniLM-L6-v2, as the package
`{meta["encoder"]["package"]}` carries it ({meta["encoder"]["licence"]}); {tuned}.

## How good it is

Judged by {metrics["judgedBy"]}; thresholds and calibration are from texts that the head did not learn from.

macro-F1 {metrics["macroF1"]:.3f}, micro-F1 {metrics["microF1"]:.3f}, Ekman macro-F1 {metrics["ekmanMacroF1"]:.3f}
(of the labels' groups {metrics["ekmanOfLabelsMacroF1"]:.3f}), mean ECE {metrics["ece"]:.4f}.

| output | F1 | ECE | texts that have it |
|---|---|---|---|
{rows}
"""
