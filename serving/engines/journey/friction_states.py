"""Friction states: a closed set of names for the friction that was counted, each with a score by rules and its evidence.

They are not measured feelings: in the one randomised study of stress and mouse movements, these separated stressed people from others with
an AUC of .525 (Freihaut et al. 2021).
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, cast

from msgspec import Meta

from kernels.sessions.friction import COUNTED, friction_level
from kernels.types import I32
from serving.engines.types import ApiModel, Fraction

EmotionalState = Literal["neutral", "engaged", "hesitant", "confused", "frustrated"]
FrictionLevel = Literal["low", "medium", "high"]

# How much each count adds to a state: a judgement, not a measurement. A state's score is 1 - 1 / (1 + sum).
WEIGHTS: Mapping[EmotionalState, Mapping[str, float]] = {
    "frustrated": {"rageClick": 1.0, "errorClick": 1.0, "deadClick": 0.5, "scriptError": 0.5, "longWait": 0.5, "thrashedCursor": 0.5},
    "confused": {"pageLoop": 1.0, "uTurn": 0.7, "deadClick": 0.2},
    "hesitant": {"hesitation": 0.5, "refocus": 0.7},
}
BY_CONVERSION: EmotionalState = "engaged"  # its score is the probability of a purchase, from MIN_EVENTS events on
MIN_EVENTS = 5
MIN_SCORE = 0.3  # below it the state is neutral


class Evidence(ApiModel, frozen=True, kw_only=True):
    """The count of one friction rule."""

    detector: Annotated[str, Meta(description=f"One of {', '.join(COUNTED)}; the rules are in kernels/sessions/friction.py.")]
    count: Annotated[int, Meta(ge=1, description="How often the rule applied.")]
    last_event: Annotated[
        int, Meta(ge=0, description="The index, from 0, of the event that was counted last, among the events up to asOf.")
    ]


class StateScore(ApiModel, frozen=True, kw_only=True):
    """The score of one friction state, with the counts that it is computed from."""

    state: Annotated[EmotionalState, Meta(description="The friction state.")]
    score: Annotated[Fraction, Meta(description="From 0, no sign of it, to 1.")]
    evidence: Annotated[list[Evidence], Meta(description="The counts that the score is computed from.")]


def evidence(counts: I32) -> list[Evidence]:
    """Return what was counted; counts: int32 [2 counted] of `kernels.sessions.friction`: numbers, then the last events."""
    values = counts.tolist()
    size = len(COUNTED)
    return [
        Evidence(detector=name, count=values[place], last_event=values[size + place])
        for place, name in enumerate(COUNTED)
        if values[place] > 0
    ]


def scores(evidence: Sequence[Evidence], events: int, conversion: float) -> list[StateScore]:
    """Return the score of every state but neutral, with the evidence that counts for it; conversion: the probability of a purchase."""
    found = {one.detector: one for one in evidence}
    out = []
    for state, weights in WEIGHTS.items():
        seen = [found[name] for name in weights if name in found]
        total = sum(weights[one.detector] * one.count for one in seen)
        out.append(StateScore(state=state, score=1 - 1 / (1 + total), evidence=seen))
    engaged = conversion if events >= MIN_EVENTS else 0.0
    return [*out, StateScore(state=BY_CONVERSION, score=engaged, evidence=[])]


def strongest(states: Sequence[StateScore]) -> EmotionalState:
    """Return the state with the highest score, the first of equal ones; neutral where no score reaches MIN_SCORE."""
    best = max(states, key=lambda one: one.score)
    return best.state if best.score >= MIN_SCORE else "neutral"


def level(score: float) -> FrictionLevel:
    """Return the level of a friction score."""
    return cast(FrictionLevel, friction_level(score))
