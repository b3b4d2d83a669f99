"""The card of an emotion model, for people (Mitchell et al. 2019)."""

from collections.abc import Mapping
from typing import Any

from training.tables.texts import FRUSTRATION

GOEMOTIONS = "1c254a142be5c00e80d819b9ae1bbd36d94b2eeb8f4b1271846508d57e57d9c5"  # SHA-256 of its train.tsv


def card(meta: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    """Return the card as Markdown; meta: the manifest, metrics: the content of metrics.json."""
    data = meta["trainingData"]
    rows = "\n".join(f"| {one['name']} | {one['f1']:.3f} | {one['ece']:.3f} | {one['texts']:,} |" for one in metrics["outputs"])
    own = metrics["frustration"]
    aucs, general = own["generalAuc"], ""
    if aucs["served"] is not None:
        general = (
            f"On {metrics['judgedBy']}, where frustration is any of {', '.join(FRUSTRATION)}, its AUC is {aucs['served']:.3f}\n"
            f"({aucs['general']:.3f} before that calibration), but its level is that\n"
            "of support messages: too high for texts of another kind."
        )
    tuned = "its weights are unchanged, only the head was trained"
    if meta["encoder"].get("fineTuned"):
        tuned = "all of its weights were fine-tuned on these texts"
    return f"""# Which emotions do readers find in this text?

Calibrated probabilities that readers find each of 27 emotions, or none (neutral), in a text, and Ekman's groups; and the probability that
a support agent would read frustration in it.

**Use** it to sort support messages and reviews, and to find those that need a person first. **Do not** decide about a person by it, and do
not take it for what the writer feels: it predicts what readers find in such texts.

## Language and limits

English only, and the answer marks what is in another language: its scores are meaningless. {_origin(data)} \
Irony is mostly missed. {meta["encoder"]["longest"]} word pieces are read; the answer marks a
text that was cut, and one in which no word is known. Rare emotions (grief, pride, relief, nervousness) are seldom recognised.

## Law

Regulation (EU) 2024/1689 calls "emotion recognition" a system that infers emotions or intentions from **biometric data** (Article 3(39)).
This model reads text that a person has sent, not how it was typed: no keystrokes, no pointer, no voice, no face. For a known customer the
answer is profiling, so the request must state consent to the purpose `profiling`.

## Data

`{data["name"]}`, SHA-256 `{data["sha256"]}`: {data["texts"]:,} texts. The encoder is all-MiniLM-L6-v2, as the package
`{meta["encoder"]["package"]}` contains it ({meta["encoder"]["licence"]}); {tuned}.

## Frustration

Frustration is dissatisfaction with what a company sold, did or did not do: a fault, a wrong charge, a wait of weeks, a reminder, a demand
or a request for money back, criticism, a threat to leave, also in polite words. It is calibrated on {own["texts"]} support messages
(`support.tsv`, SHA-256 `{own["sha256"]}`),
about half of them complaints. A text counts as frustrated from **{own["threshold"]:.2f}** on. On topics that were left out of the fit:
AUC {own["auc"]:.3f}, ECE {own["ece"]:.3f}; {own["recall"]:.0%} of the complaints and {own["falseAlarms"]:.0%} of the other messages
reach the threshold.
{general}

## Metrics

Evaluated on {metrics["judgedBy"]}; thresholds and calibration are from texts that the head was not fitted on.

macro-F1 {metrics["macroF1"]:.3f}, micro-F1 {metrics["microF1"]:.3f}, Ekman macro-F1 {metrics["ekmanMacroF1"]:.3f}
(groups derived from labels {metrics["ekmanOfLabelsMacroF1"]:.3f}), mean ECE {metrics["ece"]:.4f}.

| output | F1 | ECE | texts with it |
|---|---|---|---|
{rows}
"""


def _origin(data: Mapping[str, Any]) -> str:
    """Return a sentence about the origin of the training texts, as far as it is known."""
    if data["sha256"] == GOEMOTIONS:
        return "The training texts are comments of an American\nforum, labelled by English speakers in India."
    return "Who wrote and labelled the\ntraining texts decides which texts it reads well."
