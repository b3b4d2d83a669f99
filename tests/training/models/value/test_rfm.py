"""Quintiles and segments: fifths of a base, equals never told apart, and a name for every customer."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from training.models.value.rfm import GRID, MEANING, QUINTILES, Edges, segments

BASES = st.lists(st.tuples(st.integers(0, 900), st.integers(1, 40), st.floats(0, 1e4)), min_size=1, max_size=60)


def columns(base):
    return tuple(np.array(column, np.float64) for column in zip(*base, strict=True))


def unknown(base):
    """Return P(alive) and P(no purchase) of customers for whom no model has them."""
    return np.full((2, len(base)), np.nan)


def test_every_place_of_the_grid_has_a_name_that_is_explained():
    assert [len(row) for row in GRID] == [QUINTILES] * QUINTILES
    assert {name for row in GRID for name in row} == set(MEANING)


def test_a_hundred_different_customers_are_fifths():
    base = [(day, 100 - day, 10.0 * (100 - day)) for day in range(100)]
    edges = Edges.of(*columns(base))
    for scores in edges.scores(*columns(base)):
        assert np.bincount(scores).tolist() == [0, 20, 20, 20, 20, 20]
    names = segments(*edges.scores(*columns(base)), *unknown(base))
    assert (names[0], names[-1]) == ("champion", "lost")


@given(BASES)
def test_better_is_never_scored_worse_and_equals_are_scored_alike(base):
    edges = Edges.load(Edges.of(*columns(base)).content())
    latest, often, much = edges.scores(*columns(base))
    for sign, column, scores in zip((-1, 1, 1), columns(base), (latest, often, much), strict=True):
        order = np.argsort(sign * column, kind="stable")
        assert (np.diff(scores[order]) >= 0).all()
        assert ((scores >= 1) & (scores <= QUINTILES)).all()
        for value in np.unique(column):
            assert len(set(scores[column == value].tolist())) == 1
    assert set(segments(latest, often, much, *unknown(base))) <= set(MEANING)


def test_who_has_probably_left_is_not_called_active_and_who_is_due_is_not_called_lost():
    fifths = np.repeat(np.arange(1, 6), 5), np.tile(np.arange(1, 6), 5), np.tile(np.arange(1, 6), 5)
    lapsed, active = {name for row in GRID[3:] for name in row}, {name for row in GRID[:3] for name in row}
    assert set(segments(*fifths, np.full(25, 0.5), np.full(25, 0.9))) <= lapsed
    assert set(segments(*fifths, np.full(25, np.nan), np.full(25, 0.32))) <= active
    assert {"lost", "cannot_lose"}.isdisjoint(segments(*fifths, np.full(25, 0.99), np.full(25, 0.9)))
    plain = segments(*fifths, *np.full((2, 25), np.nan))
    assert segments(*fifths, np.full(25, 0.51), np.full(25, 0.33)) == plain


def test_unknown_money_has_the_score_of_frequency():
    edges = Edges.of(*columns([(day, 1 + day, 10.0 * day) for day in range(100)]))
    assert [column.tolist() for column in edges.scores(np.array([3.0]), np.array([90.0]), np.array([np.nan]))] == [[5], [5], [5]]
