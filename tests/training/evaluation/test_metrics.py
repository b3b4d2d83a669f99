"""Metrics against slow computations from their definitions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.evaluation import metrics

outcomes = st.lists(st.tuples(st.booleans(), st.sampled_from([0.01, 0.1, 0.2, 0.35, 0.5, 0.8, 0.99])), min_size=2, max_size=60).filter(
    lambda rows: 0 < sum(y for y, _ in rows) < len(rows)
)


@settings(deadline=None, max_examples=50)
@given(outcomes)
def test_auc_is_the_share_of_pairs_in_order(rows):
    y, p = np.array(rows, float).T
    pairs = [(a > b) + 0.5 * (a == b) for a in p[y == 1] for b in p[y == 0]]
    assert metrics.figures(y, p)["auc"] == pytest.approx(np.mean(pairs))


@settings(deadline=None, max_examples=50)
@given(outcomes)
def test_log_loss_and_brier_are_means_over_the_rows(rows):
    y, p = np.array(rows, float).T
    figures = metrics.figures(y, p)
    assert figures["brier"] == pytest.approx(np.mean([(a - b) ** 2 for a, b in zip(y, p, strict=True)]))
    assert figures["log_loss"] == pytest.approx(-np.mean([np.log(b if a else 1 - b) for a, b in zip(y, p, strict=True)]))


def test_ece_compares_what_is_stated_and_observed_in_bins_of_equal_mass():
    p = np.repeat([0.1, 0.3], 50)
    y = np.concatenate([np.repeat([1.0, 0.0], [5, 45]), np.repeat([1.0, 0.0], [25, 25])])
    assert metrics.ece(y, p, bins=2) == pytest.approx(0.5 * 0.0 + 0.5 * 0.2)


def test_true_probabilities_have_little_error_and_shifted_ones_as_much_as_they_are_shifted():
    random = np.random.default_rng(0)
    p = random.uniform(0.1, 0.8, 100_000)
    y = (random.random(p.size) < p).astype(float)
    assert metrics.ece(y, p) < 0.006
    assert metrics.ece(y, p + 0.1) == pytest.approx(0.1, abs=0.005)


@settings(deadline=None, max_examples=50)
@given(outcomes)
def test_the_bins_hold_every_row_once_in_order(rows):
    y, p = np.array(rows, float).T
    table = metrics.reliability(y, p)
    assert sum(row["rows"] for row in table) == len(y)
    distinct = [row["rows"] for row in metrics.reliability(y, np.argsort(p) / len(p))]
    assert max(distinct) - min(distinct) <= 1
    stated = [row["stated"] for row in table]
    assert np.all(np.diff(stated) >= -1e-12)
    assert sum(row["rows"] * row["observed"] for row in table) == pytest.approx(y.sum())


def test_a_certain_but_wrong_prediction_has_a_large_finite_loss():
    assert np.isfinite(metrics.figures(np.array([1.0, 0.0]), np.array([0.0, 1.0]))["log_loss"])
