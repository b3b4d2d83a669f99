"""What friction comes to in words: a closed set of states, each with a score by rules and the evidence that it is made of.

Nobody can read a feeling from clicks, and nothing here claims to: in the one randomised study of stress and the mouse, its movements told
stressed people from others with an AUC of .525 (Freihaut et al. 2021). A state is a name for what was counted.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, cast

from msgspec import Meta

from kernels.sessions.friction import COUNTED, friction_level
from kernels.types import I32
from serving.engines.types import ApiModel, Fraction

EmotionalState = Literal["neutral", "engaged", "hesitant", "confused", "frustrated"]
Level = Literal["low", "medium", "high"]

# How much each count adds to a state. Ours: a judgement, no measurement. A state's score is 1 - 1 / (1 + sum).
WEIGHTS: Mapping[EmotionalState, Mapping[str, float]] = {
    "frustrated": {"rageClick": 1.0, "errorClick": 1.0, "deadClick": 0.5, "scriptError": 0.5, "longWait": 0.5, "thrashedCursor": 0.5},
    "confused": {"pageLoop": 1.0, "uTurn": 0.7, "deadClick": 0.2},
    "hesitant": {"hesitation": 0.5, "refocus": 0.7},
}
BY_CONVERSION: EmotionalState = "engaged"  # as likely as a purchase, where there are enough events to say
MIN_EVENTS = 5
MIN_SCORE = 0.3  # of a state, else neutral


class Evidence(ApiModel, frozen=True, kw_only=True):
    """What one rule has counted."""

    detector: Annotated[str, Meta(description=f"One of {', '.join(COUNTED)}; the rules are in kernels/sessions/friction.py.")]
    count: Annotated[int, Meta(ge=1)]
    last_event: Annotated[int, Meta(ge=0, description="The place, from 0, of the event at which it was seen last, of those up to asOf.")]


class StateScore(ApiModel, frozen=True, kw_only=True):
    """How much speaks for one state."""

    state: EmotionalState
    score: Fraction
    evidence: list[Evidence]


def counted(counts: I32) -> list[Evidence]:
    """Return what was counted, of [2 counted] as `kernels.sessions.friction` has it: numbers, then the last events."""
    said = counts.tolist()
    size = len(COUNTED)
    return [
        Evidence(detector=name, count=said[place], last_event=said[size + place]) for place, name in enumerate(COUNTED) if said[place] > 0
    ]


def scores(evidence: Sequence[Evidence], events: int, conversion: float) -> list[StateScore]:
    """Return the score of every state but neutral, with what of the evidence is its own; conversion: the probability of a purchase."""
    found = {one.detector: one for one in evidence}
    out = []
    for state, weights in WEIGHTS.items():
        seen = [found[name] for name in weights if name in found]
        total = sum(weights[one.detector] * one.count for one in seen)
        out.append(StateScore(state=state, score=1 - 1 / (1 + total), evidence=seen))
    engaged = conversion if events >= MIN_EVENTS else 0.0
    return [*out, StateScore(state=BY_CONVERSION, score=engaged, evidence=[])]


def state(of: Sequence[StateScore]) -> EmotionalState:
    """Return the state for which most speaks, the first of equals; neutral where little does."""
    best = max(of, key=lambda one: one.score)
    return best.state if best.score >= MIN_SCORE else "neutral"


def level(score: float) -> Level:
    """Return which level a friction score is of."""
    return cast(Level, friction_level(score))
