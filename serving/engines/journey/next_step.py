"""The next best step: of what may be done now, what is expected to add most, under a contact policy. Doing nothing is always one of them.

Steps and policy are in configs/steps.yaml. How much a step adds is a person's assumption (basis: rule) until outcomes have been logged with
their propensities (basis: bandit): then the step is drawn with the chance that it is the best (Thompson sampling), and the answer says how
likely it was to be drawn, so that the next model can be judged by what came of it.
"""

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, get_args

import msgspec
import numpy as np
import xxhash
from msgspec import Meta

from kernels.decisions.bandit import best_chances
from serving.engines.actions import Range
from serving.engines.types import ApiModel, Fraction, Moment, Name, epoch_ms
from serving.errors import SettingsError
from training.models.journey.next_step import Measured

NOTHING = "none"
Fact = Literal["conversionProbability", "exitProbability", "frictionScore", "events", "frustrated", "confused", "hesitant", "engaged"]
FACTS: tuple[str, ...] = get_args(Fact)
Reason = Literal["notNow", "sessionEnded", "consent", "contactCap", "coolDown", "quietHours", "localTimeUnknown"]
Basis = Literal["rule", "bandit"]
MAX_CONTACTS = 1000
MAX_STEPS = 32
HOUR_MS = 3_600_000.0


class Contact(ApiModel, frozen=True, kw_only=True):
    """Something that was done before about this customer or session."""

    step: Annotated[Name, Meta(description="A step of configs/steps.yaml, or anything else that reached the customer.")]
    at: Moment


class Candidate(ApiModel, frozen=True, kw_only=True):
    """A step that might be taken, and why it may not be."""

    step: str
    expected_incremental_value: Annotated[float | None, Meta(description="orderValue * (lift - costShare); null without orderValue.")]
    lift: Annotated[float, Meta(description="By how much it is believed to raise the chance of a purchase.")]
    lift_error: Annotated[float | None, Meta(description="The standard error of that; null for an assumption that nothing was logged of.")]
    basis: Basis
    propensity: Annotated[Fraction, Meta(description="The chance with which it was drawn.")]
    left_out: Annotated[Reason | None, Meta(description="Why it may not be taken now; null where it may.")]


class NextBestStep(ApiModel, frozen=True, kw_only=True):
    """What to do now. Log it with its propensity and what came of it: that is what the next model learns from."""

    step: Annotated[str, Meta(description=f"A step of configs/steps.yaml, or {NOTHING}: nothing adds more than it costs.")]
    description: str
    expected_incremental_value: Annotated[float | None, Meta(description="Beside doing nothing, in currency; null without orderValue.")]
    basis: Annotated[Basis, Meta(description="rule: a person's assumption. bandit: outcomes that were logged.")]
    propensity: Annotated[Fraction, Meta(description="The chance with which this step was drawn.")]
    candidates: Annotated[list[Candidate], Meta(description="Every step, the one that is expected to add most first.")]


