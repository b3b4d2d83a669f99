"""`train value`: CDNOW's published figures from its transactions, a bundle that says the same again, and bases that say too little."""

import json
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from training.datasets import buyers
from training.errors import BundleError, FitError, TableError
from training.models import MODELS
from training.models.value.model import ValueModel
from training.registry import bundle as bundles
from training.tables.summaries import NAMES, Summaries

PUBLISHED = {
    "bg_nbd": {"r": 0.24259, "alpha": 4.41353, "a": 0.79289, "b": 2.42575, "logLikelihood": -9582.43},
    "pareto_nbd": {"r": 0.55328, "alpha": 10.5776, "s": 0.60621, "beta": 11.6679, "logLikelihood": -9594.97},
    "gamma_gamma": {"p": 6.2488, "q": 3.7446, "v": 15.4477, "logLikelihood": -4055.92},
}


def train(data, out, **options):
    return MODELS["value"].train(data, out, mapping={}, seed=0, progress=lambda what, share: None, **options)


@pytest.fixture(scope="module")
def cdnow(data_dir, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cdnow")
    lines = [line.split() for line in (data_dir / "cdnow" / "CDNOW_sample.txt").read_text().splitlines() if line.strip()]
    rows = {"customer": [line[0] for line in lines], "time": [line[2] for line in lines], "amount": [line[4] for line in lines]}
    pl.DataFrame(rows).write_csv(folder / "cdnow.csv")
    train(folder / "cdnow.csv", folder / "bundle", split="1997-09-30", end="1998-06-30", score=folder / "scored.csv")
    return folder


def test_cdnow_gives_the_published_parameters_and_hold_out(cdnow):
    metrics = json.loads((cdnow / "bundle" / "metrics.json").read_text())
    for model, published in PUBLISHED.items():
        for name, value in published.items():
            tolerance = {"abs": 0.01} if name == "logLikelihood" else {"rel": 2e-3}
            assert metrics["parameters"][model][name] == pytest.approx(value, **tolerance)
    after = metrics["holdout"]
    assert after["actual"] == 1882
    assert after["models"]["bg_nbd"]["correlation"] == pytest.approx(0.6256, abs=1e-3)
    assert after["models"]["bg_nbd"]["mae"] <= 0.786
    assert after["mae"] <= 0.786
    assert abs(after["aggregateError"]) < 0.13
    assert after["naive"]["transactions"] == pytest.approx(2930, abs=1)
    assert after["interval"]["level"] == 0.8
    assert 0.8 <= after["interval"]["within"] <= 0.97
    assert metrics["insufficientData"] == []
    assert metrics["spendDependence"] == {"correlation": pytest.approx(0.114, abs=5e-4), "independent": True}
    assert (cdnow / "bundle" / "card.md").read_text().startswith("# What customers are worth")


def test_every_customer_is_scored_as_the_model_says(cdnow):
    scored = pl.read_csv(cdnow / "scored.csv", schema_overrides={"customerId": pl.String})
    assert scored.height == 2357
    assert scored["asOf"].unique().to_list() == ["1998-06-30"]
    model = ValueModel.load(bundles.load(cdnow / "bundle"))
    row = scored.filter(pl.col("customerId") == "00004").row(0, named=True)
    assert (row["purchases"], row["daysSincePurchase"], row["currentValue"]) == (4, 200.0, pytest.approx(100.5))
    mean_spend = (29.73 + 14.96 + 26.48) / 3
    known = Summaries(*(np.array([number]) for number in (3.0, 345 / 7, 545 / 7, 3.0, mean_spend, 100.5)))
    found = model.outlook(known)
    assert row["probabilityAlive"] == pytest.approx(found.alive[0], rel=1e-12)
    assert row["lifetimeValue"] == pytest.approx(found.value[0], rel=1e-9)
    assert 0 < found.value[0] < found.purchases[0] * found.spend[0]
    assert tuple(row[name] for name in NAMES) == pytest.approx([column[0] for column in known])
    assert ((scored["churnRisk"] + scored["probabilityAlive"] - 1).abs() < 1e-12).all()


def base(tmp_path, rows):
    pl.DataFrame(rows, schema=["customer", "time", "amount"], orient="row").write_csv(tmp_path / "t.csv")
    return tmp_path / "t.csv"


def test_a_base_of_one_time_buyers_gives_no_model(tmp_path):
    data = base(tmp_path, [(f"c{n}", f"2026-01-{n % 28 + 1:02}", 5.0) for n in range(60)])
    with pytest.raises(FitError):
        train(data, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_single_customer_gives_no_model(tmp_path):
    data = base(tmp_path, [("only", "2026-01-05", 5.0), ("only", "2026-01-09", 5.0)])
    with pytest.raises(FitError):
        train(data, tmp_path / "out")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"split": "1.2.2026"}, "--split 1.2.2026: not a date"),
        ({"score": "base.txt"}, "unsupported suffix"),
        ({"end": "2025-01-01"}, "first"),
    ],
)
def test_a_wrong_option_is_said_before_anything_is_written(tmp_path, options, said):
    data = base(tmp_path, [("a", "2026-01-05", 5.0), ("a", "2026-01-09", 5.0)])
    options = {name: Path(value) if name == "score" else value for name, value in options.items()}
    with pytest.raises(TableError, match=said):
        train(data, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def regular(customers, seed, period=(8, 30)):
    """Return purchases of customers who buy at regular intervals, each at their own, and never leave."""
    random, rows = np.random.default_rng(seed), []
    for number in range(customers):
        step, first = random.integers(*period), random.integers(0, 90)
        days = range(int(first), 360, int(step))
        rows += [(f"c{number}", str(date(2025, 1, 1) + timedelta(days=day)), float(random.gamma(4, 5) + 1)) for day in days]
    return rows


@pytest.fixture(scope="module")
def unchurned(tmp_path_factory):
    """Purchases at Poisson times of customers who never leave."""
    folder, random, rows = tmp_path_factory.mktemp("unchurned"), np.random.default_rng(3), []
    for number, rate in enumerate(random.gamma(0.8, 1 / 50, 600)):
        days = np.unique(np.concatenate(([0], np.cumsum(random.exponential(1 / rate, 400)).astype(int)))) + random.integers(0, 100)
        rows += [(f"c{number}", str(date(2025, 1, 1) + timedelta(days=int(day))), 9.0 + number % 7) for day in days[days < 330]]
    return base(folder, rows)


def test_without_visible_churn_no_churn_is_served_and_the_card_has_why(unchurned, tmp_path):
    made = train(unchurned, tmp_path / "out", split="2025-09-30", score=tmp_path / "scored.csv")
    metrics, scored = made.json("metrics.json"), pl.read_csv(tmp_path / "scored.csv")
    assert metrics["served"] == "nbd"
    assert scored["probabilityAlive"].null_count() == scored["churnRisk"].null_count() == scored.height
    assert set(scored["churnRiskReason"]) == {"no-churn-in-model"}
    assert scored["noPurchaseRisk"].null_count() == 0
    (warning,) = [one for one in metrics["warnings"] if "model without churn" in one]
    assert "--model" in warning
    assert warning[1:] in made.read("card.md").decode()


@pytest.mark.parametrize("model", ["bg_nbd", "pareto_nbd"])
def test_a_model_with_churn_can_be_chosen_by_name_and_what_it_rests_on_is_reported(unchurned, tmp_path, model):
    made = train(unchurned, tmp_path / "out", split="2025-09-30", score=tmp_path / "scored.csv", model=model)
    metrics, scored = made.json("metrics.json"), pl.read_csv(tmp_path / "scored.csv")
    assert (metrics["served"], made.json("value.json")["counting"]["model"], metrics["failed"]) == (model, model, {})
    known = scored.filter(pl.col("purchases") > 1)
    assert known["probabilityAlive"].null_count() == 0
    assert known["probabilityAlive"].is_between(0, 1).all()
    assert any(one.startswith(f"{model} is served as you chose, but its churn is not visible") for one in metrics["warnings"])
    prior = [one for one in metrics["warnings"] if "weakly informative prior" in one]
    assert len(prior) == metrics["parameters"][model]["penalised"]
    assert metrics["holdoutMae"] == metrics["holdout"]["models"][model]["mae"]


def test_visible_churn_is_served_with_or_without_a_hold_out(tmp_path):
    buyers.simulate(700, 5).write_csv(tmp_path / "t.csv")
    for options in ({}, {"split": "2025-11-01"}):
        metrics = train(tmp_path / "t.csv", tmp_path / f"out{len(options)}", **options).json("metrics.json")
        assert metrics["served"] != "nbd"
        assert not any("churn" in one for one in metrics["warnings"])


def test_a_rate_that_predicts_better_is_reported_with_its_figures(tmp_path):
    made = train(base(tmp_path, regular(600, 1)), tmp_path / "out", split="2025-09-30").json("metrics.json")
    naive, served = made["holdout"]["naive"], made["holdout"]
    assert naive["mae"] < served["mae"]
    (warning,) = [one for one in made["warnings"] if "own past rate" in one]
    assert f"{naive['mae']:.3f} against {served['mae']:.3f}" in warning


@pytest.mark.parametrize(
    ("name", "said"),
    [("bgnbd", r"did you mean bg_nbd\?"), ("BG/NBD", r"did you mean bg_nbd\?"), ("xgboost", "is one of bg_nbd, mbg_nbd, pareto_nbd, nbd$")],
)
def test_an_unknown_model_is_named_with_those_there_are(tmp_path, name, said):
    with pytest.raises(TableError, match=said):
        train(tmp_path / "none.csv", tmp_path / "out", model=name)


def test_spend_without_a_mean_is_warned_of_and_next_year_is_in_proportion_to_the_past(tmp_path):
    random, table = np.random.default_rng(4), buyers.simulate(800, 6)
    customers = table["customer"].unique(maintain_order=True)
    own = dict(zip(customers, 10 / random.gamma(0.6, 1.0, len(customers)), strict=True))
    amounts = [round(own[name] * random.gamma(1.0), 2) + 0.01 for name in table["customer"]]
    table.with_columns(amount=pl.Series(amounts)).write_csv(tmp_path / "t.csv")
    made = train(tmp_path / "t.csv", tmp_path / "out", score=tmp_path / "scored.csv")
    q = made.json("metrics.json")["parameters"]["gamma_gamma"]["q"]
    assert q < 1
    (warning,) = [one for one in made.json("metrics.json")["warnings"] if "Gamma-Gamma's q" in one]
    assert f"q is {q:.2f}" in warning
    assert "no mean" in warning
    assert f"q is {q:.2f}" in made.read("card.md").decode()
    scored = pl.read_csv(tmp_path / "scored.csv")
    purchases = scored["expectedPurchases"].sum() / scored["purchases"].sum()
    assert scored["lifetimeValue"].sum() / scored["currentValue"].sum() == pytest.approx(purchases, rel=0.5)
    again = scored.filter(pl.col("repeatsWithSpend") > 0)
    assert (again["expectedSpend"] >= again["meanSpend"]).all()
    assert again["expectedSpend"].sum() < 1.3 * again["meanSpend"].sum()
    one_time = scored.filter(pl.col("repeatsWithSpend") == 0)
    assert one_time["expectedSpend"].to_list() == pytest.approx([again["meanSpend"].median()] * one_time.height)


def test_the_order_of_the_purchases_changes_no_parameter(tmp_path):
    table = buyers.simulate(600, 2)
    found = []
    for number, one in enumerate((table, table.sort("amount"))):
        one.write_csv(tmp_path / f"{number}.csv")
        bundle = train(tmp_path / f"{number}.csv", tmp_path / f"out{number}", split="2025-10-01")
        found.append(bundle.json("metrics.json"))
    assert found[0] == found[1]


def test_another_tasks_bundle_is_refused(tmp_path):
    other = bundles.write(tmp_path / "other", task="pricing", files={"a.json": b"{}"}, meta={})
    with pytest.raises(BundleError, match="is for pricing, not for value"):
        ValueModel.load(other)


def test_rows_and_days_that_are_left_out_are_warned_of(tmp_path):
    frame = buyers.simulate(300, 1).with_row_index()
    blank = pl.col("index") % 10
    frame = frame.with_columns(amount=pl.when(blank == 3).then(None).otherwise(pl.col("amount")))
    frame = frame.with_columns(amount=pl.when(blank == 5).then(-pl.col("amount")).otherwise(pl.col("amount"))).drop("index")
    frame.write_csv(tmp_path / "rows.csv")
    without = frame["amount"].null_count()
    metrics = train(tmp_path / "rows.csv", tmp_path / "out").json("metrics.json")
    days = metrics["leftOut"]["days of returns alone"]
    assert f"{without:,} of {frame.height:,} rows are without an amount and were left out" in metrics["warnings"]
    assert f"{days:,} days on which a customer only returned goods were left out" in metrics["warnings"]


def test_the_card_states_how_far_the_totals_of_the_hold_out_were_off(cdnow, tmp_path):
    bundle = bundles.load(cdnow / "bundle")
    after = bundle.json("metrics.json")["holdout"]
    assert f"of purchases by {after['transactions'] / after['actual'] - 1:+.1%}" in bundle.read("card.md").decode()
    buyers.simulate(300, 1).write_csv(tmp_path / "rows.csv")
    assert "was not measured" in train(tmp_path / "rows.csv", tmp_path / "out").read("card.md").decode()
