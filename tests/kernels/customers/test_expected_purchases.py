"""P(alive) and expected purchases: the published figures of CDNOW, the naive twins, and input at the edge of what is valid."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import hyp2f1

from kernels.customers import bg_nbd, counting, spend
from kernels.customers import expected_purchases as future
from tests.kernels.customers.inputs import (
    ANY,
    ANYONE,
    BG,
    BG_FITTED,
    CUSTOMER,
    FITTED,
    MODEL,
    PARETO,
    SPEND,
    STOPS,
    USUAL,
    discounted_purchases,
    expected_purchases,
    log_likelihoods,
    new_customer_purchases,
    size,
)
from tests.naive import customers as naive
from tests.simulator import simulate


def test_cdnows_hold_out_is_as_published(cdnow, holdout_purchases):
    expected = expected_purchases(counting.BG_NBD, BG, cdnow[0], [39.0])[:, future.EXPECTED]
    assert holdout_purchases.sum() == 1882
    assert expected.sum() == pytest.approx(1653.9, abs=0.05)
    assert np.corrcoef(expected, holdout_purchases)[0, 1] == pytest.approx(0.6256, abs=5e-5)
    assert np.abs(expected - holdout_purchases).mean() == pytest.approx(0.786, abs=5e-4)
    assert np.sqrt(((expected - holdout_purchases) ** 2).mean()) == pytest.approx(1.608, abs=5e-4)
    times = np.minimum(cdnow[0][:, counting.FREQUENCY], 7)
    by_times = [expected[times == x].mean() for x in range(8)]
    np.testing.assert_allclose(by_times, [0.225, 0.523, 1.044, 1.520, 2.164, 2.654, 3.504, 6.157], atol=2e-3)


def test_expected_purchases_of_a_new_customer_are_as_published():
    found = new_customer_purchases(counting.BG_NBD, BG_FITTED, [0.1429, 1.0, 3.0, 31.8571, 32.0, 78.0])
    np.testing.assert_allclose(found[:5], [0.0078, 0.0532, 0.1506, 1.0405, 1.0437], atol=5e-5)
    # The sheet that this is from cut its series off: it says 1.8576, and is said to be good to three digits.
    assert found[5] == pytest.approx(1.8576, abs=5e-4)
    assert found[5] == pytest.approx(naive.new_customer_purchases(counting.BG_NBD, BG_FITTED, 78.0), rel=1e-9)


def test_the_published_customer_of_the_bg_nbd():
    (found,) = expected_purchases(counting.BG_NBD, BG, [2, 30.43, 38.86], [39.0])
    assert found.round(4).tolist() == [0.7266, 1.2260]


def test_the_published_customer_of_the_pareto_nbd():
    (found,) = expected_purchases(counting.PARETO_NBD, PARETO, [26, 30.86, 31], [52.0])
    assert found[0] == pytest.approx(0.9979, abs=5e-5)
    assert found[1] == pytest.approx(25.46, abs=0.01)


@given(MODEL, USUAL, CUSTOMER, st.floats(0.01, 200))
@settings(deadline=None, max_examples=300)
def test_expected_purchases_are_their_naive_twin(model, params, one, horizon):
    (found,) = expected_purchases(model, params, one, [horizon])
    np.testing.assert_allclose(found, naive.expected_purchases(model, params, one, horizon), rtol=1e-7, atol=1e-300)


@given(STOPS, USUAL, CUSTOMER, st.floats(0.1, 100))
@settings(deadline=None, max_examples=200)
def test_expected_purchases_are_the_published_form_with_gausss_function(model, params, one, t):
    r, alpha, a, b = params
    x, t_x, age = one
    n = x + model
    if abs(a - 1) < 0.01 or a + b + n < 1.01:
        return  # its poles
    whole = (a + b + n - 1) / (a - 1)
    gauss = hyp2f1(r + x, b + n, a + b + n - 1, t / (alpha + age + t))
    alive = 1 / (1 + (a / (b + n - 1) * ((alpha + age) / (alpha + t_x)) ** (r + x) if n else 0))
    (found,) = expected_purchases(model, params, one, [t])
    assert found[0] == pytest.approx(alive, rel=1e-10)
    plain = alive * whole * (1 - ((alpha + age) / (alpha + age + t)) ** (r + x) * gauss)
    assert found[1] == pytest.approx(plain, rel=1e-8, abs=1e-12 * abs(whole))


@given(MODEL, USUAL, st.floats(0.01, 200))
@settings(deadline=None, max_examples=200)
def test_purchases_of_new_customers_are_their_naive_twin(model, params, t):
    assert new_customer_purchases(model, params, [t])[0] == pytest.approx(naive.new_customer_purchases(model, params, t), rel=1e-8)


@given(MODEL, USUAL, CUSTOMER, st.floats(1, 30), st.floats(0, 0.5), st.floats(0.5, 5))
@settings(deadline=None, max_examples=50)
def test_discounted_purchases_are_their_naive_twin(model, params, one, weeks, rate, period):
    out = np.empty(1)
    future.discounted_purchases(model, np.array(params), np.array([one]), weeks, rate, period, out)
    assert out[0] == pytest.approx(naive.discounted_purchases(model, params, one, weeks, rate, period), rel=1e-6, abs=1e-300)


@pytest.mark.parametrize(("model", "params"), FITTED)
def test_without_a_rate_discounted_purchases_are_expected_purchases(model, params):
    seen, out = np.array([[2, 30.43, 38.86], [0, 0, 5]]), np.empty(2)
    future.discounted_purchases(model, params, seen, 52.5, 0.0, 1.0, out)
    np.testing.assert_allclose(out, expected_purchases(model, params, seen, [52.5])[:, future.EXPECTED], rtol=1e-12)
    future.discounted_purchases(model, params, seen, 0.0, 0.1, 1.0, out)
    assert out.tolist() == [0.0, 0.0]


@given(MODEL, ANY, ANYONE, st.lists(st.one_of(st.just(0.0), st.floats(1e-9, 1e6)), min_size=1, max_size=4))
@settings(deadline=None, max_examples=500)
def test_expected_purchases_grow_with_the_horizon_for_any_valid_input(model, params, one, horizons):
    r, alpha, *_ = params
    x, _, age = one
    (found,) = expected_purchases(model, params, one, sorted(horizons))
    assert 0 < found[future.ALIVE] <= 1
    expected = found[future.EXPECTED :]
    assert (expected >= 0).all()
    assert (expected[1:] >= expected[:-1] * (1 - 1e-12)).all()
    assert (expected <= found[future.ALIVE] * (r + x) / (alpha + age) * np.sort(horizons) * (1 + 1e-11)).all()
    assert np.isfinite(log_likelihoods(model, params, one)).all()


@given(size(1e-3, 500), size(1e-6, 10), size(1e-3, 1e3), size(1e-3, 1e3))
@settings(deadline=None, max_examples=500)
def test_the_series_and_the_trapezoidal_rule_agree(k, z, a, b):
    if k * z + 9 * math.sqrt(k * z * (1 + z)) + 40 * (1 + z) < 1000:
        assert bg_nbd.mean_by_terms(k, z, a, b) == pytest.approx(bg_nbd.mean_by_trapezoids(k, z, a, b), rel=1e-11)


@pytest.mark.parametrize(("model", "params"), FITTED)
def test_a_customer_of_age_zero_is_a_new_customer_and_a_horizon_of_zero_has_no_purchases(model, params):
    found = expected_purchases(model, params, [[0, 0, 0], [3, 10, 10]], [0.0, 10.0])
    assert found[:, 1].tolist() == [0.0, 0.0]
    assert found[0, 2] == pytest.approx(new_customer_purchases(model, params, [10.0])[0], rel=1e-12)
    if model != counting.MBG_NBD:
        assert found[0, future.ALIVE] == 1
    assert (found[1, future.ALIVE] == 1) == (model == counting.PARETO_NBD)


SIMULATED = """
import sys
import numpy as np
from kernels import compile
from tests.kernels.customers.test_expected_purchases import on_device
assert compile.SIMULATED
with np.load(sys.argv[1]) as stored:
    np.save(sys.argv[2], on_device(stored["seen"]))
