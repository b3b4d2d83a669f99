"""The best price on a ladder, against plain Python over the draws and the closed form of constant elasticity."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.pricing import ladder as kernel
from kernels.pricing.demand import MAX_ABS_Z, Z
from tests.naive import pricing as naive
from tests.simulator import simulate


def asked(**facts: float) -> np.ndarray:
    """Return what is asked of one product: all that is not said is usual."""
    row = np.zeros((1, kernel.INPUTS))
    usual = {"PRICE": 1.0, "QUANTITY": 100.0, "ELASTICITY": -2.0, "HIGH": np.inf, "STOCK": np.inf, "PROFIT_WEIGHT": 1.0, "TICK": -1.0}
    for name, value in {**usual, **facts}.items():
        row[0, getattr(kernel, name)] = value
    return row


def best(ladder: np.ndarray, **facts: float) -> np.ndarray:
    out = np.empty((1, kernel.OUTPUTS))
    kernel.prices(np.atleast_2d(ladder), asked(**facts), out)
    return out[0]


@pytest.mark.parametrize(("elasticity", "price"), [(-2.0, 2.0), (-2.62, 1.6173), (-3.37753, 1.42061), (-1.5, 3.0)])
def test_a_certain_elasticity_gives_the_price_of_the_closed_form(elasticity, price):
    fine = np.arange(0.5, 6.0, 0.00001)
    found = best(fine, ELASTICITY=elasticity, COST=1.0)[kernel.BEST]
    assert found == pytest.approx(price, abs=1e-4)
    assert found == pytest.approx(elasticity / (1 + elasticity), abs=2e-5)


def test_inelastic_demand_leaves_the_price_to_the_bounds():
    ladder = np.geomspace(0.5, 20, 200)
    assert best(ladder, ELASTICITY=-0.5, COST=1.0)[kernel.BEST] == ladder[-1]
    assert best(ladder, ELASTICITY=-0.5, COST=1.0, HIGH=4.0)[kernel.BEST] == ladder[ladder <= 4.0][-1]


RUNGS = st.lists(st.floats(0.2, 20), min_size=1, max_size=12)


@given(
    RUNGS,
    st.floats(0.5, 10),
    st.floats(0, 1e4),
    st.floats(-6, -0.05),
    st.floats(0, 1.2),
    st.floats(0, 12),
    st.tuples(st.floats(0, 5), st.floats(1, 25)),
    st.one_of(st.just(math.inf), st.floats(0, 1e4)),
    st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 2)),
)
@settings(deadline=None, max_examples=300)
def test_the_kernel_is_its_naive_twin(ladder, price, quantity, elasticity, sd, cost, bounds, stock, weights):
    found = best(
        np.array(ladder),
        PRICE=price,
        QUANTITY=quantity,
        ELASTICITY=elasticity,
        SD=sd,
        COST=cost,
        LOW=bounds[0],
        HIGH=bounds[1],
        STOCK=stock,
        PROFIT_WEIGHT=weights[0],
        REVENUE_WEIGHT=weights[1],
        RISK=weights[2],
    )
    plain = naive.prices(ladder, price, quantity, (elasticity + sd * Z).tolist(), cost, bounds, stock, weights)
    if plain is None:
        assert math.isnan(found[kernel.BEST])
        return
    # Two rungs may earn the same but for rounding: what the kernel has chosen must earn what the twin's choice does.
    scale = max(abs(plain.worth), 1e-9 * quantity, plain.demand * 1e-7, 1e-9)
    again = naive.prices([float(found[kernel.BEST])], price, quantity, (elasticity + sd * Z).tolist(), cost, bounds, stock, weights)
    assert again.worth == pytest.approx(plain.worth, abs=1e-6 * scale + 1e-6 * weights[2] * plain.demand * 30)
    assert found[kernel.DEMAND] == pytest.approx(again.demand, rel=1e-9, abs=1e-9)
    assert found[kernel.DEMAND_SD] == pytest.approx(again.sd, rel=1e-5, abs=1e-6 * max(again.demand, 1e-3))


def test_draws_are_standard_and_the_same_for_all():
    assert (len(Z), Z.mean()) == (64, pytest.approx(0, abs=1e-15))
    assert Z.std() == pytest.approx(1, abs=1e-15)
    assert pytest.approx(np.abs(Z).max()) == MAX_ABS_Z


@given(st.floats(-5, -0.2), st.floats(0, 0.8), st.floats(0, 8), st.floats(0, 4))
@settings(deadline=None)
def test_a_higher_cost_never_lowers_the_price(elasticity, sd, cost, more):
    ladder = np.geomspace(0.5, 20, 64)
    facts = {"ELASTICITY": elasticity, "SD": min(sd, -elasticity / MAX_ABS_Z)}
    assert best(ladder, COST=cost + more, **facts)[kernel.BEST] >= best(ladder, COST=cost, **facts)[kernel.BEST]


@given(st.floats(-5, -1.2), st.floats(1, 100))
@settings(deadline=None)
def test_scarce_stock_raises_the_price_and_has_a_shadow_price(elasticity, stock):
    ladder = np.geomspace(0.5, 20, 64)
    plenty, scarce = best(ladder, ELASTICITY=elasticity, COST=1.0), best(ladder, ELASTICITY=elasticity, COST=1.0, STOCK=stock)
    assert scarce[kernel.BEST] >= plenty[kernel.BEST]
    assert plenty[kernel.SHADOW_PRICE] == 0
    assert scarce[kernel.SHADOW_PRICE] >= 0
    if scarce[kernel.DEMAND] > stock:
        assert scarce[kernel.SHADOW_PRICE] > 0


def many(number: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(3)
    rows = np.repeat(asked(), number, axis=0)
    rows[:, kernel.PRICE], rows[:, kernel.ELASTICITY] = random.uniform(5, 50, number), random.uniform(-4, -0.5, number)
    rows[:, kernel.SD], rows[:, kernel.COST] = random.uniform(0, 0.2, number), random.uniform(1, 20, number)
    rows[:, kernel.TICK] = 0.01
    return np.geomspace(0.5, 2, 63)[None, :], rows


def test_one_ladder_of_ratios_serves_all_products_rounded_to_the_tick():
    ladder, rows = many(200)
    out, each = np.empty((200, kernel.OUTPUTS)), np.empty((200, kernel.OUTPUTS))
    kernel.prices(ladder, rows, out)
    absolute = np.round(rows[:, [kernel.PRICE]] * ladder, 2)
    kernel.prices(absolute, rows, each)
    np.testing.assert_array_equal(out, each)


@given(st.floats(-1e17, 1e17) | st.floats(-1e3, 1e3) | st.integers(-100, 100).map(lambda whole: whole + 0.5))
def test_the_nearest_whole_number_is_that_of_numpy(number):
    assert kernel.round_half_even(number) == np.rint(number)


SIMULATED = """
import sys
import numpy as np
from kernels import compile
from kernels.pricing import ladder as pricing
assert compile.SIMULATED
with np.load(sys.argv[1]) as stored:
    out = np.empty((len(stored["rows"]), pricing.OUTPUTS))
    pricing.prices_on_cuda(len(out), stored["ladder"], stored["rows"], out)
