"""What the output of a batch job has beside the answers: copied columns, factors and actions; and what its report says of rows."""

import json
from dataclasses import replace

import msgspec
import polars as pl
import pytest

from serving import settings as configuration
from serving.batch import completeness, sources
from serving.batch import run as batch
from serving.batch import scorer as chunk_scorer
from serving.batch.scorer import ChunkScorer
from serving.batch.task import Task, Wanted
from serving.engines import named
from serving.errors import OutputError
from serving.scoring.question import score
from training.errors import TableError
from training.models import MODELS
from training.registry import bundle as bundles

ROWS = 60


@pytest.fixture(scope="session")
def task(bundle):
    return Task("purchase", bundle.path, {}, configuration.load())


@pytest.fixture(scope="session")
def sessions(shop_folder):
    return pl.read_parquet(shop_folder / "sessions.parquet").head(ROWS)


@pytest.fixture
def scored(tmp_path):
    """Score a table, and return the output and the summary."""

    def run(task, frame, name="in.csv", output="out.parquet", **options):
        path = tmp_path / name
        frame.write_parquet(path) if name.endswith(".parquet") else frame.write_csv(path)
        summary = batch.run(task, path, tmp_path / output, overwrite=True, **options)
        return pl.read_csv(tmp_path / output, infer_schema=False) if output.endswith(".csv") else pl.read_parquet(
            tmp_path / output
        ), summary

    return run


def wanted(task, *keep, **options):
    return replace(task, wanted=Wanted(keep, **options))


def cells(frame, name):
    return frame[name].to_list()


def test_kept_columns_have_every_character_of_the_file(task, scored, sessions):
    amounts = [f"{place:03}.10" for place in range(ROWS)]
    table = sessions.with_columns(timeOnSite=pl.Series(amounts), note=pl.lit(' "a", b '))
    got, summary = scored(wanted(task, "timeOnSite", "note"), table, output="out.csv")
    assert got.columns[:4] == ["sessionId", "customerId", "timeOnSite", "note"]
    assert cells(got, "timeOnSite") == amounts
    assert set(cells(got, "note")) == {' "a", b '}
    assert "note" not in summary.ignored


def test_all_columns_are_kept_once_and_in_their_order(task, scored, sessions):
    got, summary = scored(wanted(task, "all"), sessions, name="in.parquet")
    assert got.columns[: sessions.width + 2] == [*sessions.columns, "purchaseProbability", "confidenceScore"]
    assert got.columns[-1] == "modelVersion"
    assert got.select(sessions.columns).equals(sessions)
    assert summary.ignored == ()


def test_a_kept_column_with_the_name_of_an_answer_is_named_as_the_inputs(task, scored, sessions):
    table = sessions.with_columns(modelVersion=pl.lit("mine"), confidenceScore=pl.lit(2.0))
    got, _ = scored(wanted(task, "modelVersion", "confidenceScore"), table)
    assert set(cells(got, "input:modelVersion")) == {"mine"}
    assert set(cells(got, "modelVersion")) == {bundles.load(task.model).version}
    assert cells(got, "input:confidenceScore") != cells(got, "confidenceScore")


def test_kept_columns_do_not_change_the_answers(task, scored, sessions):
    plain, _ = scored(task, sessions)
    kept, _ = scored(wanted(task, "all"), sessions)
    assert kept.select(plain.columns).equals(plain)


def test_a_mapped_column_is_kept_under_its_own_name(task, scored, sessions):
    table = sessions.rename({"region": "Land"}).with_columns(region=pl.lit("unused"))
    got, _ = scored(replace(wanted(task, "Land", "region"), mapping={"region": "Land"}), table)
    assert cells(got, "Land") == cells(sessions, "region")
    assert set(cells(got, "region")) == {"unused"}


