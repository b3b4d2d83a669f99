"""What customers will buy: the published figures of CDNOW, the twins from the definitions, and input at the edge of what is valid."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import hyp2f1

from kernels.customers import counting as kernel
from tests import naive
from tests.simulator import simulate

BG = np.array([0.243, 4.414, 0.793, 2.426])  # as printed; and with more digits
BG_FITTED = np.array([0.24259, 4.41353, 0.79289, 2.42575])
MBG = np.array([0.525, 6.183, 0.891, 1.614])
PARETO = np.array([0.5534, 10.5802, 0.6061, 11.6562])
SPEND = np.array([6.2488, 3.7446, 15.4477])
FITTED = ((kernel.BG_NBD, BG), (kernel.MBG_NBD, MBG), (kernel.PARETO_NBD, PARETO))
NONE = np.zeros(0)

MODEL = st.sampled_from([kernel.BG_NBD, kernel.MBG_NBD, kernel.PARETO_NBD])
STOPS = st.sampled_from([kernel.BG_NBD, kernel.MBG_NBD])


def size(least: float, most: float) -> st.SearchStrategy[float]:
    """Return numbers of all orders of magnitude."""
    return st.floats(math.log(least), math.log(most)).map(math.exp)


@st.composite
def customer(draw: st.DrawFn, most: int, longest: float) -> tuple[float, float, float]:
    x, age = draw(st.integers(0, most)), draw(st.floats(0, longest))
    return float(x), (draw(st.floats(0, 1)) * age if x else 0.0), age


USUAL = st.tuples(size(0.05, 20), size(0.5, 50), size(0.1, 20), size(0.5, 50))
ANY = st.tuples(*[size(1e-3, 1e3)] * 4)
CUSTOMER = customer(60, 100.0)
ANYONE = customer(1_000_000, 1e5)


def futures(model, params, customers, horizons) -> np.ndarray:
    seen = np.array(customers, np.float64).reshape(-1, 3)
    out = np.empty((len(seen), 1 + len(horizons)))
    kernel.futures(model, np.array(params, np.float64), seen, np.array(horizons, np.float64), out)
    return out


def discounted(model, params, customers, weeks, rate=0.1, period=1.0) -> np.ndarray:
    seen = np.array(customers, np.float64).reshape(-1, 3)
    out = np.empty(len(seen))
    kernel.discounted(model, np.array(params, np.float64), seen, weeks, rate, period, out)
    return out


def log_likelihoods(model, params, customers) -> np.ndarray:
    seen = np.array(customers, np.float64).reshape(-1, 3)
    out = np.empty((len(seen), 5))
    kernel.log_likelihoods(model, np.array(params, np.float64), seen, out)
    return out


def new_customers(model, params, horizons) -> np.ndarray:
    out = np.empty(len(horizons))
    kernel.new_customers(model, np.array(params, np.float64), np.array(horizons, np.float64), out)
    return out


def probabilities(model, params, t, most) -> np.ndarray:
    out = np.empty(most)
    kernel.purchase_probabilities(model, np.array(params, np.float64), t, out)
    return out


@pytest.fixture(scope="module")
def cdnow(data_dir):
    """Return the published summary: x, t_x, T of 2,357 customers, and their mean spend."""
    table = np.genfromtxt(data_dir / "cdnow" / "cdnow_customers_summary_with_transactions.csv", delimiter=",", skip_header=1)
    return np.ascontiguousarray(table[:, 1:4]), table[:, 4].copy()


@pytest.fixture(scope="module")
def bought_later(data_dir):
    """Return on how many days each bought in the 39 weeks after the summary: what was bought on one day is one purchase."""
    lines = (line.split() for line in (data_dir / "cdnow" / "CDNOW_sample.txt").read_text().splitlines())
    days = {(int(line[1]), line[2]) for line in lines if line[2] > "19970930"}
    return np.bincount([one - 1 for one, _ in days], minlength=2357).astype(float)


@pytest.mark.parametrize(
    ("model", "params", "published"),
    [
        (kernel.BG_NBD, BG_FITTED, -9582.43),
        (kernel.PARETO_NBD, (0.55328, 10.5776, 0.60621, 11.6679), -9594.97),
    ],
)
def test_cdnows_likelihood_is_as_published_and_greatest_there(cdnow, model, params, published):
    found = kernel.log_likelihood(model, np.array(params), cdnow[0], NONE)
    assert found[0] == pytest.approx(published, abs=0.005)
    assert np.abs(found[1:]).max() < 0.05


def test_cdnows_hold_out_is_as_published(cdnow, bought_later):
    expected = futures(kernel.BG_NBD, BG, cdnow[0], [39.0])[:, kernel.EXPECTED]
    assert bought_later.sum() == 1882
    assert expected.sum() == pytest.approx(1653.9, abs=0.05)
    assert np.corrcoef(expected, bought_later)[0, 1] == pytest.approx(0.6256, abs=5e-5)
    assert np.abs(expected - bought_later).mean() == pytest.approx(0.786, abs=5e-4)
    assert np.sqrt(((expected - bought_later) ** 2).mean()) == pytest.approx(1.608, abs=5e-4)
    times = np.minimum(cdnow[0][:, kernel.FREQUENCY], 7)
    by_times = [expected[times == x].mean() for x in range(8)]
    np.testing.assert_allclose(by_times, [0.225, 0.523, 1.044, 1.520, 2.164, 2.654, 3.504, 6.157], atol=2e-3)


def test_what_a_new_customer_buys_is_as_published():
    found = new_customers(kernel.BG_NBD, BG_FITTED, [0.1429, 1.0, 3.0, 31.8571, 32.0, 78.0])
    np.testing.assert_allclose(found[:5], [0.0078, 0.0532, 0.1506, 1.0405, 1.0437], atol=5e-5)
    # The sheet that this is from cut its series off: it says 1.8576, and is said to be good to three digits.
    assert found[5] == pytest.approx(1.8576, abs=5e-4)
    assert found[5] == pytest.approx(naive.new_customers(kernel.BG_NBD, BG_FITTED, 78.0), rel=1e-9)


def test_the_published_customer_of_the_bg_nbd():
    (found,) = futures(kernel.BG_NBD, BG, [2, 30.43, 38.86], [39.0])
    assert found.round(4).tolist() == [0.7266, 1.2260]


def test_how_often_a_new_customer_buys_is_as_published():
    assert probabilities(kernel.BG_NBD, BG, 39.0, 1)[0] == pytest.approx(0.5737864, abs=5e-8)
    assert probabilities(kernel.BG_NBD, BG, 2.0, 11)[10] == pytest.approx(1.07869e-07, rel=5e-6)
    # BTYD's manual: 11, 12 and 13 times in 30 weeks.
    np.testing.assert_allclose(probabilities(kernel.BG_NBD, BG, 30.0, 14)[11:], [0.0019995214, 0.0015170236, 0.0011633150], atol=5e-11)


def test_the_published_customer_of_the_pareto_nbd():
    (found,) = futures(kernel.PARETO_NBD, PARETO, [26, 30.86, 31], [52.0])
    assert found[0] == pytest.approx(0.9979, abs=5e-5)
    assert found[1] == pytest.approx(25.46, abs=0.01)


def test_cdnows_spend_is_as_published(cdnow):
    spent = np.column_stack([cdnow[0][:, 0], cdnow[1]])
    out = np.empty(len(spent))
    kernel.mean_spends(SPEND, spent, out)
    np.testing.assert_allclose(out[:10], [24.65, 18.91, 35.17, 35.17, 35.17, 71.46, 18.91, 35.17, 27.28, 35.17], atol=0.01)
    again = np.ascontiguousarray(spent[spent[:, 0] > 0])
    assert kernel.spend_log_likelihood(SPEND, again, NONE)[0] == pytest.approx(-4055.92, abs=0.005)


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


@given(MODEL, USUAL, CUSTOMER, st.floats(0.01, 200))
@settings(deadline=None, max_examples=300)
def test_a_future_is_its_naive_twin(model, params, one, horizon):
    (found,) = futures(model, params, one, [horizon])
    np.testing.assert_allclose(found, naive.futures(model, params, one, horizon), rtol=1e-7, atol=1e-300)


@given(STOPS, USUAL, CUSTOMER, st.floats(0.1, 100))
@settings(deadline=None, max_examples=200)
def test_a_future_is_the_published_form_with_gausss_function(model, params, one, t):
    r, alpha, a, b = params
    x, t_x, age = one
    n = x + model
    if abs(a - 1) < 0.01 or a + b + n < 1.01:
        return  # its poles
    whole = (a + b + n - 1) / (a - 1)
    gauss = hyp2f1(r + x, b + n, a + b + n - 1, t / (alpha + age + t))
    alive = 1 / (1 + (a / (b + n - 1) * ((alpha + age) / (alpha + t_x)) ** (r + x) if n else 0))
    (found,) = futures(model, params, one, [t])
    assert found[0] == pytest.approx(alive, rel=1e-10)
    plain = alive * whole * (1 - ((alpha + age) / (alpha + age + t)) ** (r + x) * gauss)
    assert found[1] == pytest.approx(plain, rel=1e-8, abs=1e-12 * abs(whole))


@given(MODEL, USUAL, st.floats(0.01, 200))
@settings(deadline=None, max_examples=200)
def test_new_customers_are_their_naive_twin(model, params, t):
    assert new_customers(model, params, [t])[0] == pytest.approx(naive.new_customers(model, params, t), rel=1e-8)


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
    assert chances @ np.arange(3000) == pytest.approx(new_customers(model, params, [39.0])[0], rel=1e-9)


@given(MODEL, USUAL, CUSTOMER, st.floats(1, 30), st.floats(0, 0.5), st.floats(0.5, 5))
@settings(deadline=None, max_examples=50)
def test_what_is_discounted_is_its_naive_twin(model, params, one, weeks, rate, period):
    out = np.empty(1)
    kernel.discounted(model, np.array(params), np.array([one]), weeks, rate, period, out)
    assert out[0] == pytest.approx(naive.discounted(model, params, one, weeks, rate, period), rel=1e-6, abs=1e-300)


@pytest.mark.parametrize(("model", "params"), FITTED)
def test_without_a_rate_what_is_discounted_is_what_is_expected(model, params):
    seen, out = np.array([[2, 30.43, 38.86], [0, 0, 5]]), np.empty(2)
    kernel.discounted(model, params, seen, 52.5, 0.0, 1.0, out)
    np.testing.assert_allclose(out, futures(model, params, seen, [52.5])[:, kernel.EXPECTED], rtol=1e-12)
    kernel.discounted(model, params, seen, 0.0, 0.1, 1.0, out)
    assert out.tolist() == [0.0, 0.0]


@given(MODEL, ANY, ANYONE, st.lists(st.one_of(st.just(0.0), st.floats(1e-9, 1e6)), min_size=1, max_size=4))
@settings(deadline=None, max_examples=500)
def test_anyone_has_a_future_that_grows_with_the_horizon(model, params, one, horizons):
    r, alpha, *_ = params
    x, _, age = one
    (found,) = futures(model, params, one, sorted(horizons))
    assert 0 < found[kernel.ALIVE] <= 1
    expected = found[kernel.EXPECTED :]
    assert (expected >= 0).all()
    assert (expected[1:] >= expected[:-1] * (1 - 1e-12)).all()
    assert (expected <= found[kernel.ALIVE] * (r + x) / (alpha + age) * np.sort(horizons) * (1 + 1e-11)).all()
    assert np.isfinite(log_likelihoods(model, params, one)).all()


@given(size(1e-3, 500), size(1e-6, 10), size(1e-3, 1e3), size(1e-3, 1e3))
@settings(deadline=None, max_examples=500)
def test_the_series_and_the_trapezoidal_rule_agree(k, z, a, b):
    if k * z + 9 * math.sqrt(k * z * (1 + z)) + 40 * (1 + z) < 1000:
        assert kernel.by_terms(k, z, a, b) == pytest.approx(kernel.by_trapezoids(k, z, a, b), rel=1e-11)


@pytest.mark.parametrize(("model", "params"), FITTED)
def test_no_time_tells_nothing_and_the_present_is_no_future(model, params):
    found = futures(model, params, [[0, 0, 0], [3, 10, 10]], [0.0, 10.0])
    assert found[:, 1].tolist() == [0.0, 0.0]
    assert found[0, 2] == pytest.approx(new_customers(model, params, [10.0])[0], rel=1e-12)
    if model != kernel.MBG_NBD:
        assert found[0, kernel.ALIVE] == 1
    assert (found[1, kernel.ALIVE] == 1) == (model == kernel.PARETO_NBD)


@pytest.mark.parametrize(("model", "params"), FITTED)
def test_a_row_alone_is_the_row_among_many_bit_for_bit(model, params):
    random = np.random.default_rng(1)
    age = random.uniform(0, 60, 997)
    x = random.poisson(random.gamma(0.5, 4, 997)).astype(float)
    seen = np.column_stack([x, np.where(x > 0, age * random.random(997), 0), age])
    many, likely = futures(model, params, seen, [13.0, 520.0]), log_likelihoods(model, params, seen)
    for row in range(0, 997, 7):
        assert futures(model, params, seen[row], [13.0, 520.0])[0].tolist() == many[row].tolist()
        assert log_likelihoods(model, params, seen[row])[0].tolist() == likely[row].tolist()
    counts = random.integers(1, 5, 997).astype(float)
    np.testing.assert_allclose(kernel.log_likelihood(model, params, seen, counts), counts @ likely, rtol=1e-12)
    plain = naive.log_likelihood(model, params, seen[:50].tolist(), counts[:50].tolist())
    assert kernel.log_likelihood(model, params, seen[:50], counts[:50])[0] == pytest.approx(plain, rel=1e-10)


SPENT = st.tuples(st.integers(1, 1000), size(0.01, 1e5))
SPENDS = st.tuples(*[size(1e-3, 1e3)] * 3)


@given(SPENDS, st.lists(SPENT, min_size=1, max_size=4))
@settings(deadline=None, max_examples=300)
def test_spend_is_its_naive_twin(params, customers):
    spent, out = np.array(customers, np.float64), np.empty((len(customers), 4))
    kernel.spend_log_likelihoods(np.array(params), spent, out)
    rounding = 1e-15 * params[0] * 1e3 * 20
    np.testing.assert_allclose(out[:, 0], [naive.spend_log_likelihoods(params, *one) for one in customers], rtol=1e-9, atol=1e-9 + rounding)
    counts = np.arange(1.0, 1 + len(spent))
    found = kernel.spend_log_likelihood(np.array(params), spent, counts)
    np.testing.assert_allclose(found, counts @ out, rtol=1e-9, atol=1e-9)
    assert found[0] == pytest.approx(naive.spend_log_likelihood(params, customers, counts.tolist()), rel=1e-9, abs=1e-8 + 20 * rounding)
    step = 1e-4
    for place in range(3):
        moved = np.zeros(3)
        moved[place] = step
        more, less = (kernel.spend_log_likelihood(np.exp(np.log(params) + way * moved), spent, NONE)[0] for way in (1, -1))
        unit = np.abs(out).sum() + params[0] * spent[:, 0].sum()
        assert out[:, 1 + place].sum() == pytest.approx((more - less) / (2 * step), rel=1e-5, abs=1e-6 * (1 + unit))


@given(SPENDS, st.integers(0, 1000), size(0.01, 1e5))
@settings(deadline=None)
def test_a_mean_spend_is_its_naive_twin_and_has_no_bound_where_there_is_no_mean(params, x, mean):
    out = np.empty(1)
    kernel.mean_spends(np.array(params), np.array([[x, mean]], np.float64), out)
    p, q, _ = params
    assert out[0] > 0
    if p * x + q <= 1:
        assert out[0] == math.inf
    elif q > 1.001:
        assert out[0] == pytest.approx(naive.mean_spends(params, x, mean), rel=1e-9)


SIMULATED = """
import sys
import numpy as np
from kernels import compile
from tests.kernels.customers.test_counting import on_device
assert compile.SIMULATED
with np.load(sys.argv[1]) as stored:
    np.save(sys.argv[2], on_device(stored["seen"]))
