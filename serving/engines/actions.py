"""Recommended actions: a small table of rules (configs/actions.yaml), read and checked once, then evaluated over columns."""

import functools
import math
from collections.abc import Sequence
from itertools import compress
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import numpy as np
from msgspec import Meta

from kernels.decisions import rules
from kernels.types import F32, F64, Bool
from serving.engines.types import ActionCode, RecommendedAction
from serving.errors import SettingsError
from training.features import Feature

PROBABILITY = "probability"


class ValueRange(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Values from `at_least` to just below `below`; None: no bound on that side."""

    at_least: float | None = None
    below: float | None = None

    @property
    def bounds(self) -> tuple[float, float]:
        """Return (low, high): low <= value < high."""
        return -math.inf if self.at_least is None else self.at_least, math.inf if self.below is None else self.below


class ActionRule(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """One rule of the table: `action` is recommended when every fact in `when` is within its range."""

    id: Annotated[str, Meta(pattern=r"^[a-z0-9-]{1,64}$")]
    when: Annotated[dict[str, ValueRange], Meta(min_length=1)]
    action: ActionCode
    sentence: Annotated[str, Meta(min_length=1, max_length=300)]
    priority: Annotated[int, Meta(ge=1, le=100)]
    basis: Literal["rule"] = "rule"


class ActionRules:
    """Rules over the columns of one model, in order of priority."""

    def __init__(self, rules: Sequence[ActionRule], features: Sequence[Feature]) -> None:
        """`features`: the columns of the matrix. Raises SettingsError for a rule that could never be evaluated."""
        self._rules = sorted(rules, key=lambda rule: rule.priority)
        self._actions = [_action(rule) for rule in self._rules]
        _refuse_duplicates(self._rules)
        conditions = [_condition(rule, fact, features) for rule in self._rules for fact in rule.when]
        self._facts = np.array([column for column, _, _ in conditions], np.int64)
        self._low = np.array([low for _, low, _ in conditions], np.float64)
        self._high = np.array([high for _, _, high in conditions], np.float64)
        self._starts = np.cumsum([0, *(len(rule.when) for rule in self._rules)])

    def fired(self, X: F32, probability: F64) -> Bool:
        """Return bool [n, rules]: which rules fire in each row of X float32 [n, features] and probability float64 [n]."""
        out = np.empty((X.shape[0], len(self._rules)), np.bool_)
        rules.fired(X, probability, self._facts, self._low, self._high, self._starts, out)
        return out

    def rows(self, fired: Bool) -> list[list[RecommendedAction]]:
        """Return the recommended actions of each row, by priority."""
        return [list(compress(self._actions, row)) for row in fired.tolist()]


def load(path: Path, engine: str, features: Sequence[Feature]) -> ActionRules:
    """Return the rules that `path` has for `engine`. Raises SettingsError with the file, the rule and what is wrong with it."""
    try:
        return ActionRules(_rules(path.read_bytes())[engine], features)
    except OSError as error:
        raise SettingsError(f"cannot read the rules from {path}: {error.strerror}") from error
    except KeyError as error:
        raise SettingsError(f"{path} has no rules for {engine}; add `{engine}: []` for none") from error
    except (msgspec.DecodeError, SettingsError) as error:
        raise SettingsError(f"{path}: {error}") from error


@functools.lru_cache(1)
def _rules(content: bytes) -> dict[str, list[ActionRule]]:
    """Return the rules of a file by engine; each promotion reads the file again, and it seldom changes."""
    return msgspec.yaml.decode(content, type=dict[str, list[ActionRule]])


def _action(rule: ActionRule) -> RecommendedAction:
    return RecommendedAction(rule=rule.id, action=rule.action, description=rule.sentence, priority=rule.priority, basis=rule.basis)


def _refuse_duplicates(rules: Sequence[ActionRule]) -> None:
    ids = [rule.id for rule in rules]
    duplicates = sorted({name for name in ids if ids.count(name) > 1})
    if duplicates:
        raise SettingsError(f"rules {', '.join(duplicates)}: the id is used twice; give every rule its own")


def _condition(rule: ActionRule, fact: str, features: Sequence[Feature]) -> tuple[int, float, float]:
    """Return (column, low, high) of one condition; the column after the last feature is the probability."""
    low, high = rule.when[fact].bounds
    if math.isnan(low) or not low < high or (low, high) == (-math.inf, math.inf):
        raise SettingsError(
            f"rule {rule.id}, {fact}: the range {low} to {high} is empty or has no bound; give atLeast < below, or one of them"
        )
    if fact == PROBABILITY:
        return len(features), *_within_probability(rule, low, high)
    column = next((i for i, feature in enumerate(features) if feature.name == fact), None)
    if column is None:
        names = ", ".join(feature.name for feature in features if feature.kind == "number")
        raise SettingsError(f"rule {rule.id}: there is no feature {fact!r}; it can be {PROBABILITY}, {names}")
    if features[column].kind == "category":
        raise SettingsError(f"rule {rule.id}: {fact} is a category, which has no range; use a feature that is a number")
    # The matrix is float32: 0.7 there is a little less than 0.7 here.
    return column, float(np.float32(low)), float(np.float32(high))


def _within_probability(rule: ActionRule, low: float, high: float) -> tuple[float, float]:
    if (low != -math.inf and not 0 <= low <= 1) or (high != math.inf and not 0 <= high <= 1):
        raise SettingsError(f"rule {rule.id}: {PROBABILITY} must be between 0 and 1, got {low} to {high}")
    return low, high