def test_ids_of_other_names_are_copied_under_the_names_of_the_api(task, scored, sessions):
    table = sessions.rename({"sessionId": "visit", "customerId": "Kunde"})
    got, summary = scored(replace(task, keys={"sessionId": "visit", "customerId": "Kunde"}), table)
    assert got.columns[:2] == ["sessionId", "customerId"]
    assert cells(got, "sessionId") == cells(table, "visit")
    assert cells(got, "customerId") == cells(table, "Kunde")
    assert not {"visit", "Kunde"} & set(summary.ignored)


def test_an_id_that_is_a_field_of_the_table_is_copied_when_it_is_mapped(bundle_of, scored, customers_csv):
    task = Task("churn", bundle_of("churn").path, {"customer": "Nr"}, configuration.load())
    table = pl.read_csv(customers_csv, infer_schema=False).rename({"customerID": "Nr"})
    got, _ = scored(task, table)
    assert cells(got, "customer") == cells(table, "Nr")


@pytest.mark.parametrize("name", ["purchase", "churn"])
def test_factors_and_actions_are_those_of_the_api(bundle_of, scored, sessions, customers_csv, name):
    engine, model = named(name), bundle_of(name)
    table = sessions if name == "purchase" else pl.read_csv(customers_csv, infer_schema=False).head(ROWS)
    task = wanted(Task(name, model.path, {}, configuration.load()), factors=3, actions=True)
    got, _ = scored(task, table)
    scorer = engine.load(model, configuration.load())
    columns = scorer.table(table)._replace(max_factors=[3] * ROWS)
    request = engine.decode_example()
    if name == "churn":
        request = msgspec.structs.replace(request, customer_value=None)
    answers = [json.loads(msgspec.json.encode(one)) for one in scorer.rows([request] * ROWS, scorer.run(columns))]
    actions = engine.details.actions.column
    assert cells(got, actions) == [",".join(one["action"] for one in answer[actions]) for answer in answers]
    for place in (1, 2, 3):
        listed = [[one for one in answer["factors"] if one["name"] != "otherFeatures"] for answer in answers]
        assert cells(got, f"factor{place}") == [row[place - 1]["name"] for row in listed]
        assert cells(got, f"factor{place}Contribution") == [row[place - 1]["contribution"] for row in listed]
    rest = [sum(one["contribution"] for one in answer["factors"] if one["name"] == "otherFeatures") for answer in answers]
    assert cells(got, "otherFeatures") == rest


def test_the_value_drivers_of_a_customer_add_up_as_those_of_the_api_do(bundle_of, scored, purchases_csv):
    task = wanted(Task("value", bundle_of("value").path, {}, configuration.load()), factors=3, actions=True)
    got, _ = scored(task, pl.read_csv(purchases_csv, infer_schema=False))
    total = got.select(pl.sum_horizontal(f"factor{place}Contribution" for place in (1, 2, 3))).to_series()
    new = got["lifetimeValue"] - total  # of a new customer, and so the same for all
    assert new.max() == pytest.approx(new.min(), abs=1e-6)
    assert got["factor1Contribution"].abs().ge(got["factor2Contribution"].abs()).all()
    assert "nextBestAction" in got.columns


def test_requests_list_as_many_factors_as_are_wanted_whatever_they_ask_for(task, shop_folder, tmp_path):
    bodies = [json.loads(line) | {"maxFactors": 9} for line in (shop_folder / "requests.ndjson").read_bytes().splitlines()[:20]]
    (tmp_path / "in.ndjson").write_text("\n".join(map(json.dumps, bodies)))
    batch.run(wanted(task, factors=2), tmp_path / "in.ndjson", tmp_path / "out.parquet")
    got = pl.read_parquet(tmp_path / "out.parquet")
    scorer = named("purchase").load(bundles.load(task.model), task.settings)
    decode = msgspec.json.Decoder(named("purchase").request).decode
    answers = [json.loads(score(scorer, [decode(json.dumps(body | {"maxFactors": 2}))]).bodies[0]) for body in bodies]
    assert cells(got, "factor1") == [answer["factors"][0]["name"] for answer in answers]
    assert "factor3" not in got.columns


