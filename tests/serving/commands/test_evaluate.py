import json
from xml.etree import ElementTree

import polars as pl
import pytest

from training.evaluation import metrics
from training.models import MODELS


def test_the_figures_of_a_model_are_those_of_its_answers(answer, bundle, shop_folder, tmp_path):
    sessions = shop_folder / "sessions.parquet"
    code, data = answer("evaluate", bundle.path, "--data", sessions, "--out", tmp_path / "out")
    assert answer("batch", "purchase", "--model", bundle.path, "--input", sessions, "--output", tmp_path / "scores.parquet")[0] == 0
    y = pl.read_parquet(sessions)["purchased"].to_numpy().astype(float)
    p = pl.read_parquet(tmp_path / "scores.parquet")["purchaseProbability"].to_numpy()
    assert (code, data["rows"], data["data"]) == (0, len(y), "sessions.parquet")
    assert data["figures"] == metrics.figures(y, p)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["calibration.svg", "figures.json", "lift.svg"]
    assert json.loads((tmp_path / "out" / "figures.json").read_text())["figures"] == data["figures"]
    assert ElementTree.parse(tmp_path / "out" / "lift.svg").getroot().tag.endswith("svg")


def test_a_model_is_warned_of_that_has_seen_the_rows(asked, bundle, shop_folder, tmp_path):
    assert (
        f"warning: {bundle.version} was learned from sessions.parquet"
        in asked("evaluate", bundle.path, "--data", shop_folder / "sessions.parquet")[1]
    )
    pl.read_parquet(shop_folder / "sessions.parquet").head(500).write_csv(tmp_path / "other.csv")
    assert "warning" not in asked("evaluate", bundle.path, "--data", tmp_path / "other.csv")[1]


@pytest.mark.parametrize("task", ["churn", "journey"])
def test_every_probability_is_evaluated_by_the_five_figures(answer, bundle_of, customers_csv, journeys_folder, task):
    data = {"churn": customers_csv, "journey": journeys_folder}[task]
    code, found = answer("evaluate", bundle_of(task).path, "--data", data)
    assert code == 0
    assert set(found["figures"]) == {"auc", "averagePrecision", "logLoss", "brier", "ece"}
    assert found["figures"]["auc"] > 0.7


def test_a_session_is_judged_as_of_its_first_events(answer, bundle_of, journeys_folder):
    early = answer("evaluate", bundle_of("journey").path, "--data", journeys_folder, "--first", 2)[1]
    late = answer("evaluate", bundle_of("journey").path, "--data", journeys_folder)[1]
    assert early["rows"] == late["rows"]
    assert early["figures"]["auc"] < late["figures"]["auc"]


def test_a_value_model_is_judged_by_what_customers_buy_later(asked, answer, bundle_of, purchases_csv, tmp_path):
    given = ("evaluate", bundle_of("value").path, "--data", purchases_csv)
    code, _, err = asked(*given)
    assert (code, "give the day it predicts from with --split DAY" in err) == (1, True)
    days = pl.read_csv(purchases_csv)["time"].sort()
    split = days[int(len(days) * 0.8)]
    code, data = answer(*given, "--split", split, "--out", tmp_path / "out")
    assert code == 0
    assert {"mae", "spendDeviance", "gini", "aggregateError"} <= set(data["figures"])
    before = pl.read_csv(purchases_csv).filter(pl.col("time") <= split)
    assert data["rows"] == before["customer"].n_unique()


def test_emotions_are_evaluated_by_the_figures_of_their_training(answer, bundle_of, tmp_path):
    assert answer("train", "emotion", "--example", tmp_path / "texts.csv")[0] == 0
    code, data = answer("evaluate", bundle_of("emotion").path, "--data", tmp_path / "texts.csv", "--out", tmp_path / "out")
    assert code == 0
    assert {"macroF1", "microF1", "ece"} <= set(data["figures"])
    assert data["figures"]["microF1"] > 0.2


def test_labels_are_those_of_the_model_whatever_their_names(answer, bundle_of, customers_csv, tmp_path):
    plain = answer("evaluate", bundle_of("churn").path, "--data", customers_csv)[1]["figures"]
    pl.read_csv(customers_csv, infer_schema=False).rename({"Churn": "Gone"}).write_csv(tmp_path / "in.csv")
    assert answer("evaluate", bundle_of("churn").path, "--data", tmp_path / "in.csv", "--map", "label=Gone")[1]["figures"] == plain


@pytest.mark.parametrize(
    ("task", "words", "said"),
    [
        ("pricing", (), "a model of pricing is not evaluated on a table: a row of sales has no label"),
        ("purchase", ("--split", "2026-01-01"), "--split does not apply to purchase"),
        ("purchase", ("--first", "3"), "--first does not apply to purchase"),
        ("purchase", ("--map", "regoin=x"), "there is no field 'regoin' (did you mean 'region'?)"),
    ],
)
def test_what_does_not_apply_is_wrong_usage(asked, bundle_of, shop_folder, task, words, said):
    code, _, err = asked("evaluate", bundle_of(task).path, "--data", shop_folder, *words)
    assert code == 2
    assert said in err


def test_a_table_without_labels_is_refused_by_name(asked, bundle, shop_folder, tmp_path):
    pl.read_parquet(shop_folder / "sessions.parquet").drop("purchased").write_csv(tmp_path / "in.csv")
    code, _, err = asked("evaluate", bundle.path, "--data", tmp_path / "in.csv")
    assert (code, "no column is the label" in err, "in.csv" in err) == (1, True, True)


def test_every_task_is_evaluated_or_has_the_reason_why_not():
    assert {name for name, model in MODELS.items() if not model.evaluation} == {"pricing"}
    assert all(model.evaluation or model.no_evaluation for model in MODELS.values())
