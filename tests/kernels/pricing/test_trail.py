"""The trail of a price, against plain Python that applies one rule after the other."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from kernels.pricing import ladder as kernel
from kernels.pricing import trail
from kernels.pricing.demand import Z
from tests.kernels.pricing.test_ladder import asked
from tests.naive import pricing as naive

RAILS = 3
ANY = (0.0, math.inf)


def traced(ladder, rails, edges=(), **facts):
    """Return the trail of one product."""
    rungs = [*ladder, *edges, *[ladder[0]] * (kernel.EDGES - len(edges))]
    out = np.empty((1, trail.width(len(rails))))
    trail.trails(np.atleast_2d(np.array(rungs, float)), asked(**facts), np.array([rails], float).reshape(1, len(rails), 2), out)
    return out[0]


def steps(found, rails):
    """Return the rails that moved the price, with their bounds and the prices then."""
    pairs = found[trail.STEPS :].reshape(rails, 2)
    return [(rail, bound, price) for rail, (bound, price) in enumerate(pairs.tolist()) if price == price]


def worths(ladder, stock, facts, weights=(1.0, 0.0, 0.0)):
    draws = (facts["ELASTICITY"] + facts["SD"] * Z).tolist()
    one = [naive.prices([rung], facts["PRICE"], facts["QUANTITY"], draws, facts["COST"], ANY, stock, weights) for rung in ladder]
    return [priced.worth for priced in one]


def apart(values):
    """Return whether no two values are so near to each other that rounding decides which is the higher one."""
    ordered = sorted(values)
    return all(high - low > 1e-9 * max(abs(high), abs(low), 1e-9) for low, high in itertools.pairwise(ordered))


BAND = st.tuples(st.floats(0.1, 20), st.floats(0, 10)).map(lambda ends: (ends[0], ends[0] + ends[1]))
FLOOR = st.floats(0, 20).map(lambda low: (low, math.inf))
CAP = st.floats(0.1, 20).map(lambda high: (0.0, high))


@given(
    st.lists(st.floats(0.2, 20), min_size=1, max_size=10, unique=True).map(sorted),
    st.lists(st.just(ANY) | BAND | FLOOR | CAP, min_size=RAILS - 1, max_size=RAILS - 1),
    st.just(ANY) | FLOOR,
    st.fixed_dictionaries(
        {
            "PRICE": st.floats(0.5, 10),
            "QUANTITY": st.floats(0.1, 1e3),
            "ELASTICITY": st.floats(-6, -0.05),
            "SD": st.floats(0, 1.0),
            "COST": st.floats(0, 12),
        }
    ),
    st.just(math.inf) | st.floats(0.1, 1e3),
    st.lists(st.floats(0.2, 20), max_size=kernel.EDGES),
)
@settings(deadline=None, max_examples=400)
@example(
    [2.0, 3.0, 4.0],
    [(0.0, 3.5), (3.6, 3.7)],
    (3.2, math.inf),
    {"PRICE": 3.0, "QUANTITY": 9.0, "ELASTICITY": -0.5, "SD": 0.1, "COST": 1.0},
    5.0,
    [3.2],
)
def test_the_trail_is_that_of_its_naive_twin(ladder, bands, last, facts, stock, edges):
    rails, rungs = [*bands, last], [*ladder, *edges]
    free, stocked = worths(rungs, math.inf, facts), worths(rungs, stock, facts)
    assume(len({*rungs}) == len(rungs) and apart(free) and apart(stocked))
    start, expected = naive.trails(rungs, free, stocked, rails, len(ladder))
    found = traced(ladder, rails, edges, STOCK=stock, **facts)
    assert (found[trail.FREE], found[trail.LOWEST], found[trail.HIGHEST]) == (start, ladder[0], ladder[-1])
    by_stock = [step for step in expected if step.rule == "inventory"]
    assert found[trail.STOCKED] == (by_stock[0].after if by_stock else start)
    end = expected[-1].after if expected else start
    if naive.beyond(end, last) > 0:  # no price of the ladder keeps the last rail
        assert math.isnan(found[trail.BEST])
        assert (found[trail.BINDING], found[trail.SHADOW_PRICE]) == (trail.FIRST_RAIL + RAILS - 1, 0)
        expected = [step for step in expected if step.rule != RAILS - 1]
    else:
        assert found[trail.BEST] == end
        rules = {"none": trail.NO_RULE, "inventory": trail.STOCK_RULE, **{rail: trail.FIRST_RAIL + rail for rail in range(RAILS)}}
        assert found[trail.BINDING] == rules[expected[-1].rule if expected else "none"]
    assert steps(found, RAILS) == [(step.rule, step.bound, step.after) for step in expected if step.rule != "inventory"]


@given(
    st.floats(1, 20),
    st.floats(-5, -0.2),
    st.floats(0, 0.8),
    st.floats(0, 15),
    st.floats(0.1, 200),
    st.tuples(st.floats(0, 15), st.floats(1, 30)),
    st.tuples(st.floats(0, 1), st.floats(0, 2)),
)
@settings(deadline=None, max_examples=200)
def test_within_bounds_the_best_price_and_its_shadow_price_are_those_of_prices(price, elasticity, sd, cost, stock, bounds, weights):
    ladder = np.geomspace(price / 2, price * 2, 63)
    assume(((ladder >= bounds[0]) & (ladder <= bounds[1])).any())
    facts = {"PRICE": price, "ELASTICITY": elasticity, "SD": min(sd, -elasticity / 3), "COST": cost, "STOCK": stock}
    facts |= {"PROFIT_WEIGHT": weights[0], "REVENUE_WEIGHT": 1 - weights[0], "RISK": weights[1]}
    out = np.empty((1, kernel.OUTPUTS))
    kernel.prices(ladder[None, :], asked(LOW=bounds[0], HIGH=bounds[1], **facts), out)
    found = traced(ladder, [bounds], **facts)
    assert found[trail.BEST] == out[0, kernel.BEST]
    assert found[trail.SHADOW_PRICE] == pytest.approx(out[0, kernel.SHADOW_PRICE], rel=1e-6, abs=1e-9 * price * stock)


@given(st.floats(0.5, 200), st.floats(1, 5000), st.floats(-5, -1.2), st.floats(0, 0.6))
@settings(deadline=None, max_examples=200)
def test_a_stock_that_lasts_has_no_shadow_price_whatever_the_rounding(price, quantity, elasticity, sd):
    ladder = np.geomspace(price / 2, price * 2, 63)
    ladder[31] = price
    facts = {"PRICE": price, "QUANTITY": quantity, "ELASTICITY": elasticity, "SD": min(sd, -elasticity / 3), "COST": price / 2}
    free = traced(ladder, [ANY], **facts)[trail.BEST]
    out = np.empty((1, kernel.OUTPUTS))
    kernel.prices(np.array([[free]]), asked(**facts), out)
    demand = float(out[0, kernel.DEMAND])
    for stock in (demand, demand * (1 + 1e-15), demand * (1 - 1e-15)):  # as much as is sold, but for rounding
        assert traced(ladder, [ANY], STOCK=stock, **facts)[trail.SHADOW_PRICE] == 0
        kernel.prices(ladder[None, :], asked(STOCK=stock, **facts), out)
        assert out[0, kernel.SHADOW_PRICE] == 0
    assert traced([free], [ANY], STOCK=demand / 2, **facts)[trail.SHADOW_PRICE] > 0


def test_products_of_shorter_ladders_are_traced_as_alone():
    ladders = np.array([[1.0, 2.0, 4.0, 8.0, 1.0, 1.0], [3.0, 5.0, np.nan, np.nan, 3.0, 3.0]])
    inputs = np.concatenate([asked(PRICE=2.0, COST=1.0, STOCK=30.0), asked(PRICE=4.0, COST=1.0)])
    rails = np.array([[(0.0, 3.0), ANY], [(4.0, np.inf), ANY]])
    together, alone = np.empty((2, trail.width(2))), np.empty((2, trail.width(2)))
    trail.trails(ladders, inputs, rails, together)
    for row in range(2):
        trail.trails(ladders[row : row + 1], inputs[row : row + 1], rails[row : row + 1], alone[row : row + 1])
    np.testing.assert_array_equal(together, alone)
    np.testing.assert_array_equal(together[:, trail.HIGHEST], [8.0, 5.0])


@given(st.floats(0.5, 50), st.sampled_from([0.01, 0.05, 0.15, 1.0, None]), st.floats(0.1, 120), st.floats(0, 0.2) | st.just(math.inf))
@settings(deadline=None, max_examples=300)
def test_edges_are_their_naive_twin(price, tick, low, width):
    bounds = low, low * (1 + width)
    inputs = asked(PRICE=price, TICK=tick or 0.01, LOW=bounds[0], HIGH=bounds[1])
    ladder = np.full((1, 31 + kernel.EDGES), np.nan)
    kernel.ladders(np.geomspace(0.5, 2, 31), inputs, ladder)
    rungs = ladder[0, :31].tolist()
    if tick is None:
        inputs[0, kernel.TICK] = kernel.PRICES
    kernel.add_edges(inputs, ladder)
    assert ladder[0].tolist() == [*rungs, *naive.add_edges(rungs, *bounds, tick)]


@pytest.mark.parametrize(
    ("low", "high", "edges"),
    [
        (7.96, 8.04, (7.96, 8.04)),
        (9.999, 10.0, (10.0, 10.0)),
        (30.001, math.inf, (30.01, 5.0)),
        (8.0, 30.0, (5.0, 5.0)),
    ],
)
def test_edges_are_prices_only_where_no_other_is_within_the_bounds(low, high, edges):
    ladder = np.array([[5.0, 7.9, 8.1, 20.0, np.nan, np.nan]])
    kernel.add_edges(asked(TICK=0.01, LOW=low, HIGH=high), ladder)
    assert tuple(ladder[0, 4:]) == edges