class Step(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """One step of the table."""

    step: Annotated[str, Meta(pattern=r"^[a-z0-9_]{1,64}$")]
    channel: Literal["page", "message"]
    when: dict[Fact, Range]
    lift: Annotated[float, Meta(ge=-1, le=1)]
    cost_share: Annotated[float, Meta(ge=0, le=1)]
    sentence: Annotated[str, Meta(min_length=1, max_length=300)]
    purpose: Annotated[str, Meta(min_length=1, max_length=256)] | None = None


class Policy(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """What limits all steps."""

    explore: Fraction = 0.05
    max_contacts: Annotated[int, Meta(ge=0)] = 3
    within_hours: Annotated[float, Meta(gt=0)] = 24.0
    cool_down_hours: Annotated[float, Meta(ge=0)] = 6.0
    quiet_from: Annotated[float, Meta(ge=0, le=24)] = 21.0
    quiet_until: Annotated[float, Meta(ge=0, le=24)] = 8.0

    def quiet(self, moment: datetime) -> bool:
        """Return whether no message is sent at this local time; the quiet hours may pass midnight."""
        hour = moment.hour + moment.minute / 60
        begin, end = self.quiet_from, self.quiet_until
        return begin <= hour < end if begin <= end else hour >= begin or hour < end


class File(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """configs/steps.yaml."""

    policy: Policy
    steps: Annotated[list[Step], Meta(max_length=MAX_STEPS)]


class Situation(NamedTuple):
    """What is known when a step is to be chosen. key: the same for the same question, so that it gets the same answer."""

    facts: Mapping[str, float]
    at_ms: float
    ended: bool
    consent: Sequence[str]
    contacts: Sequence[Contact]
    utc_offset_minutes: float | None
    order_value: float | None
    key: str


class Steps:
    """The steps of a file, and what outcomes say of them."""

    def __init__(self, file: File, measured: Mapping[str, Measured] | None = None) -> None:
        """Raises SettingsError for a step that can never be taken, and for two of one name."""
        self._policy, self._steps = file.policy, file.steps
        names = [step.step for step in file.steps]
        if twins := sorted({name for name in names if names.count(name) > 1 or name == NOTHING}):
            raise SettingsError(f"steps {', '.join(twins)}: the name is taken; every step needs its own")
        for step in file.steps:
            for fact, given in step.when.items():
                low, high = given.bounds
                if math.isnan(low) or not low < high:
                    raise SettingsError(f"step {step.step}, {fact}: the range {low} to {high} is empty; give atLeast < below")
        self._beliefs = [_belief(step, (measured or {}).get(step.step), bool(measured)) for step in file.steps]

    def choose(self, situation: Situation) -> NextBestStep:
        """Return the step to take."""
        left_out = [self._left_out(step, situation) for step in self._steps]
        values = np.array([[belief.lift - step.cost_share for step, belief in self._pairs()] + [0.0]])
        spread = np.array([[belief.error or 0.0 for belief in self._beliefs] + [0.0]])
        allowed = np.array([[reason is None for reason in left_out] + [True]])
        chances = np.empty_like(values)
        best_chances(values, spread, allowed, self._policy.explore, chances)
        taken = _drawn(chances[0], situation.key)
        worth = situation.order_value
        candidates = [
            Candidate(
                step=step.step,
                expected_incremental_value=None if worth is None else worth * (belief.lift - step.cost_share),
                lift=belief.lift,
                lift_error=belief.error,
                basis=belief.basis,
                propensity=min(1.0, float(chance)),
                left_out=reason,
            )
            for (step, belief), chance, reason in zip(self._pairs(), chances[0], left_out, strict=False)
        ]
        nothing = taken == len(self._steps)
        bandit = any(belief.basis == "bandit" for belief in self._beliefs)
        return NextBestStep(
            step=NOTHING if nothing else self._steps[taken].step,
            description=self._said(candidates) if nothing else self._steps[taken].sentence,
            expected_incremental_value=0.0 if nothing else candidates[taken].expected_incremental_value,
            basis=("bandit" if bandit else "rule") if nothing else candidates[taken].basis,
            propensity=min(1.0, float(chances[0, taken])),
            candidates=[candidates[place] for place in np.argsort(-values[0, :-1], kind="stable").tolist()],
        )

    def _pairs(self) -> "zip[tuple[Step, Belief]]":
        return zip(self._steps, self._beliefs, strict=True)

    def _said(self, candidates: Sequence[Candidate]) -> str:
        possible = any(candidate.left_out is None for candidate in candidates)
        return "Do nothing: " + ("so it was drawn, or nothing adds more than it costs." if possible else "nothing may be done now.")

    def _left_out(self, step: Step, situation: Situation) -> Reason | None:
        """Return why a step may not be taken, the plainest reason first."""
        if not all(low <= situation.facts[fact] < high for fact, (low, high) in ((fact, r.bounds) for fact, r in step.when.items())):
            return "notNow"
        if step.channel == "page" and situation.ended:
            return "sessionEnded"
        if step.purpose is not None and step.purpose not in situation.consent:
            return "consent"
        return self._too_much(step, situation) or (self._too_late(situation) if step.channel == "message" else None)

    def _too_much(self, step: Step, situation: Situation) -> Reason | None:
        policy = self._policy
        ages = [(contact.step, (situation.at_ms - epoch_ms(contact.at)) / HOUR_MS) for contact in situation.contacts]
        if sum(0 <= age < policy.within_hours for _, age in ages) >= policy.max_contacts:
            return "contactCap"
        if any(name == step.step and 0 <= age < policy.cool_down_hours for name, age in ages):
            return "coolDown"
        return None

    def _too_late(self, situation: Situation) -> Reason | None:
        if situation.utc_offset_minutes is None:
            return "localTimeUnknown"
        local = datetime.fromtimestamp(situation.at_ms / 1000, UTC) + timedelta(minutes=situation.utc_offset_minutes)
        return "quietHours" if self._policy.quiet(local) else None


class Belief(NamedTuple):
    """What is believed of a step's lift, and how sure that is: error None for a bare assumption."""

    lift: float
    error: float | None
    basis: Basis


def _belief(step: Step, measured: Measured | None, learned: bool) -> Belief:
    """Return what is believed of a step. An assumption is taken to be wrong by as much as it says, once anything is learned from outcomes:
    so a step that nothing was logged of is tried, and one that was soon counts for what it did.
    """
    prior = max(abs(step.lift), 1e-4)
    if measured is None:
        return Belief(step.lift, prior if learned else None, "rule")
    own, other = 1 / prior**2, 1 / max(measured.error, 1e-9) ** 2
    return Belief((own * step.lift + other * measured.lift) / (own + other), (own + other) ** -0.5, "bandit")


def _drawn(chances: "np.ndarray[tuple[int], np.dtype[np.float64]]", key: str) -> int:
    """Return an arm by its chance; the same for the same key."""
    at = xxhash.xxh3_64_intdigest(key.encode()) / 2**64
    return min(int(np.searchsorted(np.cumsum(chances), at, side="right")), len(chances) - 1)


def load(path: Path, measured: Mapping[str, Measured] | None = None) -> Steps:
    """Return the steps in `path`. Raises SettingsError naming the file, the step and what is wrong with it."""
    try:
        return Steps(msgspec.yaml.decode(path.read_bytes(), type=File), measured)
    except OSError as error:
        raise SettingsError(f"cannot read the steps from {path}: {error.strerror}") from error
    except (msgspec.DecodeError, SettingsError) as error:
        raise SettingsError(f"{path}: {error}") from error
