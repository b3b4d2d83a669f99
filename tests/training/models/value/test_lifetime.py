"""The fits of customer value: CDNOW's published parameters, what was put into simulated customers, and data that determine nothing."""

import json

import numpy as np
import pytest

from kernels.customers import counting as kernel
from training.errors import FitError
from training.models.value import lifetime


@pytest.fixture(scope="module")
def cdnow(data_dir):
    """Return the published summary: x, t_x, T and mean spend of 2,357 customers."""
    return np.genfromtxt(data_dir / "cdnow" / "cdnow_customers_summary_with_transactions.csv", delimiter=",", skip_header=1)[:, 1:].T


@pytest.mark.parametrize(
    ("model", "published", "digits", "log_likelihood"),
    [
        ("bg_nbd", {"r": 0.24259, "alpha": 4.41353, "a": 0.79289, "b": 2.42575}, 1e-5, -9582.43),
        ("mbg_nbd", {"r": 0.525, "alpha": 6.183, "a": 0.891, "b": 1.614}, 5e-4, None),
        ("pareto_nbd", {"r": 0.55328, "alpha": 10.5776, "s": 0.60621, "beta": 11.6679}, 5e-5, -9594.97),
    ],
)
def test_cdnows_parameters_are_as_published(cdnow, model, published, digits, log_likelihood):
    fit = lifetime.fit(model, *cdnow[:3])
    assert fit.parameters == pytest.approx(published, abs=digits)
    assert fit.converged
    assert fit.customers == 2357
    assert log_likelihood is None or fit.log_likelihood == pytest.approx(log_likelihood, abs=0.005)
    # The optimum is flat there, and the errors are those of its curve.
    number, seen = lifetime.MODELS[model].number, np.ascontiguousarray(cdnow[:3].T)
    at = kernel.log_likelihood(number, fit.values, seen, np.zeros(0))
    assert at[0] == pytest.approx(fit.log_likelihood, rel=1e-12)
    assert np.abs(at[1:]).max() < 1e-3
    assert fit.errors == pytest.approx(fit.values * np.sqrt(np.diag(fit.covariance)))


def test_cdnows_spend_is_as_published_and_independent_enough(cdnow):
    x, spend = cdnow[0], cdnow[3]
    fit = lifetime.fit_spend(x[x > 0], spend[x > 0])
    assert fit.customers == 946
    assert fit.parameters == pytest.approx({"p": 6.2488, "q": 3.7446, "v": 15.4477}, abs=1e-4)
    assert fit.log_likelihood == pytest.approx(-4055.92, abs=0.005)
    p, q, v = fit.values
    assert p * v / (q - 1) == pytest.approx(35.17, abs=0.005)
    assert lifetime.dependence(x, spend) == pytest.approx(0.114, abs=5e-4)
    assert lifetime.dependence(x, spend) < lifetime.MAX_CORRELATION


def simulated(model, values, number, seed):
    """Return x, t_x and T of customers who buy and stop as a model says."""
    random = np.random.default_rng(seed)
    r, alpha, third, fourth = values
    age = random.uniform(20, 80, number)
    rows = np.zeros((number, 3))
    rows[:, 2] = age
    for row, rate in enumerate(random.gamma(r, 1 / alpha, number)):
        stops = random.beta(third, fourth) if model != "pareto_nbd" else 0.0
        end = random.exponential(1 / random.gamma(third, 1 / fourth)) if model == "pareto_nbd" else np.inf
        lives, time = model != "mbg_nbd" or random.random() > stops, 0.0
        while lives:
            time += random.exponential(1 / max(rate, 1e-12))
            if time > min(age[row], end):
                break
            rows[row, :2] = rows[row, 0] + 1, time
            lives = random.random() > stops
    return rows.T


