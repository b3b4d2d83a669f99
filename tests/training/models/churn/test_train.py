"""A churn bundle is trained from a table, says what it is worth, and answers the same for a row alone and among many."""

import json
import re

import numpy as np
import polars as pl
import pytest
import xgboost as xgb
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tests import customers
from training.errors import BundleError, CellError, TableError
from training.evaluation import metrics as evaluate
from training.models import MODELS
from training.models.churn import train as churn_training
from training.models.churn.model import CALIBRATION, MODEL, ChurnModel
from training.models.shared.folds import grouped, stratified
from training.registry import bundle as bundles
from training.tables import customers as customer_table
from training.tables import frames
from training.tables.customers import CustomerFeature

ROWS = 400


def silent(what, share):
    """Say nothing."""


def train(data, out, mapping=None, seed=0, **options):
    return MODELS["churn"].train(data, out, mapping=mapping or {}, seed=seed, progress=silent, **options)


def written(frame, path):
    frame.write_csv(path)
    return path


@pytest.fixture(scope="module")
def table():
    return customers.table(ROWS, 3)


@pytest.fixture(scope="module")
def small(table, tmp_path_factory):
    folder = tmp_path_factory.mktemp("churn")
    return train(written(table, folder / "in.csv"), folder / "bundle", seed=1)


@pytest.fixture(scope="module")
def model(small):
    return ChurnModel.load(small)


def test_every_column_but_the_customer_and_the_label_is_a_feature(small):
    features = {one["name"]: one for one in small.manifest["features"]}
    assert list(features) == ["SeniorCitizen", "tenure", "Contract", "InternetService", "MonthlyCharges", "TotalCharges"]
    assert {name: one["kind"] for name, one in features.items() if one["kind"] == "category"} == {
        "Contract": "category",
        "InternetService": "category",
    }
    assert sorted(features["Contract"]["values"]) == sorted(customers.CONTRACTS)
    assert features["TotalCharges"]["missingShare"] > 0
    assert small.manifest["label"] == {"column": "Churn", "positive": "Yes", "negative": "No"}


def test_values_are_in_the_order_of_how_often_they_leave(small, table):
    rate = {value: (table.filter(pl.col("Contract") == value)["Churn"] == "Yes").mean() for value in customers.CONTRACTS}
    (contract,) = (one for one in small.manifest["features"] if one["name"] == "Contract")
    assert contract["values"] == sorted(rate, key=lambda value: rate[value])


def test_the_loaded_model_says_what_xgboost_and_the_line_say(small, model, table):
    booster = xgb.Booster(model_file=bytearray(small.read(MODEL)))
    line = small.json(CALIBRATION)
    X = model.table_matrix(table)
    margin = line["slope"] * booster.inplace_predict(X, predict_type="margin").astype(np.float64) + line["intercept"]
    scores = model.score(X)
    assert np.array_equal(scores.margin, margin)
    assert np.allclose(scores.probability, 1 / (1 + np.exp(-margin)), rtol=0, atol=1e-15)


def test_a_row_alone_scores_the_same_bits_as_among_many(model, table):
    X = model.table_matrix(table)
    X[::3, 1] = np.nan
    among = model.score(X).probability
    assert [float(model.score(X[row : row + 1]).probability[0]) for row in range(len(X))] == among.tolist()
    assert model.score(X[:0]).probability.size == 0


def test_factors_and_bias_add_up_to_the_margin_and_are_xgboosts(small, model, table):
    X = model.table_matrix(table)
    shares = model.shap(X)
    assert shares.sum(axis=1) + model.bias == pytest.approx(model.score(X).margin, abs=1e-5)
    booster = xgb.Booster(model_file=bytearray(small.read(MODEL)))
    theirs = booster.predict(xgb.DMatrix(X), pred_contribs=True)[:, :-1] * small.json(CALIBRATION)["slope"]
    assert shares == pytest.approx(theirs, abs=1e-4)


