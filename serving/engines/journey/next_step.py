"""The next best step: of the steps that the contact policy allows, the one with the highest expected value, or none.

Steps and policy are in configs/steps.yaml. The value of a step is a person's assumption (basis: rule) until outcomes have been logged with
their propensities (basis: bandit). Then a step is drawn with the probability that it is the best (Thompson sampling), and the answer has
that probability, so that the next model can be evaluated off-policy.
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

from kernels.decisions.bandit import best_arm_probabilities
from serving.engines.actions import ValueRange
from serving.engines.types import ApiModel, Fraction, Moment, Name, epoch_ms
from serving.errors import SettingsError
from training.models.journey.next_step import StepEffect

NOTHING = "none"
Fact = Literal["conversionProbability", "exitProbability", "frictionScore", "events", "frustrated", "confused", "hesitant", "engaged"]
FACTS: tuple[str, ...] = get_args(Fact)
ExclusionReason = Literal["notNow", "sessionEnded", "consent", "contactCap", "coolDown", "quietHours", "localTimeUnknown"]
Basis = Literal["rule", "bandit"]
MAX_CONTACTS = 1000
MAX_STEPS = 32
HOUR_MS = 3_600_000.0


class Contact(ApiModel, frozen=True, kw_only=True):
    """An earlier contact with this customer."""

    step: Annotated[Name, Meta(description="A step of configs/steps.yaml, or any other contact.")]
    at: Annotated[Moment, Meta(description="When it took place.")]


class StepCandidate(ApiModel, frozen=True, kw_only=True):
    """A step with its expected value, and the reason why it is excluded, if it is."""

    step: Annotated[str, Meta(description="A step of configs/steps.yaml.")]
    expected_incremental_value: Annotated[float | None, Meta(description="orderValue * (lift - costShare); null without orderValue.")]
    lift: Annotated[float, Meta(description="The assumed or measured increase of the probability of a purchase.")]
    lift_error: Annotated[float | None, Meta(description="The standard error of lift; null for an assumption without logged outcomes.")]
    basis: Annotated[Basis, Meta(description="rule: a person's assumption. bandit: logged outcomes.")]
    propensity: Annotated[Fraction, Meta(description="The probability with which it was drawn.")]
    exclusion_reason: Annotated[ExclusionReason | None, Meta(description="Why the step is not allowed now; null where it is.")]


class NextBestStep(ApiModel, frozen=True, kw_only=True):
    """What to do now. Log it with its propensity and its outcome: the next model is trained on them."""

    step: Annotated[str, Meta(description=f"A step of configs/steps.yaml, or {NOTHING}.")]
    description: Annotated[str, Meta(description="What to do, in one sentence.")]
    expected_incremental_value: Annotated[
        float | None, Meta(description="Compared with doing nothing, in currency; null without orderValue.")
    ]
    basis: Annotated[Basis, Meta(description="rule: a person's assumption. bandit: logged outcomes.")]
    propensity: Annotated[Fraction, Meta(description="The probability with which this step was drawn.")]
    candidates: Annotated[list[StepCandidate], Meta(description="Every step, highest expected value first.")]


class StepRule(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """One step of the table."""

    step: Annotated[str, Meta(pattern=r"^[a-z0-9_]{1,64}$")]
    channel: Literal["page", "message"]
    when: dict[Fact, ValueRange]
    lift: Annotated[float, Meta(ge=-1, le=1)]
    cost_share: Annotated[float, Meta(ge=0, le=1)]
    sentence: Annotated[str, Meta(min_length=1, max_length=300)]
    purpose: Annotated[str, Meta(min_length=1, max_length=256)] | None = None


class ContactPolicy(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """The limits that apply to all steps."""

    explore: Fraction = 0.05
    max_contacts: Annotated[int, Meta(ge=0)] = 3
    within_hours: Annotated[float, Meta(gt=0)] = 24.0
    cool_down_hours: Annotated[float, Meta(ge=0)] = 6.0
    quiet_from: Annotated[float, Meta(ge=0, le=24)] = 21.0
    quiet_until: Annotated[float, Meta(ge=0, le=24)] = 8.0

    def is_quiet(self, moment: datetime) -> bool:
        """Return whether this local time is within the quiet hours, which may include midnight."""
        hour = moment.hour + moment.minute / 60
        begin, end = self.quiet_from, self.quiet_until
        return begin <= hour < end if begin <= end else hour >= begin or hour < end


class StepsFile(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """configs/steps.yaml."""

    policy: ContactPolicy
    steps: Annotated[list[StepRule], Meta(max_length=MAX_STEPS)]


class Situation(NamedTuple):
    """What the choice of a step depends on. key: seeds the draw, so that the same request gets the same step."""

    facts: Mapping[str, float]
    at_ms: float
    ended: bool
    consent: Sequence[str]
    contacts: Sequence[Contact]
    utc_offset_minutes: float | None
    order_value: float | None
    key: str


class StepChooser:
    """Chooses among the steps of a file, with the lifts measured from logged outcomes, if any."""

    def __init__(self, file: StepsFile, measured: Mapping[str, StepEffect] | None = None) -> None:
        """Raises SettingsError for a step that can never be taken, and for two steps with one name."""
        self._policy, self._steps = file.policy, file.steps
        names = [step.step for step in file.steps]
        if duplicates := sorted({name for name in names if names.count(name) > 1 or name == NOTHING}):
            raise SettingsError(f"steps {', '.join(duplicates)}: the name is used twice or reserved; give every step its own")
        for step in file.steps:
            for fact, given in step.when.items():
                low, high = given.bounds
                if math.isnan(low) or not low < high:
                    raise SettingsError(f"step {step.step}, {fact}: the range {low} to {high} is empty; give atLeast < below")
        self._estimates = [_estimate(step, (measured or {}).get(step.step), bool(measured)) for step in file.steps]

    def choose(self, situation: Situation) -> NextBestStep:
        """Return the step to take."""
        reasons = [self._exclusion_reason(step, situation) for step in self._steps]
        values = np.array([[estimate.lift - step.cost_share for step, estimate in self._pairs()] + [0.0]])
        spread = np.array([[estimate.error or 0.0 for estimate in self._estimates] + [0.0]])
        allowed = np.array([[reason is None for reason in reasons] + [True]])
        chances = np.empty_like(values)
        best_arm_probabilities(values, spread, allowed, self._policy.explore, chances)
        taken = _drawn(chances[0], situation.key)
        order_value = situation.order_value
        candidates = [
            StepCandidate(
                step=step.step,
                expected_incremental_value=None if order_value is None else order_value * (estimate.lift - step.cost_share),
                lift=estimate.lift,
                lift_error=estimate.error,
                basis=estimate.basis,
                propensity=min(1.0, float(chance)),
                exclusion_reason=reason,
            )
            for (step, estimate), chance, reason in zip(self._pairs(), chances[0], reasons, strict=False)
        ]
        nothing = taken == len(self._steps)
        bandit = any(estimate.basis == "bandit" for estimate in self._estimates)
        return NextBestStep(
            step=NOTHING if nothing else self._steps[taken].step,
            description=_nothing_description(candidates) if nothing else self._steps[taken].sentence,
            expected_incremental_value=0.0 if nothing else candidates[taken].expected_incremental_value,
            basis=("bandit" if bandit else "rule") if nothing else candidates[taken].basis,
            propensity=min(1.0, float(chances[0, taken])),
            candidates=[candidates[place] for place in np.argsort(-values[0, :-1], kind="stable").tolist()],
        )

    def _pairs(self) -> "zip[tuple[StepRule, LiftEstimate]]":
        return zip(self._steps, self._estimates, strict=True)

    def _exclusion_reason(self, step: StepRule, situation: Situation) -> ExclusionReason | None:
        """Return the first reason why a step is not allowed, None where it is."""
        if not all(low <= situation.facts[fact] < high for fact, (low, high) in ((fact, r.bounds) for fact, r in step.when.items())):
            return "notNow"
        if step.channel == "page" and situation.ended:
            return "sessionEnded"
        if step.purpose is not None and step.purpose not in situation.consent:
            return "consent"
        return self._contact_limit(step, situation) or (self._quiet_hours(situation) if step.channel == "message" else None)

    def _contact_limit(self, step: StepRule, situation: Situation) -> ExclusionReason | None:
        policy = self._policy
        ages = [(contact.step, (situation.at_ms - epoch_ms(contact.at)) / HOUR_MS) for contact in situation.contacts]
        if sum(0 <= age < policy.within_hours for _, age in ages) >= policy.max_contacts:
            return "contactCap"
        if any(name == step.step and 0 <= age < policy.cool_down_hours for name, age in ages):
            return "coolDown"
        return None

    def _quiet_hours(self, situation: Situation) -> ExclusionReason | None:
        if situation.utc_offset_minutes is None:
            return "localTimeUnknown"
        local = datetime.fromtimestamp(situation.at_ms / 1000, UTC) + timedelta(minutes=situation.utc_offset_minutes)
        return "quietHours" if self._policy.is_quiet(local) else None


def _nothing_description(candidates: Sequence[StepCandidate]) -> str:
    allowed = any(candidate.exclusion_reason is None for candidate in candidates)
    return "Do nothing: " + ("no step adds more than it costs, or this was drawn." if allowed else "no step is allowed now.")


class LiftEstimate(NamedTuple):
    """The estimated lift of a step and its standard error, None for an assumption without logged outcomes."""

    lift: float
    error: float | None
    basis: Basis


def _estimate(step: StepRule, measured: StepEffect | None, any_measured: bool) -> LiftEstimate:
    """Return the estimated lift of a step: its assumption combined with the measurement by their precisions.

    Once any step is measured, the standard error of an assumption is its own size. A step without outcomes is then tried, and a few
    outcomes outweigh the assumption.
    """
    prior = max(abs(step.lift), 1e-4)
    if measured is None:
        return LiftEstimate(step.lift, prior if any_measured else None, "rule")
    own, other = 1 / prior**2, 1 / max(measured.error, 1e-9) ** 2
    return LiftEstimate((own * step.lift + other * measured.lift) / (own + other), (own + other) ** -0.5, "bandit")


def _drawn(chances: "np.ndarray[tuple[int], np.dtype[np.float64]]", key: str) -> int:
    """Return the index of an arm drawn by its probability; the same for the same key."""
    at = xxhash.xxh3_64_intdigest(key.encode()) / 2**64
    return min(int(np.searchsorted(np.cumsum(chances), at, side="right")), len(chances) - 1)


def load(path: Path, measured: Mapping[str, StepEffect] | None = None) -> StepChooser:
    """Return a chooser of the steps in `path`. Raises SettingsError with the file, the step and what is wrong with it."""
    try:
        return StepChooser(msgspec.yaml.decode(path.read_bytes(), type=StepsFile), measured)
    except OSError as error:
        raise SettingsError(f"cannot read the steps from {path}: {error.strerror}") from error
    except (msgspec.DecodeError, SettingsError) as error:
        raise SettingsError(f"{path}: {error}") from error