def test_an_output_without_rows_has_the_columns_that_are_wanted(task, scored, sessions):
    full, _ = scored(wanted(task, "region", factors=2, actions=True), sessions)
    empty, summary = scored(wanted(task, "region", factors=2, actions=True), sessions.clear())
    assert (empty.columns, summary.rows) == (full.columns, 0)


@pytest.mark.parametrize("option", ["keep", "keys"])
def test_columns_of_single_rows_are_refused_where_an_answer_is_for_several(bundle_of, scored, purchases_csv, option):
    task = Task("value", bundle_of("value").path, {}, configuration.load())
    task = wanted(task, "amount") if option == "keep" else replace(task, keys={"customerId": "customer"})
    with pytest.raises(TableError, match=r"a column of single rows, and an answer of value is for several"):
        scored(task, pl.read_csv(purchases_csv))


def test_columns_cannot_be_kept_of_requests(task, tmp_path):
    (tmp_path / "in.ndjson").write_bytes(b"")
    with pytest.raises(TableError, match="--keep names columns, and requests have none"):
        batch.run(wanted(task, "region"), tmp_path / "in.ndjson", tmp_path / "out.csv")


def test_products_that_the_model_does_not_have_are_counted_and_the_first_is_named(bundle_of, scored, monkeypatch):
    task = Task("pricing", bundle_of("pricing").path, {}, configuration.load())
    products = ["P0000", "new1", "P0001", "new2", "new1"] * 20
    table = pl.DataFrame({"product": products, "price": 9.9, "stock": 100})
    _, summary = scored(task, table)
    assert summary.unknown == (60, "new1")
    monkeypatch.setattr(sources, "CHUNK_BYTES", 100)
    _, in_chunks = scored(task, table)
    assert in_chunks.unknown == summary.unknown


def test_a_catalogue_without_quantities_is_priced_by_the_demand_of_the_model(bundle_of, scored):
    task = Task("pricing", bundle_of("pricing").path, {}, configuration.load())
    table = pl.DataFrame({"product": ["P0000", "P0001"], "price": [9.9, 4.2], "cost": [3.0, 2.0], "stock": [500, 500]})
    without, _ = scored(task, table)
    with_none, _ = scored(task, table.with_columns(quantity=0.0))
    assert without.equals(with_none)
    assert (without["recommendedPrice"] > 0).all()


def test_rows_that_are_part_of_no_answer_are_counted_by_reason(bundle_of, scored, purchases_csv):
    table = pl.read_csv(purchases_csv, infer_schema=False)
    nobody = table.head(7).with_columns(customer=pl.lit(""))
    _, summary = scored(Task("value", bundle_of("value").path, {}, configuration.load()), pl.concat([table, nobody]))
    assert summary.left_out["without a customer"] == 7
    assert (summary.read, summary.rows) == (table.height + 7, table["customer"].n_unique())


def test_a_parser_that_loses_a_row_stops_the_job_and_leaves_no_output(task, scored, sessions, monkeypatch, tmp_path):
    real = Task.frame
    monkeypatch.setattr(Task, "frame", lambda self, chunk: real(self, chunk).slice(1))
    with pytest.raises(OutputError, match=r"in\.csv, from line 2 on: 59 rows were parsed, of 60 in the input: .*bug"):
        scored(task, sessions)
    assert not (tmp_path / "out.parquet").exists()


def test_an_answer_that_is_missing_stops_the_job_and_leaves_no_output(task, scored, sessions, monkeypatch, tmp_path):
    real = ChunkScorer.__call__

    def losing(self, chunk):
        done = real(self, chunk)
        return done._replace(answers=done.answers.slice(1))

    monkeypatch.setattr(chunk_scorer.ChunkScorer, "__call__", losing)
    with pytest.raises(OutputError, match="59 rows were answered, of 60 in the input"):
        scored(task, sessions)
    assert not (tmp_path / "out.parquet").exists()


