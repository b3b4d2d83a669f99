import shutil

import polars as pl
import pytest

from serving.commands.columns import ids
from serving.engines import named
from training.datasets.shop import shop
from training.models import MODELS
from training.registry import bundle as bundles


@pytest.fixture
def visits(shop_folder, tmp_path):
    path = tmp_path / "in.csv"
    pl.read_parquet(shop_folder / "sessions.parquet").head(30).rename({"customerId": "client"}).write_csv(path)
    return path


def test_an_existing_output_is_refused_before_the_model_is_looked_for(asked, visits, tmp_path):
    output = tmp_path / "out.csv"
    output.write_text("old")
    given = ("batch", "purchase", "--model", tmp_path / "nosuch", "--input", visits, "--output", output)
    code, _, err = asked(*given)
    assert code == 1
    assert f"{output} exists" in err
    assert "--overwrite" in err
    assert "nosuch" in asked(*given, "--overwrite")[2]
    assert output.read_text() == "old"


def test_overwrite_replaces_an_output(asked, bundle, visits, tmp_path):
    (tmp_path / "out.csv").write_text("old")
    assert asked("batch", "purchase", "--model", bundle.path, "--input", visits, "--output", tmp_path / "out.csv", "--overwrite")[0] == 0
    assert pl.read_csv(tmp_path / "out.csv").height == 30


def test_keys_are_mapped_and_columns_kept_from_the_command_line(asked, answer, bundle, visits, tmp_path):
    given = (
        "batch",
        "purchase",
        "--model",
        bundle.path,
        "--input",
        visits,
        "--map",
        "customerId=client",
        "--keep",
        "region",
        "--factors",
        2,
    )
    code, data = answer(*given, "--actions", "--output", tmp_path / "out.csv")
    got = pl.read_csv(tmp_path / "out.csv")
    assert (code, data["rows"], data["read"], data["unknown"], data["leftOut"]) == (0, 30, 30, {"number": 0, "first": None}, {})
    assert got.columns[:3] == ["sessionId", "customerId", "region"]
    assert {"factor1", "factor2Contribution", "otherFeatures", "recommendedActions"} < set(got.columns)
    assert got["customerId"].to_list() == pl.read_csv(visits)["client"].to_list()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("purchase --keep regoin", "has no column 'regoin' (did you mean 'region'?)"),
        ("purchase --keep all --keep region", "--keep all beside other columns"),
        ("purchase --map customerId=cleint", "has no column 'cleint' (did you mean 'client'?)"),
        ("purchase --map productId=region", "there is no field 'productId'"),
        ("purchase --factors 0", "--factors"),
        ("purchase --factors 101", "--factors"),
        ("value --keep client", "an answer of value is for several rows"),
        ("value --map customerId=client", "there is no field 'customerId'"),
        ("pricing --factors 2", "--factors does not apply to pricing"),
        ("emotion --actions", "--actions does not apply to emotion"),
    ],
)
def test_what_cannot_be_in_the_output_is_wrong_usage(asked, visits, tmp_path, words, said):
    task, *options = words.split()
    code, _, err = asked("batch", task, "--model", "m", "--input", visits, "--output", tmp_path / "o.csv", *options)
    assert code == 2
    assert said in err


def test_train_does_not_take_the_keys_of_a_batch(asked, visits, tmp_path):
    code, _, err = asked("train", "purchase", "--data", visits, "--out", tmp_path / "m", "--map", "customerId=client")
    assert (code, "no field 'customerId'" in err) == (2, True)


def test_unknown_products_are_counted_and_the_first_is_named_in_the_report(asked, bundle_of, tmp_path):
    (tmp_path / "in.csv").write_text("product,price\nP0000,9.9\nX1,4\nX2,5\n")
    code, out, _ = asked(
        "batch", "pricing", "--model", bundle_of("pricing").path, "--input", tmp_path / "in.csv", "--output", tmp_path / "o.csv"
    )
    assert code == 0
    assert "warning: 2 rows have a product that the model does not have" in out
    assert "the first 'X1'" in out