"""
SEEN = np.array([[0, 0, 0], [0, 0, 38.86], [2, 30.43, 38.86], [26, 30.86, 31], [1, 0.14, 78], [400, 1, 300], [5, 20, 20]])
HORIZONS = np.array([39.0, 5000.0])


def on_device(seen: np.ndarray) -> np.ndarray:
    """Return what the CUDA launches say of customers, of each model: P(alive), two expectations, a discounted one, and a mean spend."""
    out = np.empty((3, len(seen), 5))
    for model, params in FITTED:
        futures, worth, spends = np.empty((len(seen), 3)), np.empty(len(seen)), np.empty(len(seen))
        kernel.futures_on_cuda(len(seen), model, params, seen, HORIZONS, futures)
        kernel.discounted_on_cuda(len(seen), model, params, seen, 20.5, 0.1, 1.0, worth)
        kernel.mean_spends_on_cuda(len(seen), SPEND, np.ascontiguousarray(seen[:, [0, 2]]), spends)
        out[model] = np.column_stack([futures, worth, spends])
    return out


def on_cpu(seen: np.ndarray) -> np.ndarray:
    """Return the same, from the CPU."""
    spends = np.empty(len(seen))
    kernel.mean_spends(SPEND, np.ascontiguousarray(seen[:, [0, 2]]), spends)
    found = [(futures(model, params, seen, HORIZONS), discounted(model, params, seen, 20.5)) for model, params in FITTED]
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
def test_a_customer_alone_has_the_bits_that_he_has_among_others_in_any_order(model, params, customers, horizon, random):
    """Whatever is kept for who has bought as often, it is the same whoever asked for it first."""
    order = list(range(len(customers)))
    random.shuffle(order)
    shuffled = [customers[place] for place in order]
    together, values = futures(model, params, shuffled, [horizon]), discounted(model, params, shuffled, horizon)
    for place, one in enumerate(shuffled):
        np.testing.assert_array_equal(futures(model, params, [one], [horizon])[0], together[place])
        assert discounted(model, params, [one], horizon)[0] == values[place]


@given(USUAL, st.integers(0, 60), st.floats(0, 100), size(1e-9, 500))
@settings(deadline=None, max_examples=200)
def test_what_is_kept_for_a_horizon_is_what_the_terms_add_up_to(params, x, age, horizon):
    r, alpha, a, b = params
    k = r + x
    found = futures(kernel.BG_NBD, params, [(float(x), age, age)], [horizon])[0]
    plain = kernel.bought_till_stopped(k, alpha + age, a, b + x, horizon)
    assert found[kernel.EXPECTED] == pytest.approx(found[kernel.ALIVE] * plain, rel=1e-12)
