"""Recommended actions: rules that are read once, refused with a clear message when they cannot hold, and evaluated over columns."""

import math
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels.types import F32
from serving.engines import actions
from serving.engines.actions import PROBABILITY, ActionRule, ActionRules, ValueRange
from serving.errors import SettingsError
from serving.settings import CONFIGS
from training.features import FEATURES, INDEX, NAMES

CARTS, RAGE = "cartAddCount", "rageClickCount"


def rule(name: str = "one", priority: int = 1, **when: dict[str, float]) -> ActionRule:
    ranges = {fact: ValueRange(at_least=bounds.get("atLeast"), below=bounds.get("below")) for fact, bounds in when.items()}
    return ActionRule(id=name, when=ranges, action="offer_help", sentence="Help.", priority=priority)


def session(**facts: float) -> F32:
    """Return the feature row of a session of which only `facts` are known."""
    row = np.full((1, len(NAMES)), np.nan, np.float32)
    for name, value in facts.items():
        row[0, INDEX[name]] = value
    return row


def fires(one: ActionRule, probability: float = 0.5, **facts: float) -> bool:
    return bool(ActionRules([one], FEATURES).fired(session(**facts), np.array([probability]))[0, 0])


def naive(one: ActionRule, row: F32, probability: float) -> bool:
    """Return whether a rule fires, the slow and obvious way."""
    for fact, bounds in one.when.items():
        value = probability if fact == PROBABILITY else float(row[INDEX[fact]])
        if math.isnan(value):
            return False
        if bounds.at_least is not None and value < bounds.at_least:
            return False
        if bounds.below is not None and value >= bounds.below:
            return False
    return True


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "actions.yaml"
    path.write_text(text)
    return path


GOOD: dict[str, Any] = {
    "id": "one",
    "when": {PROBABILITY: {"below": 0.5}},
    "action": "offer_help",
    "sentence": "Help.",
    "priority": 1,
}


def test_the_rules_that_ship_are_good_and_each_of_them_can_fire() -> None:
    rules = actions.load(CONFIGS / "actions.yaml", "purchase", FEATURES)
    table = msgspec.yaml.decode((CONFIGS / "actions.yaml").read_bytes(), type=dict[str, list[ActionRule]])["purchase"]
    for one in table:
        middle = {fact: _inside(bounds) for fact, bounds in one.when.items()}
        row = session(**{fact: value for fact, value in middle.items() if fact != PROBABILITY})
        listed = rules.rows(rules.fired(row, np.array([middle.get(PROBABILITY, 0.3)])))[0]
        assert one.id in [action.rule for action in listed]


def _inside(bounds: ValueRange) -> float:
    return bounds.at_least if bounds.at_least is not None else (bounds.below or 0) / 2


def test_a_range_holds_its_lower_end_and_not_its_upper_end() -> None:
    one = rule(probability={"atLeast": 0.2, "below": 0.4})
    assert [fires(one, p) for p in (0.19999, 0.2, 0.39999, 0.4)] == [False, True, True, False]


def test_a_bound_on_a_feature_means_the_decimal_that_is_written() -> None:
    # 0.7 as float32 is less than 0.7, 0.1 is more than 0.1.
    assert fires(rule(bounceRate={"atLeast": 0.7}), bounceRate=0.7)
    assert not fires(rule(bounceRate={"below": 0.1}), bounceRate=0.1)


def test_every_condition_must_hold() -> None:
    one = rule(cartAddCount={"atLeast": 1}, rageClickCount={"atLeast": 1}, probability={"atLeast": 0.1})
    assert fires(one, cartAddCount=1, rageClickCount=2)
    assert not fires(one, cartAddCount=1, rageClickCount=0)
    assert not fires(one, cartAddCount=0, rageClickCount=2)
    assert not fires(one, probability=0.05, cartAddCount=1, rageClickCount=2)


@pytest.mark.parametrize("bounds", [{"atLeast": 1}, {"below": 1}])
def test_a_missing_feature_fires_nothing(bounds: dict[str, float]) -> None:
    assert not fires(rule(cartAddCount=bounds), rageClickCount=1)


_bounds = st.tuples(st.none() | st.integers(0, 4), st.none() | st.integers(5, 8)).filter(lambda ends: ends != (None, None))
_rules = st.lists(st.dictionaries(st.sampled_from([CARTS, RAGE, "eventCount"]), _bounds, min_size=1), max_size=5)
_cells = st.lists(st.lists(st.sampled_from([math.nan, *range(10)]), min_size=3, max_size=3), max_size=6)