def test_the_metrics_are_those_of_rows_that_no_part_of_the_model_has_seen(small, table):
    rows = churn_training.ordered(customer_table.read(table))
    stated = np.empty(ROWS)
    for learn, judge in stratified(rows.y, churn_training.FOLDS, 1):
        stated[judge] = churn_training.fit_once(rows, learn, 1).stated(rows.X[judge])
    said = small.json("metrics.json")
    assert said["auc"] == pytest.approx(roc_auc_score(rows.y, stated), abs=1e-12)
    assert said["averagePrecision"] == pytest.approx(average_precision_score(rows.y, stated), abs=1e-12)
    assert said["brier"] == pytest.approx(np.mean((stated - rows.y) ** 2), abs=1e-12)
    assert said["ece"] == pytest.approx(evaluate.ece(rows.y, stated), abs=1e-12)
    assert (said["rows"], said["folds"], said["seed"], said["positive"], said["warnings"]) == (ROWS, 10, 1, "Yes", [])
    assert said["baseRate"] == rows.y.mean()
    assert {one["name"] for one in said["features"]} == {feature.name for feature in rows.features}


def test_the_calibration_is_fitted_on_folds_of_the_rows_it_may_see(table):
    rows = customer_table.read(table)
    learn = np.arange(0, ROWS, 2)
    other = customer_table.read(table.with_columns(Churn=pl.when(pl.int_range(pl.len()) % 2 == 1).then(pl.lit("No")).otherwise("Churn")))
    one, two = (churn_training.fit_once(each, learn, 0) for each in (rows, other))
    assert one.platt == two.platt
    assert np.array_equal(one.stated(rows.X), two.stated(rows.X))


def test_the_same_seed_gives_the_same_files(small, table, tmp_path):
    again = train(written(table, tmp_path / "in.csv"), tmp_path / "bundle", seed=1)
    assert again.manifest["files"] == small.manifest["files"]


def test_the_order_of_the_rows_changes_no_file(small, table, tmp_path):
    again = train(written(table.sort("Churn", "tenure"), tmp_path / "in.csv"), tmp_path / "bundle", seed=1)
    files = [{name: file for name, file in one.manifest["files"].items() if name != "card.md"} for one in (again, small)]
    assert files[0] == files[1]  # the card has the hash of the table


def test_an_order_by_content_keeps_every_row_with_its_label_and_customer(table):
    twice = table.vstack(table[:50]).with_columns(customerID=pl.col("customerID").str.replace("^0001-CUST$", ""))
    rows = churn_training.ordered(customer_table.read(twice))
    other = churn_training.ordered(customer_table.read(twice.sample(fraction=1.0, shuffle=True, seed=4)))
    assert np.array_equal(rows.X, other.X, equal_nan=True)
    assert (rows.y.tolist(), rows.customer.tolist()) == (other.y.tolist(), other.customer.tolist())
    read = customer_table.read(twice)
    keys = [sorted(map(str, np.column_stack([one.X, one.y]).tolist())) for one in (rows, read)]
    assert keys[0] == keys[1]
    assert np.bincount(np.bincount(rows.customer)).tolist() == np.bincount(np.bincount(read.customer)).tolist()


def test_text_and_typed_columns_are_the_same_table(table):
    typed = table.with_columns(
        pl.col("SeniorCitizen", "tenure").cast(pl.Int64),
        pl.col("MonthlyCharges").cast(pl.Float64),
        pl.col("TotalCharges").str.strip_chars().replace("", None).cast(pl.Float64),
        pl.col("Churn") == "Yes",
    )
    one, two = customer_table.read(table), customer_table.read(typed)
    assert np.array_equal(one.X, two.X, equal_nan=True)
    assert np.array_equal(one.y, two.y)
    assert one.features == two.features
    assert (two.positive, two.negative) == ("True", "False")


@pytest.mark.parametrize(
    ("labels", "asked", "positive"),
    [
        (("Yes", "No"), None, "Yes"),
        (("NO", "YES"), None, "YES"),
        (("True", "False"), None, "True"),
        (("1", "0"), None, "1"),
        ((1, 0), None, "1"),
        (("left", "stays"), "left", "left"),
        (("1", "2"), "2", "2"),
        (("Yes", "No"), "no", "No"),
    ],
)
def test_the_positive_label_is_found_or_named(labels, asked, positive):
    frame = pl.DataFrame({"x": [1.0, 2.0, 3.0], "label": [labels[0], labels[1], labels[0]]})
    rows = customer_table.read(frame, positive=asked)
    assert rows.positive == positive
    assert rows.y.tolist() == [float(str(one) == positive) for one in frame["label"]]


