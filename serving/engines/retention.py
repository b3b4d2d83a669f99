"""What to do about a customer who may leave: a small table of rules (configs/retention.yaml), ranked by what they are assumed to save."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from serving.engines.actions import Range
from serving.engines.types import Fraction, Wire
from serving.errors import SettingsError

# Closed, so that a caller can map every code to what it does.
RetentionCode = Literal["call", "offer_terms", "ask_feedback", "show_value", "spend_nothing"]


class RetentionAction(Wire, frozen=True, kw_only=True):
    """Something worth doing. `basis` says why it is believed: a rule is a person's judgement, and what it saves an assumption."""

    rule: Annotated[str, Meta(description="The rule of configs/retention.yaml that fired.")]
    action: RetentionCode
    description: Annotated[str, Meta(description="What to do and why, in one sentence.")]
    priority: Annotated[int, Meta(ge=1, description="1 comes first: it is expected to save most.")]
    expected_value_saved: Annotated[
        float | None,
        Meta(description="customerValue * (churnRisk * assumedSavedShare - assumedCostShare), in currency; null without customerValue."),
    ]
    assumed_saved_share: Annotated[
        Fraction, Meta(description="Of those who would leave, the share that stays because of it: not measured.")
    ]
    assumed_cost_share: Annotated[Fraction, Meta(description="What it costs, as a share of customerValue: not measured.")]
    basis: Literal["rule"] = "rule"


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


class Rules:
    """The rules, as a file lists them."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        """Raises SettingsError for a rule that can never fire, and for two of one id."""
        self._rules = [(*rule.when.bounds, rule) for rule in rules]
        for low, high, rule in self._rules:
            if math.isnan(low) or not low < high or low > 1 or high <= 0:
                raise SettingsError(f"rule {rule.id}: no churnRisk, 0 to 1, is in the range {low} to {high}; give atLeast < below")
        if twins := sorted({rule.id for rule in rules if [other.id for other in rules].count(rule.id) > 1}):
            raise SettingsError(f"rules {', '.join(twins)}: the id is taken; every rule needs its own")

    def actions(self, risk: float, value: float | None) -> list[RetentionAction]:
        """Return what is worth doing about a customer of this risk and value (money, None: not known), what saves most first.

        The order is that of shares of the value, so that it is the same where the value is not known; equal ones are in order of the file.
        """
        fired = [(rule.share(risk), rule) for low, high, rule in self._rules if low <= risk < high]
        ranked = sorted((pair for pair in fired if pair[0] >= 0), key=lambda pair: -pair[0])
        return [
            RetentionAction(
                rule=rule.id,
                action=rule.action,
                description=rule.sentence,
                priority=place,
                expected_value_saved=None if value is None else value * share,
                assumed_saved_share=rule.saved_share,
                assumed_cost_share=rule.cost_share,
            )
            for place, (share, rule) in enumerate(ranked, 1)
        ]


def load(path: Path) -> Rules:
    """Return the rules in `path`. Raises SettingsError naming the file, the rule and what is wrong with it."""
    try:
        return Rules(msgspec.yaml.decode(path.read_bytes(), type=list[Rule]))
    except OSError as error:
        raise SettingsError(f"cannot read the rules from {path}: {error.strerror}") from error
    except (msgspec.DecodeError, SettingsError) as error:
        raise SettingsError(f"{path}: {error}") from error