@given(_rules, _cells)
def test_rules_over_columns_equal_each_rule_on_each_row(whens: list[dict[str, tuple[int, int]]], cells: list[list[float]]) -> None:
    table = [
        ActionRule(
            id=f"rule-{i}",
            when={fact: ValueRange(*ends) for fact, ends in when.items()} | {PROBABILITY: ValueRange(0.25, None)},
            action="offer_help",
            sentence="Help.",
            priority=1,
        )
        for i, when in enumerate(whens)
    ]
    X = np.full((len(cells), len(NAMES)), np.nan, np.float32)
    for row, (carts, rage, events) in zip(X, cells, strict=True):
        row[[INDEX[CARTS], INDEX[RAGE], INDEX["eventCount"]]] = carts, rage, events
    probability = np.linspace(0, 1, len(cells))
    fired = ActionRules(table, FEATURES).fired(X, probability)
    assert fired.shape == (len(cells), len(table))
    assert fired.tolist() == [[naive(one, row, p) for one in table] for row, p in zip(X, probability.tolist(), strict=True)]


def test_actions_come_by_priority_and_equal_ones_in_the_order_of_the_table() -> None:
    always = {"probability": {"below": 0.9}}
    rules = ActionRules(
        [rule("last", 3, **always), rule("first", 1, **always), rule("second", 2, **always), rule("third", 2, **always)], FEATURES
    )
    (listed,) = rules.rows(rules.fired(session(), np.array([0.5])))
    assert [action.rule for action in listed] == ["first", "second", "third", "last"]
    assert {action.basis for action in listed} == {"rule"}


def test_no_rules_recommend_nothing(tmp_path: Path) -> None:
    rules = actions.load(written(tmp_path, "purchase: []"), "purchase", FEATURES)
    assert rules.rows(rules.fired(np.repeat(session(), 3, axis=0), np.full(3, 0.5))) == [[], [], []]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"action": "give_it_away"}, "give_it_away"),
        ({"basis": "measured"}, "measured"),
        ({"whenever": 1}, "whenever"),
        ({"when": {}}, "length"),
        ({"when": {PROBABILITY: {"above": 0.5}}}, "above"),
        ({"when": {PROBABILITY: {}}}, "one, probability: the range -inf to inf"),
        ({"when": {PROBABILITY: {"atLeast": 0.5, "below": 0.5}}}, "0.5 to 0.5"),
        ({"when": {PROBABILITY: {"atLeast": 60}}}, "between 0 and 1"),
        ({"when": {PROBABILITY: {"below": -1}}}, "between 0 and 1"),
        ({"when": {CARTS: {"atLeast": math.nan}}}, "nan"),
        ({"when": {"cartAdds": {"atLeast": 1}}}, "no feature 'cartAdds'; it can be probability, administrativeCount"),
        ({"when": {"deviceType": {"atLeast": 1}}}, "deviceType is a category"),
        ({"priority": 0}, "priority"),
        ({"sentence": ""}, "sentence"),
        ({"id": "One Rule"}, "id"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_bad_rule_is_refused_with_the_file_and_what_is_wrong(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = written(tmp_path, msgspec.yaml.encode({"purchase": [GOOD | change]}).decode())
    with pytest.raises(SettingsError) as caught:
        actions.load(path, "purchase", FEATURES)
    assert str(path) in str(caught.value)
    assert message in str(caught.value)


@pytest.mark.parametrize("text", ["purchase: [", "purchase: {}", "- purchase", "pricing: []", "", "\x00"])
def test_a_file_that_is_no_table_of_rules_is_refused(tmp_path: Path, text: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(SettingsError, match=re_of(path)):
        actions.load(path, "purchase", FEATURES)


def re_of(path: Path) -> str:
    return str(path).replace(".", r"\.")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="absent"):
        actions.load(tmp_path / "absent.yaml", "purchase", FEATURES)


def test_two_rules_cannot_share_an_id(tmp_path: Path) -> None:
    path = written(tmp_path, msgspec.yaml.encode({"purchase": [GOOD, GOOD]}).decode())
    with pytest.raises(SettingsError, match="rules one: the id is used twice"):
        actions.load(path, "purchase", FEATURES)
