"""Likelihoods and purchase probabilities: the published figures of CDNOW, the naive twins, and input at the edge of what is valid."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.customers import counting
from tests.kernels.customers.inputs import (
    ANY,
    ANYONE,
    BG,
    BG_FITTED,
    CUSTOMER,
    FITTED,
    MODEL,
    NONE,
    STOPS,
    USUAL,
    expected_purchases,
    log_likelihoods,
    new_customer_purchases,
    probabilities,
)
from tests.naive import customers as naive


@pytest.mark.parametrize(
    ("model", "params", "published"),
    [
        (counting.BG_NBD, BG_FITTED, -9582.43),
        (counting.PARETO_NBD, (0.55328, 10.5776, 0.60621, 11.6679), -9594.97),
    ],
)
def test_cdnows_likelihood_is_as_published_and_greatest_there(cdnow, model, params, published):
    found = counting.log_likelihood(model, np.array(params), cdnow[0], NONE)
    assert found[0] == pytest.approx(published, abs=0.005)
    assert np.abs(found[1:]).max() < 0.05


def test_purchase_probabilities_of_a_new_customer_are_as_published():
    assert probabilities(counting.BG_NBD, BG, 39.0, 1)[0] == pytest.approx(0.5737864, abs=5e-8)
    assert probabilities(counting.BG_NBD, BG, 2.0, 11)[10] == pytest.approx(1.07869e-07, rel=5e-6)
    # BTYD's manual: 11, 12 and 13 times in 30 weeks.
    np.testing.assert_allclose(probabilities(counting.BG_NBD, BG, 30.0, 14)[11:], [0.0019995214, 0.0015170236, 0.0011633150], atol=5e-11)


@given(MODEL, USUAL, CUSTOMER)
@settings(deadline=None, max_examples=300)
def test_the_likelihood_is_its_naive_twin(model, params, one):
    # The published form of the Pareto/NBD is a difference: its twin has fewer digits where t_x is near T.
    found, plain = log_likelihoods(model, params, one)[0, 0], naive.log_likelihoods(model, params, one)
    assert found == pytest.approx(plain, rel=1e-9, abs=1e-9)


@given(MODEL, ANY, ANYONE)
@settings(deadline=None, max_examples=300)
def test_the_gradient_is_that_of_the_likelihood(model, params, one):
    found, step = log_likelihoods(model, params, one)[0], 1e-4
    for place in range(4):
        moved = np.zeros(4)
        moved[place] = step
        more, less = (log_likelihoods(model, np.exp(np.log(params) + way * moved), one)[0, 0] for way in (1, -1))
        rounding = 1e-15 * abs(found[0]) / step
        assert found[1 + place] == pytest.approx((more - less) / (2 * step), rel=1e-5, abs=1e-6 + 50 * rounding + 1e-8 * one[0])


@given(STOPS, USUAL, st.floats(0.01, 200))
@settings(deadline=None, max_examples=200)
def test_purchase_probabilities_are_their_naive_twin(model, params, t):
    found, plain = probabilities(model, params, t, 25), naive.purchase_probabilities(model, params, t, 25)
    np.testing.assert_allclose(found, plain, rtol=1e-8, atol=1e-13)
    assert (found >= 0).all()


@pytest.mark.parametrize(("model", "params"), FITTED[:2])
def test_purchase_probabilities_sum_to_one_and_have_the_expected_mean(model, params):
    chances = probabilities(model, params, 39.0, 3000)
    assert chances.sum() == pytest.approx(1, abs=1e-12)
    assert chances @ np.arange(3000) == pytest.approx(new_customer_purchases(model, params, [39.0])[0], rel=1e-9)


@pytest.mark.parametrize(("model", "params"), FITTED)
def test_a_row_alone_is_the_row_among_many_bit_for_bit(model, params):
    random = np.random.default_rng(1)
    age = random.uniform(0, 60, 997)
    x = random.poisson(random.gamma(0.5, 4, 997)).astype(float)
    seen = np.column_stack([x, np.where(x > 0, age * random.random(997), 0), age])
    many, likely = expected_purchases(model, params, seen, [13.0, 520.0]), log_likelihoods(model, params, seen)
    for row in range(0, 997, 7):
        assert expected_purchases(model, params, seen[row], [13.0, 520.0])[0].tolist() == many[row].tolist()
        assert log_likelihoods(model, params, seen[row])[0].tolist() == likely[row].tolist()
    counts = random.integers(1, 5, 997).astype(float)
    np.testing.assert_allclose(counting.log_likelihood(model, params, seen, counts), counts @ likely, rtol=1e-12)
    plain = naive.log_likelihood(model, params, seen[:50].tolist(), counts[:50].tolist())
    assert counting.log_likelihood(model, params, seen[:50], counts[:50])[0] == pytest.approx(plain, rel=1e-10)