@pytest.mark.parametrize(
    ("model", "values"),
    [("bg_nbd", (0.8, 6.0, 0.8, 2.5)), ("mbg_nbd", (0.8, 6.0, 0.9, 2.5)), ("pareto_nbd", (0.8, 6.0, 0.9, 12.0))],
)
def test_a_fit_finds_what_was_simulated_whatever_the_unit_of_time(model, values):
    x, t_x, age = simulated(model, values, 4000, 7)
    fit = lifetime.fit(model, x, t_x, age)
    off = (np.log(fit.values) - np.log(values)) / np.sqrt(np.diag(fit.covariance))
    assert np.abs(off).max() < 3.5
    in_days = lifetime.fit(model, x, t_x * 7, age * 7)
    units = np.array([7.0 if name in lifetime.TIMES else 1.0 for name in fit.names])
    np.testing.assert_allclose(in_days.values, fit.values * units, rtol=1e-5)
    assert in_days.log_likelihood == pytest.approx(fit.log_likelihood - np.log(7) * x.sum(), abs=1e-6)
    order = np.random.default_rng(0).permutation(len(x))
    np.testing.assert_allclose(lifetime.fit(model, x[order], t_x[order], age[order]).values, fit.values, rtol=1e-8)


def spends(number, seed):
    """Return x and mean spend by Gamma-Gamma, p 6, q 4, v 15."""
    random = np.random.default_rng(seed)
    x = 1.0 + random.poisson(3, number)
    return x, random.gamma(6 * x) / (x * random.gamma(4, 1 / 15, number))


def test_a_fit_of_spend_finds_what_was_simulated_whatever_the_currency():
    x, spend = spends(4000, 3)
    fit = lifetime.fit_spend(x, spend)
    assert np.abs((np.log(fit.values) - np.log([6, 4, 15])) / np.sqrt(np.diag(fit.covariance))).max() < 3.5
    in_cents = lifetime.fit_spend(x, spend * 100)
    np.testing.assert_allclose(in_cents.values, fit.values * np.array([1, 1, 100]), rtol=1e-5)
    assert in_cents.log_likelihood == pytest.approx(fit.log_likelihood - np.log(100) * 4000, abs=1e-6)


def test_draws_have_the_covariance_of_the_logs_and_a_fit_is_json():
    fit = lifetime.fit_spend(*spends(500, 1))
    draws = np.log(fit.draws(20_000, 1))
    np.testing.assert_allclose(np.cov(draws.T), fit.covariance, rtol=0.05)
    np.testing.assert_allclose(draws.mean(axis=0), np.log(fit.values), atol=0.02)
    np.testing.assert_array_equal(fit.draws(5, 2), fit.draws(5, 2))
    content = json.loads(json.dumps(fit.content()))
    assert content["parameters"] == fit.parameters
    assert content["logLikelihood"] == fit.log_likelihood


def test_those_who_are_alike_are_counted():
    rows, counts = lifetime.collapsed(np.array([[1.0, 2.0], [0.0, 5.0], [1.0, 2.0], [1.0, 1.0], [0.0, 5.0], [1.0, 2.0]]))
    assert rows.tolist() == [[0, 5], [1, 1], [1, 2]]
    assert counts.tolist() == [2, 1, 3]


def test_who_buys_more_often_and_dearer_is_seen():
    x = np.arange(100) % 5
    assert lifetime.dependence(x, 10.0 + 5 * x) == pytest.approx(1)
    assert lifetime.dependence(x, 10.0 + 5 * x) > lifetime.MAX_CORRELATION
    assert lifetime.dependence(x, np.full(100, 10.0)) == 0
    assert lifetime.dependence([0, 3], [0.0, 9.0]) == 0


MANY = np.arange(1.0, 41)


@pytest.mark.parametrize("model", lifetime.MODELS)
@pytest.mark.parametrize(
    ("x", "t_x", "age", "says"),
    [
        (np.zeros(40), np.zeros(40), MANY, "none of 40 customers has bought again"),
        ((MANY > 35) * 1.0, (MANY > 35) * 1.0, MANY, "5 of 40 customers"),
        ([3.0], [5.0], [9.0], "1 customers"),
        ([], [], [], "0 customers"),
        (np.ones(40), MANY + 1, MANY, "row 1, t_x: must be from 0 to T"),
        (np.ones(40) * 1.5, MANY / 2, MANY, "row 1, x: must be a whole number"),
        (-np.ones(40), MANY / 2, MANY, "row 1, x: must be a whole number"),
        (np.where(MANY == 3, 0, 1), MANY / 2, MANY, "row 3, t_x: must be 0 where x is 0"),
        (np.ones(40), np.where(MANY == 4, np.nan, 0), MANY, "row 4, t_x: must be a finite number"),
        (np.ones(39), np.ones(40), MANY, "differ in shape"),
    ],
)
def test_what_cannot_be_fitted_is_refused_with_what_to_do(model, x, t_x, age, says):
    with pytest.raises(FitError, match=says) as refused:
        lifetime.fit(model, x, t_x, age)
    assert refused.value.code == "fit"


