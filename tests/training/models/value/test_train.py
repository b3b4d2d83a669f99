"""`train value`: CDNOW's published figures from its transactions, a bundle that says the same again, and bases that say too little."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

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


def test_another_tasks_bundle_is_refused(tmp_path):
    other = bundles.write(tmp_path / "other", task="pricing", files={"a.json": b"{}"}, meta={})
    with pytest.raises(BundleError, match="is for pricing, not for value"):
        ValueModel.load(other)
