"""Hold-out figures, against what they are by definition."""

import numpy as np
import pytest

from training.models.value import holdout


def test_errors_are_what_they_are_called():
    got = holdout.errors(np.array([1.0, 2.0, 3.0]), np.array([2.0, 2.0, 4.0]))
    assert got["transactions"] == 6
    assert got["aggregateError"] == pytest.approx(6 / 8 - 1)
    assert got["mae"] == pytest.approx(2 / 3)
    assert got["rmse"] == pytest.approx((2 / 3) ** 0.5)
    assert got["correlation"] == pytest.approx(np.corrcoef([1, 2, 3], [2, 2, 4])[0, 1])


def test_what_cannot_be_said_is_not_made_up():
    assert holdout.errors(np.zeros(3), np.zeros(3))["aggregateError"] is None
    assert holdout.correlation(np.ones(3), np.arange(3.0)) is None
    assert holdout.gini(np.arange(3.0), np.zeros(3)) is None
    assert holdout.top_share(np.arange(3.0), np.zeros(3)) is None


def test_frequencies_are_told_one_by_one_and_the_many_together():
    frequency = np.array([0.0, 0.0, 1.0, 9.0, 7.0])
    got = holdout.by_frequency(frequency, np.arange(5.0), np.arange(5.0) * 2)
    assert [(row["repeatPurchases"], row["customers"]) for row in got] == [("0", 2), ("1", 1), ("7+", 2)]
    assert (got[0]["predicted"], got[2]["actual"]) == (0.5, 7.0)


def test_a_ranking_by_the_spend_itself_has_a_gini_of_one_and_equal_ranks_none():
    spend = np.array([1.0, 4.0, 0.0, 9.0])
    assert holdout.gini(spend, spend) == pytest.approx(1)
    assert holdout.gini(np.ones(4), spend) == pytest.approx(0)
    assert holdout.top_share(np.ones(4), spend) == pytest.approx(1 / 4)


def test_the_best_tenth_brings_what_it_brings():
    spend = np.arange(20.0)
    assert holdout.top_share(spend, spend) == pytest.approx((19 + 18) / spend.sum())
    assert holdout.ranking(spend, {"past": -spend})["past"]["gini"] == pytest.approx(-1)
