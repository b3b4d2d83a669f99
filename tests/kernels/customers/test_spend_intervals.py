"""Quantiles of a customer's spend: against simulated customers, and at the edge of what is valid."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.customers import counting, spend_intervals
from kernels.customers import expected_purchases as future
from tests.naive import customers as naive

BG = (counting.BG_NBD, (0.24259, 4.41353, 0.79289, 2.42575))
MBG = (counting.MBG_NBD, (0.525, 6.183, 0.891, 1.614))
PARETO = (counting.PARETO_NBD, (0.55328, 10.5776, 0.60621, 11.6679))
SPEND = (6.2488, 3.7446, 15.4477)
LEVELS = (0.1, 0.5, 0.9)
# x, t_x, T; the horizon, weeks; how often and how much.
CUSTOMERS = (
    ((0.0, 0.0, 30.0), 52.0, (0.0, 0.0)),
    ((2.0, 30.43, 38.86), 39.0, (2.0, 25.0)),
    ((10.0, 35.0, 38.0), 52.0, (9.0, 80.0)),
    ((25.0, 37.0, 38.86), 104.0, (25.0, 50.0)),
    ((200.0, 103.0, 104.0), 26.0, (200.0, 30.0)),
)


def known(model, params, customers, t):
    """Return the arguments that both kernels take: model, parameters, histories, P(alive), horizon."""
    seen, params = np.array(customers, np.float64).reshape(-1, 3), np.array(params, np.float64)
    out = np.empty((len(seen), 2))
    future.expected_purchases(model, params, seen, np.array([t]), out)
    return model, params, seen, out[:, future.ALIVE].copy(), t


def quantiles(model, params, customers, t, spent, spend=SPEND, each=1.0, levels=LEVELS):
    of = known(model, params, customers, t)
    rows = np.array(spent, np.float64).reshape(-1, 2)
    out = np.empty((len(rows), len(levels)))
    spend_intervals.spend_quantiles(*of, np.array(spend, np.float64), rows, np.full(len(rows), each), np.array(levels), out)
    return out


def no_purchase(model, params, customers, t):
    of = known(model, params, customers, t)
    out = np.empty(len(of[2]))
    spend_intervals.no_purchase_probabilities(*of, out)
    return out


@pytest.mark.parametrize(("model", "params"), [BG, MBG, PARETO])
@pytest.mark.parametrize(("customer", "t", "spent"), CUSTOMERS)
def test_quantiles_are_those_of_simulated_customers(model, params, customer, t, spent):
    found = quantiles(model, params, [customer], t, [spent])[0]
    np.testing.assert_allclose(found, naive.spend_quantiles(model, params, customer, t, SPEND, spent, LEVELS), rtol=0.05, atol=0.3)


@pytest.mark.parametrize(("model", "params"), [BG, MBG, PARETO])
@pytest.mark.parametrize(("customer", "t", "spent"), CUSTOMERS)
def test_no_purchase_probabilities_are_their_naive_twin(model, params, customer, t, spent):
    assert no_purchase(model, params, [customer], t)[0] == pytest.approx(
        naive.no_purchase_probabilities(model, params, customer, t), rel=1e-4
    )


@pytest.mark.parametrize(("model", "params"), [BG, MBG, PARETO])
def test_with_a_fixed_amount_quantiles_of_spend_are_those_of_purchases(model, params):
    customer, t, _ = CUSTOMERS[2]
    bought = naive.simulated_purchases(model, params, customer, t, np.random.default_rng(1), 400_000)
    found = quantiles(model, params, [customer], t, [(0.0, 0.0)], spend=(), each=2.5)[0]
    np.testing.assert_allclose(found, 2.5 * np.quantile(bought, LEVELS), atol=2.5)


NUMBER = st.floats(math.log(1e-2), math.log(1e2)).map(math.exp)
ROW = st.tuples(st.integers(0, 300), st.floats(0, 1), st.floats(0, 300))


@given(st.sampled_from([0, 1, 2]), st.tuples(*[NUMBER] * 4), st.lists(ROW, min_size=2, max_size=6), st.floats(0, 520))
@settings(deadline=None, max_examples=100)
def test_a_row_alone_is_the_row_among_others_and_quantiles_rise(model, params, rows, t):
    customers = [(float(x), share * age if x else 0.0, age) for x, share, age in rows]
    spent = [(x, 20.0 if x else 0.0) for x, _, _ in customers]
    together = quantiles(model, params, customers, t, spent)
    assert np.isfinite(together).all()
    assert (np.diff(together, axis=1) >= 0).all()
    assert (together >= 0).all()
    for place, (customer, money) in enumerate(zip(customers, spent, strict=True)):
        np.testing.assert_array_equal(quantiles(model, params, [customer], t, [money])[0], together[place])
        assert -1e-9 <= no_purchase(model, params, [customer], t)[0] <= 1 + 1e-9


def test_the_recurrence_starts_where_probabilities_are_normal_numbers():
    """P(no purchase) is e^-745 there, which is not a float64."""
    params, customer = (1.0, 0.01, 0.1353352832366127, 50.0), (72.0, 0.0, 0.0)
    found = quantiles(counting.BG_NBD, params, [customer], 2.71, [(72.0, 20.0)])[0]
    np.testing.assert_allclose(
        found, naive.spend_quantiles(counting.BG_NBD, params, customer, 2.71, SPEND, (72.0, 20.0), LEVELS), rtol=0.05
    )
    assert np.isfinite(quantiles(counting.BG_NBD, (1.0, 0.01, 0.1353352832366127, 1.0), [customer], 271.0, [(72.0, 20.0)])).all()


def test_a_horizon_of_zero_has_no_spend():
    assert quantiles(*BG, [CUSTOMERS[2][0]], 0.0, [(9.0, 80.0)]).tolist() == [[0.0, 0.0, 0.0]]
    assert no_purchase(*PARETO, [CUSTOMERS[2][0]], 0.0)[0] == pytest.approx(1.0)