@pytest.mark.parametrize(
    ("labels", "asked", "said"),
    [
        (["left", "stays"], None, "holds left, stays: which one is the label of customers who left? Name it with --positive"),
        (["1", "2"], None, "holds 1, 2"),
        (["Yes", "Maybe"], None, "holds Maybe, Yes"),
        (["left", "stays"], "gone", "column label holds left, stays: none of them is gone"),
        (["Yes", "No", "New"], None, "holds New, No, Yes: a label has two values"),
        (["Yes", "Yes"], None, "holds Yes"),
    ],
)
def test_labels_that_do_not_say_who_left_are_named(labels, asked, said):
    with pytest.raises(TableError, match=re.escape(said)):
        customer_table.read(pl.DataFrame({"x": range(len(labels)), "label": labels}), positive=asked)


def test_a_blank_label_is_named_with_its_line(table, tmp_path):
    wrong = table.with_columns(Churn=pl.when(pl.int_range(pl.len()) == 4).then(pl.lit(" ")).otherwise("Churn"))
    with pytest.raises(TableError, match=r"in\.csv, line 6, column Churn: ' ' is a blank label"):
        train(written(wrong, tmp_path / "in.csv"), tmp_path / "bundle")


def test_a_slip_among_numbers_is_named_and_few_texts_are_categories():
    numbers = [str(number) for number in range(40)]
    frame = pl.DataFrame({"x": [*numbers[:-1], "39 months"], "code": ["1", "2", "3+", "2"] * 10, "label": ["Yes", "No"] * 20})
    with pytest.raises(CellError, match="column x: '39 months' is not a number"):
        customer_table.read(frame)
    (feature,) = customer_table.read(frame.drop("x")).features
    assert feature == CustomerFeature("code", "category", ("1", "2", "3+"))


def test_columns_that_say_nothing_are_left_out_and_named():
    frame = pl.DataFrame(
        {"x": [1, 2, 3, 4], "same": ["a"] * 4, "blank": [None, "", " ", "n/a"], "lists": [[1], [2], [3], [4]], "label": ["Yes", "No"] * 2}
    )
    rows = customer_table.read(frame)
    assert [feature.name for feature in rows.features] == ["x"]
    assert rows.unused == {"same": "has a single value", "blank": "is blank in every row", "lists": "is neither numbers nor text"}


def test_columns_can_be_mapped_and_left_out():
    names = ["who", "gone", "a", "b", "label"]
    found = customer_table.resolve(names, {"customer": "who", "label": "gone", "leftOut": ("b",)})
    # A field's name is the field's, whatever column is mapped to it.
    assert (found.features, found.ignored) == (("a",), ("gone", "b", "label"))
    with pytest.raises(TableError, match=r"no column 'gonne' \(did you mean gone\?\)"):
        customer_table.resolve(names, {"label": "gonne"})
    with pytest.raises(TableError, match="no field 'lable'"):
        customer_table.resolve(names, {"lable": "gone"})
    with pytest.raises(TableError, match="no column is the label"):
        customer_table.read(pl.DataFrame({"x": [1, 2]}))


@pytest.mark.parametrize(
    ("value", "found"), [("A", 0.0), (" a ", 0.0), ("1.0", 1.0), (1, 1.0), (1.0, 1.0), ("c", None), ("", None), (None, None), ("N/A", None)]
)
def test_a_category_is_the_same_however_it_is_written_and_what_is_unseen_is_missing(value, found):
    got = CustomerFeature("f", "category", ("A", "1")).reader()(value)
    assert (None if np.isnan(got) else got) == found


@pytest.mark.parametrize("text", ["1_000", "inf", "1e13", "two"])
def test_what_is_no_number_is_none(text):
    with pytest.raises(ValueError, match=text):
        customer_table.number(text)


def test_a_table_to_score_needs_one_of_the_features_and_the_rest_is_missing(model, table):
    X = model.table_matrix(table.select("Contract", "Churn"))
    assert np.isnan(X).mean(axis=0).tolist() == [float(feature.name != "Contract") for feature in model.features]
    with pytest.raises(TableError, match="no column is one of the model's features"):
        model.table_matrix(table.select("Churn"))


