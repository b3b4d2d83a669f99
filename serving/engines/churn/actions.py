"""What to do about a customer who may leave, ranked by what it is expected to save: what an experiment has shown to work, and rules.

The rules, and what the arms of experiments cost, are in configs/retention.yaml.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from serving.engines.actions import Range
from serving.engines.types import ApiModel, Fraction
from serving.errors import SettingsError

# Closed, so that a caller can map every code to what it does.
RetentionCode = Literal["call", "offer_terms", "ask_feedback", "show_value", "spend_nothing", "repeat_arm"]


class RetentionAction(ApiModel, frozen=True, kw_only=True):
    """Something worth doing. `basis` says why it is believed: a rule is a person's judgement, and what it saves an assumption; uplift is
    what an experiment has shown, by how much the chance of staying rises.
    """

    rule: Annotated[str | None, Meta(description="The rule of configs/retention.yaml that fired.")] = None
    arm: Annotated[str | None, Meta(description="The arm of the experiment that is to be done again.")] = None
    action: RetentionCode
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
        float | None, Meta(description="By how much the arm raises this customer's chance of staying, as an experiment has shown.")
    ] = None
    assumed_saved_share: Annotated[
        Fraction | None, Meta(description="Of those who would leave, the share that stays because of it: not measured.")
    ] = None
    assumed_cost_share: Annotated[Fraction | None, Meta(description="What it costs, as a share of customerValue: not measured.")] = None
    basis: Literal["rule", "uplift"]


class Rule(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """One rule of the table; it fires when churnRisk lies in the range `when`."""

    id: Annotated[str, Meta(pattern=r"^[a-z0-9-]{1,64}$")]
    when: Range
    action: RetentionCode
    saved_share: Fraction
    cost_share: Fraction
    sentence: Annotated[str, Meta(min_length=1, max_length=300)]

    def share(self, risk: float) -> float:
        """Return what it is expected to save, as a share of the customer's value, its cost taken off."""
        return risk * self.saved_share - self.cost_share


class File(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """configs/retention.yaml: the rules, and what an arm of an experiment costs, money a customer."""

    rules: list[Rule]
    arm_costs: dict[str, Annotated[float, Meta(ge=0)]] = {}


class Rules:
    """The rules, as a file lists them, and what arms cost: nothing where it is not said."""

    def __init__(self, rules: Sequence[Rule], costs: Mapping[str, float] | None = None) -> None:
        """Raises SettingsError for a rule that can never fire, and for two of one id."""
        self._costs = costs or {}
        self._rules = [(*rule.when.bounds, rule) for rule in rules]
        for low, high, rule in self._rules:
            if math.isnan(low) or not low < high or low > 1 or high <= 0:
                raise SettingsError(f"rule {rule.id}: no churnRisk, 0 to 1, is in the range {low} to {high}; give atLeast < below")
        if twins := sorted({rule.id for rule in rules if [other.id for other in rules].count(rule.id) > 1}):
            raise SettingsError(f"rules {', '.join(twins)}: the id is taken; every rule needs its own")

    def actions(self, risk: float, value: float | None, effects: Mapping[str, float] | None = None) -> list[RetentionAction]:
        """Return what is worth doing about a customer of this risk and value (money, None: not known), what saves most first.

        effects: of the arms of an experiment, on the chance of staying. The order is that of shares of the value, so that it is the same
        where the value is not known, but for what arms cost; equal ones are in order of the file.
        """
        possible = [*self._arms(value, effects or {}), *self._fired(risk, value)]
        ranked = sorted((pair for pair in possible if pair[0] >= 0), key=lambda pair: -pair[0])
        return [msgspec.structs.replace(action, priority=place) for place, (_, action) in enumerate(ranked, 1)]

    def _fired(self, risk: float, value: float | None) -> Iterator[tuple[float, RetentionAction]]:
        """Yield the actions of the rules that fire, each with what it saves as a share of the value."""
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
        """Yield the arms that help, each with what it saves as a share of the value."""
        for arm, effect in effects.items():
            saved = None if value is None else value * effect - self._costs.get(arm, 0.0)
            share = effect if saved is None or not value else saved / value
            if effect > 0:
                yield (
                    share,
                    RetentionAction(
                        arm=arm,
                        action="repeat_arm",
                        description=f"Do what was done in the experiment to {arm!r}: customers like this one then stayed more often.",
                        priority=1,
                        expected_value_saved=saved,
                        effect=effect,
                        basis="uplift",
                    ),
                )


def load(path: Path) -> Rules:
    """Return the rules in `path`. Raises SettingsError naming the file, the rule and what is wrong with it."""
    try:
        found = msgspec.yaml.decode(path.read_bytes(), type=File)
        return Rules(found.rules, found.arm_costs)
    except OSError as error:
        raise SettingsError(f"cannot read the rules from {path}: {error.strerror}") from error
    except (msgspec.DecodeError, SettingsError) as error:
        raise SettingsError(f"{path}: {error}") from error
