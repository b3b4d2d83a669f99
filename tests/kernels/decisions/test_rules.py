"""A rule fires where all of its conditions hold, and only there."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.decisions.rules import fired
from tests.naive import decisions as naive

VALUES = st.sampled_from([float("nan"), 0.0, 0.5, 1.0, 2.0])
BOUNDS = st.sampled_from([float("-inf"), 0.0, 0.5, 1.0, float("inf")])


@settings(deadline=None, max_examples=200)
@given(
    st.lists(st.tuples(VALUES, VALUES, VALUES), max_size=5), st.lists(st.lists(st.tuples(st.integers(0, 2), BOUNDS, BOUNDS)), max_size=4)
)
def test_a_rule_fires_where_each_fact_is_in_its_range(rows, rules):
    table = np.array(rows, np.float64).reshape(-1, 3)
    conditions = [condition for rule in rules for condition in rule]
    out = np.empty((len(rows), len(rules)), np.bool_)
    fired(
        table[:, :2].astype(np.float32),
        table[:, 2].copy(),
        np.array([fact for fact, _, _ in conditions], np.int64),
        np.array([low for _, low, _ in conditions], np.float64),
        np.array([high for _, _, high in conditions], np.float64),
        np.cumsum([0, *map(len, rules)]),
        out,
    )
    assert out.tolist() == [[naive.fired(row, rule) for rule in rules] for row in rows]
