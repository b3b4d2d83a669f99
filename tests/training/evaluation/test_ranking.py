"""Statistics of rankings: each is its naive twin, and has the same bits for any order of the rows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.naive import ranking as twins
from training.evaluation import metrics, qini
from training.evaluation.ranking import means_of_ties, ranked, slices
from training.models.value import holdout

SCORES = st.sampled_from([-0.4, -0.0, 0.0, 0.1, 0.25, 0.9]) | st.floats(-1, 1, allow_subnormal=False)


def tables(*columns):
    """Return a strategy of tables with ties, and a permutation of their rows."""
    return st.lists(st.tuples(*columns), min_size=2, max_size=40).flatmap(
        lambda rows: st.tuples(st.just(rows), st.permutations(range(len(rows))))
    )


CUSTOMERS = tables(SCORES, st.booleans(), st.booleans())
SPENDERS = tables(SCORES, st.sampled_from([0.0, 1.0, 7.5]) | st.floats(0, 1e3, allow_subnormal=False))
PREDICTIONS = tables(st.sampled_from([0.0, 0.1, 0.2, 0.5, 0.8, 1.0]) | st.floats(0, 1), st.booleans())


def columns(rows):
    return tuple(np.array(column) for column in zip(*rows, strict=True))


@settings(deadline=None)
@given(CUSTOMERS)
def test_qini_is_its_twin_and_does_not_depend_on_the_order_of_the_rows(table):
    rows, order = table
    effect, treated, outcome = columns(rows)
    found = qini.coefficient(effect, treated, outcome.astype(float))
    if treated.all() or not treated.any():
        assert found == 0
    else:
        assert found == pytest.approx(twins.qini(effect.tolist(), treated.tolist(), outcome.astype(float).tolist()), abs=1e-12)
    other = [column[list(order)] for column in (effect, treated, outcome.astype(float))]
    assert qini.coefficient(*other) == found
    assert qini.curve(*other).tolist() == qini.curve(effect, treated, outcome.astype(float)).tolist()


@settings(deadline=None, max_examples=10)
@given(CUSTOMERS)
def test_the_standard_error_of_qini_does_not_depend_on_the_order_of_the_rows(table):
    rows, order = table
    effect, treated, outcome = columns(rows)
    found = qini.standard_error(effect, treated, outcome.astype(float), 3)
    assert qini.standard_error(*(column[list(order)] for column in (effect, treated, outcome.astype(float))), 3) == found


@settings(deadline=None)
@given(SPENDERS)
def test_gini_and_top_share_are_their_twins_and_do_not_depend_on_the_order_of_the_rows(table):
    rows, order = table
    by, spend = columns(rows)
    if spend.sum() == 0:
        return
    share = holdout.top_share(by, spend)
    assert share == pytest.approx(twins.top_share(by.tolist(), spend.tolist(), max(1, round(len(rows) / 10))), rel=1e-9)
    assert holdout.top_share(by[list(order)], spend[list(order)]) == share
    if np.ptp(spend) > 1e-6 * spend.max():
        found = holdout.gini(by, spend)
        assert found == pytest.approx(twins.gini(by.tolist(), spend.tolist()), rel=1e-6, abs=1e-9)
        assert holdout.gini(by[list(order)], spend[list(order)]) == found


@settings(deadline=None)
@given(PREDICTIONS, st.integers(1, 12))
def test_bins_are_their_twin_and_do_not_depend_on_the_order_of_the_rows(table, bins):
    rows, order = table
    p, y = columns(rows)
    y = y.astype(float)
    found = metrics.reliability(y, p, bins)
    plain = twins.reliability(y.tolist(), p.tolist(), bins)
    assert [row["rows"] for row in found] == [size for size, _, _ in plain]
    assert [(row["stated"], row["observed"]) for row in found] == [pytest.approx(one[1:], abs=1e-12) for one in plain]
    assert metrics.reliability(y[list(order)], p[list(order)], bins) == found
    assert metrics.ece(y, p, bins) == pytest.approx(sum(size * abs(one - two) for size, one, two in plain) / len(rows), abs=1e-12)


@settings(deadline=None)
@given(PREDICTIONS)
def test_the_five_figures_have_the_same_bits_for_any_order_of_the_rows(table):
    rows, order = table
    p, y = columns(rows)
    if y.all() or not y.any():
        return
    assert metrics.figures(y[list(order)].astype(float), p[list(order)]) == metrics.figures(y.astype(float), p)


def test_equal_predictions_are_one_bin_and_have_the_error_of_their_mean():
    """In the order of a file that is sorted by the outcome, bins of tied rows would be pure, and the error .5."""
    y, p = np.repeat([0.0, 1.0], 500), np.full(1000, 0.5)
    assert metrics.reliability(y, p) == [{"rows": 1000, "stated": 0.5, "observed": 0.5}]
    assert metrics.ece(y, p) == 0


def test_a_file_sorted_by_arm_and_outcome_gives_equal_effects_no_qini():
    treated, stays = np.repeat([True, True, False, False], 250), np.tile(np.repeat([1.0, 0.0], 250), 2)
    assert qini.coefficient(np.full(1000, 0.04), treated, stays) == 0


def test_ties_are_found_with_signed_zeros_and_missing_scores():
    score = np.array([np.nan, 0.0, 2.0, -0.0, np.nan])
    ranking = ranked(score)
    assert (ranking.order[0], ranking.ends.tolist(), ranking.starts.tolist()) == (2, [1, 3, 5], [0, 1, 3])
    assert means_of_ties(score, np.array([1.0, 4.0, 7.0, 6.0, 3.0])).tolist() == [7, 5, 5, 2, 2]


@pytest.mark.parametrize(
    ("score", "number", "sizes"), [([], 10, []), ([1, 1, 1], 2, [3]), ([1, 2, 3], 2, [2, 1]), ([1, 1, 2, 3, 3, 3], 3, [3, 1, 2])]
)
def test_slices_have_equal_sizes_as_far_as_ties_allow(score, number, sizes):
    assert [part.stop - part.start for part in slices(np.array(score, float), number)] == sizes