@pytest.mark.parametrize("model", lifetime.MODELS)
def test_customers_without_any_difference_determine_nothing(model):
    with pytest.raises(FitError, match="do not determine"):
        lifetime.fit(model, np.full(200, 4.0), np.full(200, 40.0), np.full(200, 50.0))


@pytest.mark.parametrize("model", lifetime.MODELS)
def test_a_prior_gives_an_optimum_where_the_likelihood_has_none(model):
    columns = np.full(200, 4.0), np.full(200, 40.0), np.full(200, 50.0)
    fit = lifetime.fit_penalised(model, *columns)
    assert (fit.penalised, lifetime.fit_penalised(model, *columns).content()["penalised"]) == (True, True)
    assert np.isfinite(fit.errors).all()
    counting = lifetime.MODELS[model]
    parameters, seen = counting.kernel_parameters(fit.values), np.column_stack(columns)
    assert fit.log_likelihood == pytest.approx(kernel.log_likelihood(counting.number, parameters, seen, np.zeros(0))[0], rel=1e-9)
    in_days = lifetime.fit_penalised(model, columns[0], columns[1] * 7, columns[2] * 7)
    units = np.array([7.0 if name in lifetime.TIMES else 1.0 for name in fit.names])
    np.testing.assert_allclose(in_days.values, fit.values * units, rtol=1e-5)


@pytest.mark.parametrize(("model", "values"), [("bg_nbd", (0.8, 6.0, 0.8, 2.5)), ("pareto_nbd", (0.8, 6.0, 0.9, 12.0))])
def test_with_many_customers_the_prior_vanishes(model, values):
    columns = simulated(model, values, 4000, 7)
    plain, fit = lifetime.fit(model, *columns), lifetime.fit_penalised(model, *columns)
    assert np.abs((np.log(fit.values) - np.log(plain.values)) / np.sqrt(np.diag(plain.covariance))).max() < 0.3
    assert plain.log_likelihood - 0.1 < fit.log_likelihood < plain.log_likelihood


def test_the_prior_is_uniform_in_the_share_of_a_parameter_and_its_derivatives_are_exact():
    logs = np.array([-3.0, 0.0, 0.7, 5.0])
    found = lifetime.log_prior(logs)
    share = 1 / (1 + np.exp(-logs))
    assert found[0] == pytest.approx(np.log(share * (1 - share)).sum())
    step = np.eye(4) * 1e-6
    assert found[1:] == pytest.approx(
        [(lifetime.log_prior(logs + one)[0] - lifetime.log_prior(logs - one)[0]) / 2e-6 for one in step], abs=1e-8
    )


@pytest.mark.parametrize(("q", "none"), [(0.6, True), (0.9, True), (4.0, False)])
def test_a_tail_without_a_mean_is_found(q, none):
    random = np.random.default_rng(2)
    x = 1.0 + random.poisson(2, 3000)
    fit = lifetime.fit_spend(x, random.gamma(2 * x) / (x * random.gamma(q, 1 / 15, 3000)))
    assert lifetime.has_no_mean(fit) == none


@pytest.mark.parametrize(
    ("x", "spend", "says"),
    [
        ([], [], "0 repeat buyers"),
        ([2.0] * 4, [1.0] * 4, "4 repeat buyers"),
        (MANY - 1, MANY, "row 1, x: must be 1 or more"),
        (MANY, MANY - 2, "row 1, mean_spend: must be above 0"),
        (np.ones(40), MANY, "no customer has two repeat purchases"),
        (MANY, np.full(40, 9.0), "do not determine gamma_gamma"),
    ],
)
def test_spend_that_cannot_be_fitted_is_refused_with_what_to_do(x, spend, says):
    with pytest.raises(FitError, match=says):
        lifetime.fit_spend(x, spend)