def test_rows_of_one_customer_are_in_one_fold(table):
    rows = customer_table.read(table.with_columns(customerID=pl.int_range(pl.len()) // 4))
    assert customer_table.read(table).customer is None
    seen = []
    for learn, judge in grouped(rows.y, rows.customer, 5, 0):
        assert not set(rows.customer[learn]) & set(rows.customer[judge])
        seen += judge.tolist()
    assert sorted(seen) == list(range(ROWS))


def test_a_column_that_knows_the_label_is_warned_of(table, tmp_path):
    leak = table.with_columns(reason=pl.when(pl.col("Churn") == "Yes").then(pl.lit("moved away")).otherwise(pl.lit("none given")))
    path = written(leak, tmp_path / "in.csv")
    (warning,) = train(path, tmp_path / "one").json("metrics.json")["warnings"]
    assert "--map leftOut=reason" in warning
    metrics = train(path, tmp_path / "two", {"leftOut": ("reason",)}).json("metrics.json")
    assert metrics["warnings"] == []
    assert "reason" not in {one["name"] for one in metrics["features"]}


@pytest.mark.parametrize("rows", [100, 210])
def test_too_few_rows_are_refused_before_anything_is_written(table, tmp_path, rows):
    frame = (
        table[:rows]
        if rows == 100
        else table.filter(pl.col("Churn") == "No")[: rows - 5].vstack(table.filter(pl.col("Churn") == "Yes")[:5])
    )
    with pytest.raises(TableError, match="insufficient data"):
        train(written(frame, tmp_path / "in.csv"), tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_another_tasks_bundle_is_refused(small, tmp_path):
    other = bundles.write(tmp_path / "other", task="purchase", files={}, meta={})
    with pytest.raises(BundleError, match="is for purchase, not for churn"):
        ChurnModel.load(other)
    lacking = bundles.write(tmp_path / "lacking", task="churn", files={}, meta={"features": []})
    with pytest.raises(BundleError, match=r"no file 'model\.ubj'"):
        ChurnModel.load(lacking)
    features = small.manifest["features"][1:]
    fewer = bundles.write(tmp_path / "fewer", task="churn", files={MODEL: small.read(MODEL)}, meta={"features": features})
    with pytest.raises(BundleError, match="the trees have 6 features, not 5"):
        ChurnModel.load(fewer)


def test_a_copy_with_cells_gone_keeps_the_others():
    X = np.arange(4000, dtype=np.float32).reshape(400, 10)
    for share, mean in ((0.5, 0.5), (None, 0.5), (0.0, 0.0)):
        got = churn_training.masked(X, 1, share)
        gone = np.isnan(got)
        assert gone.mean() == pytest.approx(mean, abs=0.05)
        assert np.array_equal(got[~gone], X[~gone])


def logistic(rows):
    """Return the AUC of a logistic regression, a column for each category's value, on the folds of seed 0."""
    columns = [
        rows.X[:, [place]] if feature.kind == "number" else rows.X[:, [place]] == np.arange(len(feature.values))
        for place, feature in enumerate(rows.features)
    ]
    X, stated = np.nan_to_num(np.hstack(columns)), np.empty(len(rows.y))
    for learn, judge in stratified(rows.y, 10, 0):
        fitted = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(X[learn], rows.y[learn])
        stated[judge] = fitted.predict_proba(X[judge])[:, 1]
    return roc_auc_score(rows.y, stated)


@pytest.mark.slow
def test_the_published_customers_are_foretold_as_well_as_by_a_logistic_regression(data_dir, tmp_path):
    path = data_dir / "telco_churn" / "Telco-Customer-Churn.csv"
    bundle = train(path, tmp_path / "bundle", {"customer": "customerID", "label": "Churn"})
    metrics = json.loads(bundle.read("metrics.json"))
    assert metrics["rows"] == 5656
    assert 0.845 <= metrics["auc"] <= 0.87  # above is a leak
    assert metrics["ece"] <= 0.02
    assert metrics["halfMissing"]["auc"] >= 0.8
    assert metrics["auc"] >= logistic(churn_training.ordered(customer_table.read(frames.read(path))))
    model = ChurnModel.load(bundle)
    stated = model.score(model.table_matrix(frames.read(path))).probability
    assert stated.mean() == pytest.approx(metrics["baseRate"], abs=0.01)
    total = [feature.name for feature in model.features].index("TotalCharges")
    assert np.isnan(model.table_matrix(frames.read(path))[:, total]).sum() == 9
