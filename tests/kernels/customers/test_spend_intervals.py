"""Between what bounds a customer's spend lies: against many lives like his, and at the edge of what is valid."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.customers import counting, spend_intervals
from tests import naive

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
    """Return the arrays that both kernels take: model, parameters, what is known, P(alive), horizon."""
    seen, params = np.array(customers, np.float64).reshape(-1, 3), np.array(params, np.float64)
    out = np.empty((len(seen), 2))
    counting.futures(model, params, seen, np.array([t]), out)
    return model, params, seen, out[:, counting.ALIVE].copy(), t


def ranges(model, params, customers, t, spent, spend=SPEND, each=1.0, levels=LEVELS):
    of = known(model, params, customers, t)
    rows = np.array(spent, np.float64).reshape(-1, 2)
    out = np.empty((len(rows), len(levels)))
    spend_intervals.ranges(*of, np.array(spend, np.float64), rows, np.full(len(rows), each), np.array(levels), out)
    return out


def quiet(model, params, customers, t):
    of = known(model, params, customers, t)
    out = np.empty(len(of[2]))
    spend_intervals.quiet(*of, out)
    return out


@pytest.mark.parametrize(("model", "params"), [BG, MBG, PARETO])
@pytest.mark.parametrize(("customer", "t", "spent"), CUSTOMERS)
def test_quantiles_are_those_of_many_lives_like_his(model, params, customer, t, spent):
    found = ranges(model, params, [customer], t, [spent])[0]
    np.testing.assert_allclose(found, naive.ranges(model, params, customer, t, SPEND, spent, LEVELS), rtol=0.05, atol=0.3)


@pytest.mark.parametrize(("model", "params"), [BG, MBG, PARETO])
@pytest.mark.parametrize(("customer", "t", "spent"), CUSTOMERS)
def test_silence_is_its_naive_twin(model, params, customer, t, spent):
    assert quiet(model, params, [customer], t)[0] == pytest.approx(naive.quiet(model, params, customer, t), rel=1e-4)


@pytest.mark.parametrize(("model", "params"), [BG, MBG, PARETO])
def test_where_a_purchase_brings_the_same_always_the_quantiles_are_those_of_how_many(model, params):
    customer, t, _ = CUSTOMERS[2]
    bought = naive.lives(model, params, customer, t, np.random.default_rng(1), 400_000)
    found = ranges(model, params, [customer], t, [(0.0, 0.0)], spend=(), each=2.5)[0]
    np.testing.assert_allclose(found, 2.5 * np.quantile(bought, LEVELS), atol=2.5)


NUMBER = st.floats(math.log(1e-2), math.log(1e2)).map(math.exp)
ROW = st.tuples(st.integers(0, 300), st.floats(0, 1), st.floats(0, 300))


@given(st.sampled_from([0, 1, 2]), st.tuples(*[NUMBER] * 4), st.lists(ROW, min_size=2, max_size=6), st.floats(0, 520))
@settings(deadline=None, max_examples=100)
def test_a_row_alone_is_the_row_among_others_and_quantiles_rise(model, params, rows, t):
    customers = [(float(x), share * age if x else 0.0, age) for x, share, age in rows]
    spent = [(x, 20.0 if x else 0.0) for x, _, _ in customers]
    together = ranges(model, params, customers, t, spent)
    assert np.isfinite(together).all()
    assert (np.diff(together, axis=1) >= 0).all()
    assert (together >= 0).all()
    for place, (customer, money) in enumerate(zip(customers, spent, strict=True)):
        np.testing.assert_array_equal(ranges(model, params, [customer], t, [money])[0], together[place])
        assert -1e-9 <= quiet(model, params, [customer], t)[0] <= 1 + 1e-9


def test_so_many_purchases_that_none_is_next_to_impossible_are_counted_from_where_chances_begin():
    """The chance of nothing is e^-745 there, which is not a float64 any more."""
    params, customer = (1.0, 0.01, 0.1353352832366127, 50.0), (72.0, 0.0, 0.0)
    found = ranges(counting.BG_NBD, params, [customer], 2.71, [(72.0, 20.0)])[0]
    np.testing.assert_allclose(found, naive.ranges(counting.BG_NBD, params, customer, 2.71, SPEND, (72.0, 20.0), LEVELS), rtol=0.05)
    assert np.isfinite(ranges(counting.BG_NBD, (1.0, 0.01, 0.1353352832366127, 1.0), [customer], 271.0, [(72.0, 20.0)])).all()


def test_within_no_time_nothing_is_spent():
    assert ranges(*BG, [CUSTOMERS[2][0]], 0.0, [(9.0, 80.0)]).tolist() == [[0.0, 0.0, 0.0]]
    assert quiet(*PARETO, [CUSTOMERS[2][0]], 0.0)[0] == pytest.approx(1.0)