def test_rows_without_a_customer_are_in_the_report(asked, bundle_of, purchases_csv, tmp_path):
    (tmp_path / "in.csv").write_text(purchases_csv.read_text() + ",2025-05-05,3\nNULL,2025-05-05,3\n")
    code, out, _ = asked(
        "batch", "value", "--model", bundle_of("value").path, "--input", tmp_path / "in.csv", "--output", tmp_path / "o.csv"
    )
    assert code == 0
    assert "rows that are part of no answer: 2 without a customer" in out


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    """An empty registry."""
    monkeypatch.setenv("REVENUE_ENGINE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("REVENUE_ENGINE_MODELS__REGISTRY", str(tmp_path / "registry"))
    return tmp_path / "registry"


def test_a_fresh_registry_scores_with_the_default_models_of_the_server(answer, fresh, bundle_of, visits, tmp_path, monkeypatch):
    (tmp_path / "texts.csv").write_text("text\nThank you!\n")
    code, data = answer(
        "batch", "emotion", "--model", "emotion@champion", "--input", tmp_path / "texts.csv", "--output", tmp_path / "e.csv"
    )
    assert (code, data["rows"], data["model"]) == (0, 1, bundle_of("emotion").version)
    assert sorted(path.name for path in fresh.iterdir()) == ["emotion"]  # of no other task
    learned = bundle_of("purchase").path
    monkeypatch.setattr(type(MODELS["purchase"]), "train", lambda self, data, out, **_: bundles.load(shutil.copytree(learned, out)))
    monkeypatch.setattr(shop, "simulate", lambda *_: None)
    monkeypatch.setattr(shop, "write", lambda *_: None)
    code, data = answer("batch", "purchase", "--model", "purchase@champion", "--input", visits, "--output", tmp_path / "p.csv")
    assert (code, data["model"]) == (0, bundle_of("purchase").version)


@pytest.mark.parametrize(
    ("ref", "said"), [("churn@champion", "there is no churn@champion"), ("emotion@candidate", "there is no emotion@candidate")]
)
def test_only_the_alias_of_a_server_gets_a_default_and_only_where_there_is_one(asked, fresh, tmp_path, ref, said):
    (tmp_path / "in.csv").write_text("text,a\nThank you!,1\n")
    code, _, err = asked("batch", ref.split("@")[0], "--model", ref, "--input", tmp_path / "in.csv", "--output", tmp_path / "o.csv")
    assert code == 1
    assert said in err
    assert str(fresh) in err


def test_no_demonstration_model_is_trained_where_settings_forbid_it(asked, fresh, visits, tmp_path, monkeypatch):
    monkeypatch.setenv("REVENUE_ENGINE_MODELS__ALLOW_DEMO", "false")
    code, _, err = asked("batch", "purchase", "--model", "purchase@champion", "--input", visits, "--output", tmp_path / "o.csv")
    assert (code, "there is no purchase@champion" in err) == (1, True)


@pytest.mark.parametrize("task", MODELS)
def test_column_help_tells_what_is_needed_to_train_from_what_is_needed_to_score(asked, answer, task):
    fields = MODELS[task].table.fields
    for verb in ("train", "batch"):
        found = {field["name"]: field["needed"] for field in answer(verb, task, "--column-help")[1]["fields"]}
        assert found == {field.name: field.need(verb) for field in fields}
    learned = {"purchase": "purchased", "churn": "label", "journey": "purchase", "emotion": "labels"}.get(task)
    if learned is not None:
        (label,) = (field for field in fields if field.name == learned or field.published == learned)
        assert (label.need("train").partition(";")[0], label.need("batch")) == ("yes", "ignored")
    out = asked("batch", task, "--column-help")[1]
    assert all(name in out.partition("Ids to copy")[2] for name in ids(task))


def test_only_ids_of_single_rows_can_be_mapped():
    assert ids("purchase") == ("sessionId", "customerId")
    assert ids("value") == ids("journey") == ()
    assert all(named(task).details is not None for task in MODELS)
