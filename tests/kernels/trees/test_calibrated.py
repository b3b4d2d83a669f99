"""Scores from one compiled call equal the definitions."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from kernels.trees.calibrated import scores
from tests.naive import trees as naive
from training.features import NAMES
from training.models.purchase.confidence import EDGES, Confidence
from training.models.shared.calibration import Platt, probability
from training.models.shared.missingness import LEVELS, weights


def rows(random: np.random.Generator, number: int) -> np.ndarray:
    """Return rows of which more or less is known."""
    X = random.normal(size=(number, len(NAMES))).astype(np.float32)
    X[random.random(X.shape) < random.random((number, 1))] = np.nan
    return X


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(0, 70))
def test_log_odds_probability_and_confidence_are_those_of_the_definitions(seed, number):
    random = np.random.default_rng(seed)
    X, margins = rows(random, number), random.normal(0, 4, number).astype(np.float32)
    confidence = Confidence(random.random((LEVELS, len(EDGES) + 1)), weights(rows(random, 50)))
    platt = Platt(0.9, -0.2)
    out = np.empty((3, number))
    scores(margins, X, platt.slope, platt.intercept, confidence.weights, EDGES, confidence.table, out)
    known = [
        naive.scores(float(margin), (platt.slope, platt.intercept), ~np.isnan(row), confidence.weights.astype(float).tolist(), EDGES)
        for margin, row in zip(margins, X, strict=True)
    ]
    assert_array_equal(out[0], [said.log_odds for said in known])
    assert_allclose(out[1], [said.probability for said in known], rtol=1e-14)
    assert_array_equal(out[2], [confidence.table[said.level, said.band] for said in known])
    assert_array_equal(out[0], platt.apply(margins.astype(np.float64)))
    assert_allclose(out[1], probability(out[0]), rtol=1e-15)
    assert_array_equal(out[2], confidence.of(X, out[1]))


def test_no_margin_overflows():
    out = np.empty((3, 4))
    margins = np.array([-1e4, 1e4, -800, 0], np.float32)
    scores(
        margins, np.zeros((4, 1), np.float32), 1.0, 0.0, np.ones((1, 1), np.float32), np.array([0.5]), np.array([[0, 0], [0.25, 0.75]]), out
    )
    assert_array_equal(out[1], [0, 1, 0, 0.5])
    assert_array_equal(out[2], [0.25, 0.75, 0.25, 0.75])
