"""Trees with a zero-inflated log-normal head: the published losses and means, and a hold-out that chooses."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from training.datasets import buyers
from training.errors import FitError
from training.models import MODELS
from training.models.value import holdout, ziln
from training.models.value.model import ValueModel
from training.registry import bundle as bundles
from training.tables.summaries import Summaries

LOGITS = np.array([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]])


def silent(what, share):
    pass


def test_losses_and_means_are_those_of_lifetime_value():
    np.testing.assert_allclose(ziln.loss(LOGITS, np.array([0.0, 1.5])), [0.7443967, 1.8783726], atol=5e-8)
    spread = np.logaddexp(0, LOGITS[:, 2])
    np.testing.assert_allclose(ziln.mean(LOGITS[:, 0], LOGITS[:, 1], spread), [0.9236379, 1.6907553], rtol=1e-6)


@given(st.floats(-5, 5), st.floats(-3, 5), st.floats(-3, 3), st.floats(0.01, 1e4))
def test_a_loss_is_minus_the_log_of_chance_times_density(chance, location, spread, spent):
    logits, scale, some = np.array([[chance, location, spread]]), np.log1p(np.exp(spread)), 1 / (1 + np.exp(-chance))
    density = stats.lognorm.logpdf(spent, scale, scale=np.exp(location))
    assert ziln.loss(logits, np.array([spent]))[0] == pytest.approx(-np.log(some) - density, rel=1e-9, abs=1e-9)
    assert ziln.loss(logits, np.zeros(1))[0] == pytest.approx(-np.log1p(-some), rel=1e-9)


@given(st.lists(st.tuples(st.floats(0.01, 100), st.floats(0, 100)), min_size=1, max_size=20))
def test_a_deviance_is_scipys_and_least_at_the_truth(rows):
    predicted, actual = np.array(rows).T
    plain = np.mean([2 * ((a * (np.log(a) - np.log(p)) if a else 0) - (a - p)) for p, a in rows])
    assert holdout.deviance(predicted, actual) == pytest.approx(plain, abs=1e-9)
    assert holdout.deviance(np.maximum(actual, 1e-9), actual) == pytest.approx(0, abs=1e-7)


def known(customers, seed=0):
    """Return customers who differ in how often they have bought, and what they spend after: much where they bought often, or nothing."""
    random = np.random.default_rng(seed)
    frequency = random.integers(0, 10, customers).astype(float)
    age = random.uniform(20, 60, customers)
    summaries = Summaries(frequency, np.where(frequency > 0, age / 2, 0), age, frequency, np.full(customers, 10.0), 10 * (1 + frequency))
    some = random.random(customers) < 0.1 + 0.08 * frequency
    return summaries, np.where(some, np.exp(1 + 0.3 * frequency + random.normal(0, 0.5, customers)), 0.0)


def test_what_is_learned_is_near_the_truth():
    learned = ziln.fit(*known(6_000), 0)
    assert learned.spread == pytest.approx(0.5, abs=0.05)
    summaries, _ = known(2_000, 1)
    from kernels.trees.forest import Forest

    found = ziln.Ziln(Forest.from_booster(learned.chance), Forest.from_booster(learned.amount), learned.spread, 90.0).expected_spend(
        summaries
    )
    truth = (0.1 + 0.08 * summaries.frequency) * np.exp(1 + 0.3 * summaries.frequency + 0.125)
    assert np.corrcoef(found, truth)[0, 1] > 0.97
    assert found.sum() == pytest.approx(truth.sum(), rel=0.1)


def test_too_few_who_spent_are_counted():
    summaries, spent = known(300)
    spent[40:] = 0
    with pytest.raises(FitError, match="of 300 customers spent something; at least 50 of 200 are needed"):
        ziln.fit(summaries, spent, 0)


@pytest.fixture(scope="module")
def deserted(tmp_path_factory):
    """A base whose best customers have gone over to somebody else in summer: who buys often will, the closed forms say, buy often."""
    folder = tmp_path_factory.mktemp("deserted")
    table = buyers.simulate(2_000, 5)
    earlier = pl.col("time") < "2025-07-01"
    often = table.filter(earlier).group_by("customer").len().filter(pl.col("len") >= 4)["customer"]
    table.filter(earlier | ~pl.col("customer").is_in(often.implode())).write_csv(folder / "in.csv")
    return MODELS["value"].train(
        folder / "in.csv", folder / "bundle", mapping={}, seed=0, progress=silent, split="2025-09-29", end="2025-12-28"
    )


def test_the_hold_out_chooses_and_what_it_chose_is_served(deserted):
    spend = deserted.json("metrics.json")["holdout"]["spend"]
    assert spend["served"] == "trees"
    assert spend["models"]["trees"]["deviance"] < spend["models"]["closed"]["deviance"]
    assert abs(spend["models"]["trees"]["aggregateError"]) < abs(spend["models"]["closed"]["aggregateError"])
    model = ValueModel.load(bundles.load(deserted.path))
    summaries, _ = known(50)
    closed = ValueModel(deserted.json("value.json"), deserted.manifest, "").outlook(summaries, 90, 0.0)
    served = model.outlook(summaries, 90, 0.0)
    assert not np.allclose(served.value, closed.value)
    np.testing.assert_allclose(served.value, model._trees.expected_spend(summaries), rtol=1e-9)
    np.testing.assert_allclose(served.purchases, closed.purchases)
    np.testing.assert_array_equal(model.outlook(summaries.of([7]), 90, 0.0).value, served.value[[7]])


def test_without_a_window_before_the_hold_out_the_closed_forms_are_served_and_the_reason_is_said(tmp_path):
    buyers.simulate(800, 5).write_csv(tmp_path / "in.csv")
    made = MODELS["value"].train(tmp_path / "in.csv", tmp_path / "out", mapping={}, seed=0, progress=silent, split="2025-07-01")
    spend = made.json("metrics.json")["holdout"]["spend"]
    assert (spend["served"], "there is no window" in spend["noTreesReason"]) == ("closed", True)
    assert made.json("value.json")["trees"] is None
    predicted = made.json("metrics.json")["holdout"]["noPurchase"]
    assert predicted["auc"] > 0.6
    assert predicted["predicted"] == pytest.approx(predicted["share"], abs=0.08)