@pytest.mark.parametrize("name", ["value", "journey"])
def test_a_group_with_two_answers_stops_the_job(bundle_of, name):
    column = {"value": "customerId", "journey": "sessionId"}[name]
    with pytest.raises(OutputError, match=f"{column} 'b' has more than one answer"):
        completeness.require_distinct(pl.DataFrame({column: ["a", "b", "b"]}), name)


def test_quoted_line_breaks_and_empty_lines_lose_no_row(task, tmp_path, sessions):
    rows = "".join(f'S{place},"a\n\nb {place}",{place}\n\n' for place in range(30))
    (tmp_path / "in.csv").write_text(f"sessionId,note,timeOnSite\n{rows}")
    summary = batch.run(wanted(task, "note"), tmp_path / "in.csv", tmp_path / "out.parquet")
    got = pl.read_parquet(tmp_path / "out.parquet")
    assert (summary.rows, summary.read) == (30, 30)
    assert cells(got, "note") == [f"a\n\nb {place}" for place in range(30)]


def test_every_task_of_the_command_line_can_write_its_details():
    for name in MODELS:
        details = named(name).details
        assert details.factors is None or details.factors.column in ("", "max_factors")


def test_features_of_the_model_that_a_table_lacks_are_reported(bundle_of, scored, customers_csv):
    """Whatever column is no feature of the model is ignored, so that a misspelt one is seen."""
    task = Task("churn", bundle_of("churn").path, {}, configuration.load())
    names = [one["name"] for one in bundles.load(task.model).manifest["features"]]
    frame = pl.read_csv(customers_csv, infer_schema=False).head(20)
    _, whole = scored(task, frame)
    _, less = scored(task, frame.rename({names[0]: names[0].upper() + "X"}).drop(names[1]))
    assert (whole.lacking, set(less.lacking)) == ((), set(names[:2]))
    assert names[0].upper() + "X" in less.ignored


def test_a_table_of_sessions_reports_the_features_that_training_had(task, scored, sessions):
    lacking = [
        one["name"] for one in bundles.load(task.model).manifest["features"] if one["missingShare"] < 1 and one["name"] in sessions.columns
    ]
    _, summary = scored(task, sessions.drop(lacking[0]))
    assert summary.lacking == (lacking[0],)


def test_a_catalogue_needs_a_price_of_a_product_that_the_model_does_not_have(bundle_of, scored):
    task = Task("pricing", bundle_of("pricing").path, {}, configuration.load())
    known = bundles.load(task.model).json("demand.json")["products"][0]
    frame = pl.DataFrame({"product": [known, "new"], "price": [None, None]}, {"product": pl.String, "price": pl.Float64})
    with pytest.raises(TableError, match=r"line 3, column price: .* is needed: product new is not in the training data"):
        scored(task, frame)
    answers, _ = scored(task, frame.head(1), output="out.csv")
    assert float(cells(answers, "currentPrice")[0]) > 0


def test_a_change_of_profit_that_nobody_can_compute_is_an_empty_cell(bundle_of, scored):
    task = Task("pricing", bundle_of("pricing").path, {}, configuration.load())
    frame = pl.DataFrame({"product": ["new", "new"], "price": [10.0, 10.0], "cost": [None, 5.0]})
    answers, _ = scored(task, frame, output="out.csv")
    without, given = cells(answers, "profitChange")
    assert without is None
    assert float(given) == float(given)


def test_a_word_for_a_missing_cell_is_no_text(bundle_of, scored):
    task = Task("emotion", bundle_of("emotion").path, {}, configuration.load())
    answers, _ = scored(task, pl.DataFrame({"text": ["NULL", "n/a", "Null and void, I want my money back"]}), output="out.csv")
    assert cells(answers, "remarks") == ["empty", "empty", ""]