np.save(sys.argv[2], out)
"""


def test_cuda_gives_what_the_cpu_gives(tmp_path: Path) -> None:
    ladder, rows = many(20)
    out = np.empty((20, kernel.OUTPUTS))
    kernel.prices(ladder, rows, out)
    np.savez(tmp_path / "inputs.npz", ladder=ladder, rows=rows)
    simulate(SIMULATED, tmp_path / "inputs.npz", tmp_path / "out.npy")
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), out, rtol=1e-12)


@given(st.floats(0.5, 50), st.sampled_from([0.01, 0.05, 0.1, 0.25, 0.5, 1.0]))
@settings(deadline=None)
def test_ladders_are_decimal_multiples_of_the_tick(price, tick):
    ratios, out = np.geomspace(0.5, 2, 31), np.full((1, 40), np.nan)
    kernel.ladders(ratios, asked(PRICE=price, TICK=tick), out)
    plain = naive.ladders(ratios.tolist(), price, tick)
    assert np.isnan(out[0, 31:]).all()
    # Where a price is half way between two, rounding may take it either way.
    assert all(one == other or abs(one - other) == pytest.approx(tick) for one, other in zip(out[0].tolist(), plain, strict=False))
    assert sum(one == other for one, other in zip(out[0].tolist(), plain, strict=False)) >= 30


@given(
    st.floats(1, 30),
    st.floats(1, 30),
    st.floats(0, 500),
    st.floats(-5, -0.1),
    st.floats(0, 0.5),
    st.floats(0, 20),
    st.one_of(st.just(math.inf), st.floats(0, 500)),
)
@settings(deadline=None, max_examples=200)
def test_impacts_are_their_naive_twin(price, base, quantity, elasticity, sd, cost, stock):
    facts = {"PRICE": base, "QUANTITY": quantity, "ELASTICITY": elasticity, "SD": sd, "COST": cost, "STOCK": stock}
    out = np.empty((1, kernel.CHANGES))
    kernel.impacts(asked(**facts), np.array([price]), np.array([True]), np.array([-1.28, 1.28]), out)
    draws = (elasticity + sd * Z).tolist()
    scale = quantity * max(price, base) * max(1.0, (price / base) ** (elasticity - 3 * sd))
    plain = naive.impacts(price, base, quantity, draws, cost, stock, (1.0, 0.0))
    np.testing.assert_allclose(out[0, :3], plain[:3], rtol=1e-9, atol=1e-9 * max(scale, 1e-9))
    if price != base:
        assert out[0, kernel.CONFIDENCE] == pytest.approx(plain[3], abs=1 / 64)
    for end, z in enumerate((-1.28, 1.28), 1):
        at_end = naive.impacts(price, base, quantity, [elasticity + sd * z], cost, stock, (1.0, 0.0))
        np.testing.assert_allclose(out[0, 3 * end : 3 * end + 3], at_end[:3], rtol=1e-9, atol=1e-9 * max(scale, 1e-9))


def test_a_price_that_stays_changes_nothing():
    out = np.empty((1, kernel.CHANGES))
    kernel.impacts(asked(SD=0.3, COST=0.4), np.array([1.0]), np.array([True]), np.array([-1.0, 1.0]), out)
    assert out[0, :9].tolist() == [0.0] * 9


def test_joint_values_are_the_sums_of_the_products_values():
    rows = np.concatenate(
        [asked(PRICE=3.0, ELASTICITY=-1.8, SD=0.3, COST=1.0, STOCK=40.0), asked(PRICE=2.0, ELASTICITY=-3.0, COST=0.5, RISK=0.5)]
    )
    rungs = np.array([1.0, 2.0, 3.5])
    out = np.empty(3)
    kernel.joint_values(rungs, rows, out)
    alone = np.empty((2, 3))
    for row in range(2):
        kernel.joint_values(rungs, rows[row : row + 1], alone[row])
    np.testing.assert_allclose(out, alone.sum(axis=0), rtol=1e-14)
    plain = naive.joint_values(rungs.tolist(), [(3.0, 100.0, (-1.8 + 0.3 * Z).tolist(), 1.0, 40.0)], (1.0, 0.0, 0.0))
    np.testing.assert_allclose(alone[0], plain, rtol=1e-9)


@pytest.mark.gpu
def test_a_gpu_gives_what_the_cpu_gives() -> None:
    from numba import cuda

    if not cuda.is_available():
        pytest.skip("no CUDA device here")
    ladder, rows = many(20_000)
    out, found = np.empty((len(rows), kernel.OUTPUTS)), np.empty((len(rows), kernel.OUTPUTS))
    kernel.prices(ladder, rows, out)
    kernel.prices_on_cuda(len(found), ladder, rows, found)
    np.testing.assert_allclose(found, out, rtol=1e-9, atol=1e-9)
