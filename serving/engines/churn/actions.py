"""Retention actions for a customer who may leave, ranked by what they are expected to save: arms of an experiment, and rules.

The rules and the costs of the arms are in configs/retention.yaml.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from serving.engines.actions import ValueRange
from serving.engines.types import ApiModel, Fraction
from serving.errors import SettingsError

# Closed, so that a caller can map every code to an implementation.
RetentionCode = Literal["call", "offer_terms", "ask_feedback", "show_value", "spend_nothing", "repeat_arm"]


class RetentionAction(ApiModel, frozen=True, kw_only=True):
    """An action that is worth taking. `basis` is the kind of evidence: a rule is a person's judgement, and what it saves an assumption;
    uplift is a measured effect: by how much an experiment raised the probability of staying.
    """

    rule: Annotated[str | None, Meta(description="The rule of configs/retention.yaml that fired.")] = None
    arm: Annotated[str | None, Meta(description="The arm of the experiment to repeat.")] = None
    action: Annotated[RetentionCode, Meta(description="The code of the action.")]
    description: Annotated[str, Meta(description="What to do and why, in one sentence.")]
    priority: Annotated[int, Meta(ge=1, description="1 comes first: it is expected to save most.")]
    expected_value_saved: Annotated[
        float | None,
        Meta(
            description="In currency; null without customerValue. A rule's: customerValue * (churnRisk * assumedSavedShare - "
            "assumedCostShare). An arm's: customerValue * effect - what the arm costs."
        ),
    ]
    effect: Annotated[
        float | None,
        Meta(description="By how much the arm raises this customer's probability of staying, from an experiment; at most churnRisk."),
    ] = None
    assumed_saved_share: Annotated[
        Fraction | None, Meta(description="The share of those who would leave that stays because of it: not measured.")
    ] = None
    assumed_cost_share: Annotated[Fraction | None, Meta(description="What it costs, as a share of customerValue: not measured.")] = None
    basis: Annotated[
        Literal["rule", "uplift"], Meta(description="The kind of evidence: uplift is a measured effect, rule a person's judgement.")
    ]


class RetentionRule(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """One rule of the table; it fires when churnRisk is in the range `when`."""

    id: Annotated[str, Meta(pattern=r"^[a-z0-9-]{1,64}$")]
    when: ValueRange
    action: RetentionCode
    saved_share: Fraction
    cost_share: Fraction
    sentence: Annotated[str, Meta(min_length=1, max_length=300)]

    def share(self, risk: float) -> float:
        """Return what it is expected to save, less its cost, as a share of the customer's value."""
        return risk * self.saved_share - self.cost_share


class RetentionFile(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """configs/retention.yaml: the rules, and what an arm of an experiment costs per customer."""

    rules: list[RetentionRule]
    arm_costs: dict[str, Annotated[float, Meta(ge=0)]] = {}


class RetentionRules:
    """The rules of a file, in its order, and the costs of arms, 0 where none is given."""

    def __init__(self, rules: Sequence[RetentionRule], costs: Mapping[str, float] | None = None) -> None:
        """Raises SettingsError for a rule that can never fire, and for two rules with one id."""
        self._costs = costs or {}
        self._rules = [(*rule.when.bounds, rule) for rule in rules]
        for low, high, rule in self._rules:
            if math.isnan(low) or not low < high or low > 1 or high <= 0:
                raise SettingsError(f"rule {rule.id}: no churnRisk (0 to 1) is in the range {low} to {high}; give atLeast < below")
        if duplicates := sorted({rule.id for rule in rules if [other.id for other in rules].count(rule.id) > 1}):
            raise SettingsError(f"rules {', '.join(duplicates)}: the id is used twice; give every rule its own")

    def actions(self, risk: float, value: float | None, effects: Mapping[str, float] | None = None) -> list[RetentionAction]:
        """Return the actions that are worth taking for a customer of this risk and value (money, None: unknown), largest saving first.

        effects: of the arms of an experiment, on the probability of staying. The order is by the saved share of the value, so that it is
        the same where the value is unknown, except for the costs of arms; equal ones are in order of the file. To spend nothing is
        recommended only where no other action is.
        """
        possible = [pair for pair in (*self._arms(value, effects or {}), *self._fired(risk, value)) if pair[0] >= 0]
        others = [pair for pair in possible if pair[1].action != "spend_nothing"]
        ranked = sorted(others or possible, key=lambda pair: -pair[0])
        return [msgspec.structs.replace(action, priority=place) for place, (_, action) in enumerate(ranked, 1)]

    def _fired(self, risk: float, value: float | None) -> Iterator[tuple[float, RetentionAction]]:
        """Yield the actions of the rules that fire, each with its saving as a share of the value."""
        for low, high, rule in self._rules:
            if low <= risk < high:
                share = rule.share(risk)
                yield (
                    share,
                    RetentionAction(
                        rule=rule.id,
                        action=rule.action,
                        description=rule.sentence,
                        priority=1,
                        expected_value_saved=None if value is None else value * share,
                        assumed_saved_share=rule.saved_share,
                        assumed_cost_share=rule.cost_share,
                        basis="rule",
                    ),
                )

    def _arms(self, value: float | None, effects: Mapping[str, float]) -> Iterator[tuple[float, RetentionAction]]:
        """Yield the arms with a positive effect, each with its saving as a share of the value."""
        for arm, effect in effects.items():
            saved, share = None, effect
            if value is not None:
                saved = value * effect - self._costs.get(arm, 0.0)
                share = saved / value if value else saved
            if effect > 0:
                yield (
                    share,
                    RetentionAction(
                        arm=arm,
                        action="repeat_arm",
                        description=f"Repeat what the experiment did in arm {arm!r}: customers like this one then stayed more often.",
                        priority=1,
                        expected_value_saved=saved,
                        effect=effect,
                        basis="uplift",
                    ),
                )


def load(path: Path) -> RetentionRules:
    """Return the rules in `path`. Raises SettingsError with the file, the rule and what is wrong with it."""
    try:
        found = msgspec.yaml.decode(path.read_bytes(), type=RetentionFile)
        return RetentionRules(found.rules, found.arm_costs)
    except OSError as error:
        raise SettingsError(f"cannot read the rules from {path}: {error.strerror}") from error
    except (msgspec.DecodeError, SettingsError) as error:
        raise SettingsError(f"{path}: {error}") from error
