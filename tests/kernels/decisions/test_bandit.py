"""The probability that each arm is the best: by SciPy, by draws, and its invariants."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.decisions.bandit import best_arm_probabilities
from tests.naive import decisions as naive

arm = st.tuples(st.floats(-1, 1), st.sampled_from([0.0, 0.05, 0.3, 1.0]), st.booleans())
arms = st.lists(arm, min_size=1, max_size=6).filter(lambda drawn: any(one[2] for one in drawn))


def chances(mean, spread, allowed=None, floor=0.0):
    mean, spread = np.array([mean], float), np.array([spread], float)
    allowed = np.ones(mean.shape, bool) if allowed is None else np.array([allowed])
    out = np.empty(mean.shape)
    best_arm_probabilities(mean, spread, allowed, floor, out)
    return out[0]


@settings(max_examples=60, deadline=None)
@given(arms, st.sampled_from([0.0, 0.1, 1.0]))
def test_probabilities_are_those_of_an_integral_by_scipy(drawn, floor):
    mean, spread, allowed = map(list, zip(*drawn, strict=True))
    np.testing.assert_allclose(chances(mean, spread, allowed, floor), naive.best_arm_probabilities(mean, spread, allowed, floor), atol=5e-3)


@settings(max_examples=60, deadline=None)
@given(arms, st.floats(0, 1))
def test_probabilities_add_up_and_every_allowed_arm_has_its_floor(drawn, floor):
    mean, spread, allowed = map(list, zip(*drawn, strict=True))
    got = chances(mean, spread, allowed, floor)
    assert got.sum() == pytest.approx(1)
    assert (got[np.array(allowed)] >= floor / sum(allowed) - 1e-12).all()
    assert (got[~np.array(allowed)] == 0).all()


def test_probabilities_are_the_shares_of_draws():
    mean, spread = [0.0, 0.02, 0.01, 0.0], [0.01, 0.02, 0.005, 0.0]
    draws = np.random.default_rng(0).normal(mean, spread, (200_000, 4))
    np.testing.assert_allclose(chances(mean, spread), np.bincount(draws.argmax(axis=1), minlength=4) / len(draws), atol=5e-3)


def test_an_arm_that_is_known_to_be_the_best_has_probability_one():
    np.testing.assert_array_equal(chances([0.1, 0.3, 0.3], [0.0, 0.0, 0.0]), [0, 1, 0])