"""
SEEN = np.array([[0, 0, 0], [0, 0, 38.86], [2, 30.43, 38.86], [26, 30.86, 31], [1, 0.14, 78], [400, 1, 300], [5, 20, 20]])
HORIZONS = np.array([39.0, 5000.0])


def on_device(seen: np.ndarray) -> np.ndarray:
    """Return the results of the CUDA launches, for each model: P(alive), two expectations, a discounted one, and a mean spend."""
    out = np.empty((3, len(seen), 5))
    for model, params in FITTED:
        expected_purchases, worth, spends = np.empty((len(seen), 3)), np.empty(len(seen)), np.empty(len(seen))
        future.expected_purchases_on_cuda(len(seen), model, params, seen, HORIZONS, expected_purchases)
        future.discounted_purchases_on_cuda(len(seen), model, params, seen, 20.5, 0.1, 1.0, worth)
        spend.mean_spends_on_cuda(len(seen), SPEND, np.ascontiguousarray(seen[:, [0, 2]]), spends)
        out[model] = np.column_stack([expected_purchases, worth, spends])
    return out


def on_cpu(seen: np.ndarray) -> np.ndarray:
    """Return the same, computed on the CPU."""
    spends = np.empty(len(seen))
    spend.mean_spends(SPEND, np.ascontiguousarray(seen[:, [0, 2]]), spends)
    found = [
        (expected_purchases(model, params, seen, HORIZONS), discounted_purchases(model, params, seen, 20.5)) for model, params in FITTED
    ]
    return np.array([np.column_stack([each, worth, spends]) for each, worth in found])


def test_cuda_gives_what_the_cpu_gives(tmp_path: Path) -> None:
    np.savez(tmp_path / "inputs.npz", seen=SEEN)
    simulate(SIMULATED, tmp_path / "inputs.npz", tmp_path / "out.npy")
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), on_cpu(SEEN), rtol=1e-12)


@pytest.mark.gpu
def test_a_gpu_gives_what_the_cpu_gives() -> None:
    from numba import cuda

    if not cuda.is_available():
        pytest.skip("no CUDA device here")
    random = np.random.default_rng(4)
    age = random.uniform(0, 104, 20_000)
    x = random.geometric(0.3, len(age)) - 1.0
    seen = np.column_stack([x, np.where(x > 0, age * random.uniform(0, 1, len(age)), 0), age])
    np.testing.assert_allclose(on_device(seen), on_cpu(seen), rtol=1e-9)


@given(MODEL, USUAL, st.lists(CUSTOMER, min_size=2, max_size=8), st.floats(0, 200), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=60)
def test_a_customer_alone_has_the_bits_they_have_among_others_in_any_order(model, params, customers, horizon, random):
    """Cached coefficients and panels do not depend on the customer for whom they were computed first."""
    order = list(range(len(customers)))
    random.shuffle(order)
    shuffled = [customers[place] for place in order]
    together, values = expected_purchases(model, params, shuffled, [horizon]), discounted_purchases(model, params, shuffled, horizon)
    for place, one in enumerate(shuffled):
        np.testing.assert_array_equal(expected_purchases(model, params, [one], [horizon])[0], together[place])
        assert discounted_purchases(model, params, [one], horizon)[0] == values[place]


@given(USUAL, st.integers(0, 60), st.floats(0, 100), size(1e-9, 500))
@settings(deadline=None, max_examples=200)
def test_cached_panels_agree_with_the_sum_of_terms(params, x, age, horizon):
    r, alpha, a, b = params
    k = r + x
    found = expected_purchases(counting.BG_NBD, params, [(float(x), age, age)], [horizon])[0]
    plain = bg_nbd.bg_expected_purchases(k, alpha + age, a, b + x, horizon)
    assert found[future.EXPECTED] == pytest.approx(found[future.ALIVE] * plain, rel=1e-12)
