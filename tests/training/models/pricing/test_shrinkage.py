"""Estimates are drawn to their kind by how little they say, and never past a bound."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from training.models.pricing.shrinkage import OWN, sd_of_another, shrunk, truncated

ESTIMATE = st.one_of(st.just(float("nan")), st.floats(-30, 30))


@given(st.lists(st.tuples(ESTIMATE, st.floats(0.01, 20)), min_size=1, max_size=12))
@settings(deadline=None, max_examples=200)
def test_no_history_gives_a_positive_or_an_absurd_elasticity(members):
    estimates, errors = np.array(members).T
    found = shrunk(estimates, errors, OWN)
    assert (found.mean < 0).all()
    assert (found.interval80 <= 0).all()
    assert (found.interval80[:, 0] <= found.interval80[:, 1]).all()
    assert np.isfinite(found.sd).all()
    assert (found.sd > 0).all()
    least = min([-8.0, *estimates[np.isfinite(estimates)]])
    assert (found.mean >= least - 0.01).all()


def test_a_sure_estimate_keeps_its_value_an_unsure_one_takes_that_of_its_kind():
    estimates = np.array([-2.0, -2.1, -1.9, -2.05, -3.5, 4.0, np.nan])
    errors = np.array([0.05, 0.05, 0.05, 0.05, 0.02, 8.0, np.nan])
    found = shrunk(estimates, errors, OWN)
    np.testing.assert_allclose(found.mean[:5], estimates[:5], atol=0.03)
    kind = estimates[:5].mean()
    assert abs(found.mean[5] - kind) < 0.6
    assert abs(found.mean[6] - kind) < 0.5
    assert found.sd[6] > found.sd[0]


def test_without_any_estimate_the_published_ones_are_believed():
    found = shrunk(np.array([np.nan]), np.array([np.nan]), OWN)
    assert found.mean[0] == pytest.approx(OWN.mean, abs=0.3)
    assert found.sd[0] > 0.8


@given(st.floats(-6, 3), st.floats(0.05, 3))
@settings(deadline=None)
def test_a_normal_that_is_cut_off_is_scipys(mean, sd):
    if (0 - mean) / sd < -5:
        return
    found, scipys = truncated(np.array([mean]), np.array([sd]), 0.0), stats.truncnorm(-np.inf, -mean / sd, mean, sd)
    assert found.mean[0] == pytest.approx(min(scipys.mean(), -1e-6), rel=1e-6, abs=1e-6)
    assert found.sd[0] == pytest.approx(scipys.std(), rel=2e-3, abs=1e-6)
    np.testing.assert_allclose(found.interval80[0], scipys.ppf([0.1, 0.9]), rtol=1e-5, atol=1e-9)


@given(st.integers(1, 40), st.floats(-4, -1.5), st.floats(0.01, 0.3))
@settings(deadline=None, max_examples=60)
def test_another_member_is_less_certain_than_any_that_was_measured(members, mean, spread):
    estimates, errors = mean + spread * np.linspace(-1, 1, members), np.full(members, 0.02)
    sd = sd_of_another(estimates, errors, OWN)
    assert sd > shrunk(estimates, errors, OWN).sd.max()
    assert sd <= OWN.spread + OWN.between


def test_the_more_alike_members_are_known_the_surer_is_another():
    sds = [sd_of_another(np.linspace(-2.6, -2.4, members), np.full(members, 0.02), OWN) for members in (1, 2, 5, 20, 200)]
    assert sds == sorted(sds, reverse=True)
    assert sds[0] > 0.8  # about what published elasticities vary
    assert sds[-1] < 0.15
    assert sd_of_another(np.array([]), np.array([]), OWN) > sds[0]
