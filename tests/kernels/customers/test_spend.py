"""Gamma-Gamma: the published figures of CDNOW, and the naive twins."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.customers import spend
from tests.kernels.customers.inputs import NONE, SPEND, size
from tests.naive import customers as naive

SPENT = st.tuples(st.integers(1, 1000), size(0.01, 1e5))
SPENDS = st.tuples(*[size(1e-3, 1e3)] * 3)


def test_cdnows_spend_is_as_published(cdnow):
    spent = np.column_stack([cdnow[0][:, 0], cdnow[1]])
    out = np.empty(len(spent))
    spend.mean_spends(SPEND, spent, out)
    np.testing.assert_allclose(out[:10], [24.65, 18.91, 35.17, 35.17, 35.17, 71.46, 18.91, 35.17, 27.28, 35.17], atol=0.01)
    again = np.ascontiguousarray(spent[spent[:, 0] > 0])
    assert spend.spend_log_likelihood(SPEND, again, NONE)[0] == pytest.approx(-4055.92, abs=0.005)


@given(SPENDS, st.lists(SPENT, min_size=1, max_size=4))
@settings(deadline=None, max_examples=300)
def test_spend_is_its_naive_twin(params, customers):
    spent, out = np.array(customers, np.float64), np.empty((len(customers), 4))
    spend.spend_log_likelihoods(np.array(params), spent, out)
    rounding = 1e-15 * params[0] * 1e3 * 20
    np.testing.assert_allclose(out[:, 0], [naive.spend_log_likelihoods(params, *one) for one in customers], rtol=1e-9, atol=1e-9 + rounding)
    counts = np.arange(1.0, 1 + len(spent))
    found = spend.spend_log_likelihood(np.array(params), spent, counts)
    np.testing.assert_allclose(found, counts @ out, rtol=1e-9, atol=1e-9)
    assert found[0] == pytest.approx(naive.spend_log_likelihood(params, customers, counts.tolist()), rel=1e-9, abs=1e-8 + 20 * rounding)
    step = 1e-4
    for place in range(3):
        moved = np.zeros(3)
        moved[place] = step
        more, less = (spend.spend_log_likelihood(np.exp(np.log(params) + way * moved), spent, NONE)[0] for way in (1, -1))
        unit = np.abs(out).sum() + params[0] * spent[:, 0].sum()
        assert out[:, 1 + place].sum() == pytest.approx((more - less) / (2 * step), rel=1e-5, abs=1e-6 * (1 + unit))


@given(SPENDS, st.integers(0, 1000), size(0.01, 1e5))
@settings(deadline=None)
def test_a_mean_spend_is_its_naive_twin_and_has_no_bound_where_there_is_no_mean(params, x, mean):
    out = np.empty(1)
    spend.mean_spends(np.array(params), np.array([[x, mean]], np.float64), out)
    p, q, _ = params
    assert out[0] > 0
    if p * x + q <= 1:
        assert out[0] == math.inf
    elif q > 1.001:
        assert out[0] == pytest.approx(naive.mean_spends(params, x, mean), rel=1e-9)
