"""The churn engine: every answer adds up, lists its factors, and has the numbers of a batch job."""

import json
import math
from datetime import UTC, datetime

import msgspec
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving import settings as configuration
from serving.app import Application
from serving.batch import run as batch
from serving.batch.task import Task
from serving.engines import ENGINES
from serving.engines.actions import ValueRange
from serving.engines.churn import actions as retention
from serving.engines.churn.actions import RetentionRule, RetentionRules
from serving.engines.churn.scorer import CHURN, EXAMPLE, ChurnScorer, check
from serving.engines.churn.types import ChurnPreventionRequest
from serving.engines.types import risk_bands
from serving.errors import InvalidRequestError, SettingsError
from serving.ingress.decoding.decoder import Decoder
from serving.runtime import doctor
from serving.scoring.question import Question, score
from serving.settings import CONFIGS
from tests.serving.greeting import client
from tests.training.models.churn.test_uplift import experiment
from training.errors import TableError
from training.models import MODELS
from training.models.churn.model import ChurnModel
from training.registry.registry import Registry

NOW = datetime(2026, 11, 22, 9, 30, tzinfo=UTC).timestamp()
RULES = retention.load(CONFIGS / "retention.yaml")


@pytest.fixture(scope="module")
def trained(bundle_of):
    return bundle_of("churn")


@pytest.fixture(scope="module")
def scorer(trained):
    return ChurnScorer(ChurnModel.load(trained), RULES, lambda: NOW)


@pytest.fixture(scope="module")
def task(trained):
    return Task("churn", trained.path, {}, configuration.load())


def asked(features=None, **fields):
    body = {"customerId": "c-1", "features": EXAMPLE["features"] if features is None else features, **fields}
    request = msgspec.convert(body, ChurnPreventionRequest)
    check(request)
    return request


def answer(scorer, features=None, **fields):
    request = asked(features, **fields)
    assert scorer.refusal(request) is None
    return scorer.rows([request], scorer.run(scorer.columns([request])))[0]


def test_an_answer_has_its_customer_outcome_and_moment(scorer, trained):
    got = answer(scorer)
    assert (got.customer_id, got.outcome, got.model_version, got.degradation) == ("c-1", "Churn = Yes", trained.version, "none")
    assert got.as_of == got.timestamp == datetime.fromtimestamp(NOW, UTC)
    assert answer(scorer, asOf="2026-03-01T13:00:00+01:00").as_of == datetime(2026, 3, 1, 12, tzinfo=UTC)


@settings(max_examples=40, deadline=None)
@given(
    features=st.fixed_dictionaries(
        {},
        optional={
            "tenure": st.floats(0, 80) | st.none(),
            "Contract": st.sampled_from(["Month-to-month", "one year", "Three year", ""]),
            "MonthlyCharges": st.floats(-1e12, 1e12),
            "SeniorCitizen": st.booleans(),
        },
    ),
    most=st.none() | st.integers(0, 10),
)
def test_factors_and_bias_add_up_to_the_margin_and_the_margin_is_the_risk(scorer, features, most):
    got = answer(scorer, features, maxFactors=most)
    assert math.fsum(one.contribution for one in got.factors) + got.bias == pytest.approx(got.margin, abs=1e-5)
    assert 1 / (1 + math.exp(-got.margin)) == pytest.approx(got.churn_risk, abs=1e-12)
    named = [one for one in got.factors if one.name != "otherFeatures"]
    assert len(named) <= (5 if most is None else most)
    assert [abs(one.contribution) for one in named] == sorted((abs(one.contribution) for one in named), reverse=True)
    assert got.contribution_unit == "log-odds"


def test_factors_show_values_as_the_table_spells_them(scorer):
    got = {one.name: one for one in answer(scorer, {"Contract": " MONTH-TO-MONTH", "tenure": 2}, maxFactors=10).factors}
    assert (got["Contract"].value, got["Contract"].unit, got["Contract"].direction) == ("Month-to-month", "category", "raises")
    assert (got["tenure"].value, got["tenure"].direction) == (2.0, "raises")


def test_missing_features_are_named_and_so_is_what_the_model_cannot_use(scorer):
    got = answer(scorer, {"tenure": None, "Contract": "Three year", "MonthlyCharges": " ", "TotalCharges": 5, "shoeSize": 44, "hat": None})
    assert got.missing_features == ["SeniorCitizen", "tenure", "Contract", "InternetService", "MonthlyCharges"]
    assert (got.ignored, got.more_ignored) == (["features.shoeSize", "features.Contract"], 0)  # a value that training has not seen
    many = answer(scorer, {f"x{place}": place for place in range(30)})
    assert (many.ignored, many.more_ignored) == ([f"features.x{place}" for place in range(20)], 10)
    nothing = answer(scorer, {})
    assert len(nothing.missing_features) == 6
    assert (nothing.ignored, nothing.more_ignored) == ([], 0)
    assert 0.1 < nothing.churn_risk < 0.6


def test_value_at_risk_is_the_risk_times_the_value(scorer):
    got = answer(scorer, customerValue=960, currency="EUR")
    assert (got.value_at_risk, got.currency) == (got.churn_risk * 960, "EUR")
    assert answer(scorer).value_at_risk is None
    assert answer(scorer, customerValue=0).value_at_risk == 0


def test_bands_have_the_documented_bounds():
    risks = [0.0, np.nextafter(0.33, 0), 0.33, 0.5, 0.66, np.nextafter(0.66, 1), 1.0]
    assert risk_bands(np.array(risks)) == ["low", "low", "medium", "medium", "medium", "high", "high"]
    assert risk_bands(np.array([])) == []


@pytest.mark.parametrize("risk", [0.0, 0.05, 0.1, 0.2, 0.33, 0.5, 0.66, 0.9, 1.0])
def test_actions_are_ranked_by_what_they_are_assumed_to_save(risk):
    got = RULES.actions(risk, 1000.0)
    assert got
    saved = [1000 * (risk * one.assumed_saved_share - one.assumed_cost_share) for one in got]
    assert [one.expected_value_saved for one in got] == pytest.approx(saved)
    assert saved == sorted(saved, reverse=True)
    assert min(saved) >= 0
    assert [one.priority for one in got] == list(range(1, len(got) + 1))
    assert {one.basis for one in got} == {"rule"}
    unknown = RULES.actions(risk, None)
    assert [one.rule for one in unknown] == [one.rule for one in got]
    assert {one.expected_value_saved for one in unknown} == {None}


def test_an_action_that_costs_more_than_it_saves_is_not_listed():
    rule = RetentionRule(id="dear", when=ValueRange(at_least=0.1), action="call", saved_share=0.2, cost_share=0.1, sentence="Call.")
    rules = RetentionRules([rule])
    assert rules.actions(0.49, 100) == []
    assert [one.rule for one in rules.actions(0.5, 100)] == ["dear"]
    assert rules.actions(0.05, 100) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- {id: a, when: {atLeast: 2}, action: call, savedShare: 0, costShare: 0, sentence: x}", "rule a: no churnRisk"),
        ("- {id: a, when: {atLeast: 0.5, below: 0.5}, action: call, savedShare: 0, costShare: 0, sentence: x}", "rule a: no churnRisk"),
        ("- &a {id: a, when: {}, action: call, savedShare: 0, costShare: 0, sentence: x}\n- *a", "rules a: the id is used twice"),
        ("- {id: a, when: {}, action: hug, savedShare: 0, costShare: 0, sentence: x}", "hug"),
        ("- {id: a, when: {}, action: call, savedShare: 2, costShare: 0, sentence: x}", "savedShare"),
    ],
)
def test_wrong_rules_are_named(tmp_path, text, said):
    (tmp_path / "rules.yaml").write_text(f"rules:\n{text}")
    with pytest.raises(SettingsError, match=said) as error:
        retention.load(tmp_path / "rules.yaml")
    assert "rules.yaml" in str(error.value)
    with pytest.raises(SettingsError, match=r"cannot read the rules from .*none\.yaml"):
        retention.load(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"features": None}, "features"),
        ({"features": {"tenure": [2]}}, "features.tenure"),
        ({"features": {"tenure": 1e13}}, "features.tenure"),
        ({"features": {"Contract": "x" * 257}}, "features.Contract"),
        ({"features": {str(number): 1 for number in range(1001)}}, "features"),
        ({"customerId": ""}, "customerId"),
        ({"customerValue": -1}, "customerValue"),
        ({"currency": "euro"}, "currency"),
        ({"asOf": "1999-01-01T00:00:00Z"}, "asOf"),
        ({"maxFactors": 0.5}, "maxFactors"),
    ],
)
def test_a_wrong_field_is_named(change, field):
    decoder = Decoder(CHURN.request, CHURN.check, 10)
    body = json.dumps({**EXAMPLE, **change}).encode()
    with pytest.raises(InvalidRequestError) as error:
        decoder.reread(body)
    assert [problem.field for problem in error.value.problems] == [field]


def test_a_text_where_the_model_has_numbers_is_refused_by_name(scorer):
    refusal = scorer.refusal(asked({"tenure": "two", "TotalCharges": "12.5", "MonthlyCharges": " ", "Contract": 3}))
    assert [problem.field for problem in refusal.problems] == ["features.tenure", "features.TotalCharges"]


def test_without_explanations_the_score_is_the_same_and_factors_are_one_sum(scorer):
    request = asked()
    short = scorer.rows([request], scorer.run(scorer.without_explanations(scorer.columns([request]))))[0]
    full = answer(scorer)
    assert (short.degradation, short.churn_risk, short.margin) == (
        "no-explanation",
        full.churn_risk,
        full.margin,
    )
    assert [one.name for one in short.factors] == ["otherFeatures"]
    assert short.retention_actions == full.retention_actions


def value(text):
    """Return a cell of the published table as a caller would send it."""
    try:
        return float(text)
    except ValueError:
        return text


def test_a_table_its_requests_and_the_api_have_the_same_bits(task, scorer, customers_csv, tmp_path):
    rows = pl.read_csv(customers_csv, infer_schema=False).drop("Churn").to_dicts()
    bodies = [
        json.dumps({"customerId": row.pop("customerID"), "features": {name: value(text) for name, text in row.items()}}).encode()
        for row in rows
    ]
    (tmp_path / "in.ndjson").write_bytes(b"\n".join(bodies))
    summary = batch.run(task, customers_csv, tmp_path / "table.parquet")
    batch.run(task, tmp_path / "in.ndjson", tmp_path / "requests.parquet")
    table, requests = pl.read_parquet(tmp_path / "table.parquet"), pl.read_parquet(tmp_path / "requests.parquet")
    assert summary.ignored == ("Churn",)
    assert table.columns == ["customerID", "churnRisk", "riskBand", "modelVersion"]
    assert table.rename({"customerID": "customerId"}).equals(requests)
    alone = [json.loads(score(scorer, [msgspec.json.decode(body, type=CHURN.request)]).bodies[0]) for body in bodies]
    for name in ("customerId", "churnRisk", "riskBand", "modelVersion"):
        assert requests[name].to_list() == [one[name] for one in alone]


def test_a_batch_needs_no_label_and_passes_the_mapped_customer_through(task, customers_csv, tmp_path):
    table = pl.read_csv(customers_csv, infer_schema=False)
    table.drop("Churn").rename({"customerID": "who"}).write_csv(tmp_path / "in.csv")
    mapped = Task(task.name, task.model, {"customer": "who"}, task.settings)
    batch.run(mapped, tmp_path / "in.csv", tmp_path / "out.csv")
    got = pl.read_csv(tmp_path / "out.csv")
    assert got.columns == ["customer", "churnRisk", "riskBand", "modelVersion"]
    assert got["customer"].to_list() == table["customerID"].to_list()


def test_a_wrong_cell_of_a_batch_is_named_with_its_line(task, customers_csv, tmp_path):
    lines = customers_csv.read_text().splitlines()
    cells = lines[9].split(",")
    cells[2] = "long"
    (tmp_path / "in.csv").write_text("\n".join([*lines[:9], ",".join(cells), *lines[10:]]))
    with pytest.raises(TableError, match=r"in\.csv, line 10, column tenure: 'long' is not a number"):
        batch.run(task, tmp_path / "in.csv", tmp_path / "out.csv")


def test_a_server_is_ready_without_a_model_that_no_default_can_be_made_of(monkeypatch, tmp_path):
    for engine in ENGINES:
        assert Question(engine, configuration.load(), None).lacking == MODELS[engine.name].simulated
    monkeypatch.setenv("REVENUE_ENGINE_MODELS__REGISTRY", str(tmp_path))
    (finding,) = (one for one in doctor.examine(configuration.load()) if one.name.startswith("churn@"))
    assert (finding.ok, finding.found) == (True, f"none: answers 503 until a model is trained and promoted ({tmp_path})")


async def test_an_application_without_a_churn_model_is_ready_and_answers_the_others(monkeypatch, tmp_path, bundle_of):
    models = Registry(str(tmp_path / "registry"), tmp_path / "fetched")
    for name in ("purchase", "pricing"):
        models.add(bundle_of(name).path, alias="champion")
    monkeypatch.setenv("REVENUE_ENGINE_MODELS__REGISTRY", str(tmp_path / "registry"))
    monkeypatch.setenv("REVENUE_ENGINE_CACHE__ENABLED", "false")
    async with Application(configuration.load()) as application:
        application.require_ready()
        async with client(application.api) as http:
            ready = await http.get("/health/ready")
            assert (ready.status_code, sorted(ready.json()["models"])) == (200, ["pricing", "purchase"])
            assert (await http.post(CHURN.route, json=EXAMPLE)).status_code == 503
            models.add(bundle_of("churn").path, alias="champion")
            for watcher in application.watchers:
                await watcher.once()
            answered = await http.post(CHURN.route, json=EXAMPLE)
            assert (answered.status_code, answered.json()["riskBand"] in ("low", "medium", "high")) == (200, True)
            wrong = await http.post(CHURN.route, json={**EXAMPLE, "features": {"tenure": "two"}})
            assert (wrong.status_code, wrong.json()["field"]) == (422, "features.tenure")


EFFECTS = {"call": 0.2, "gift": 0.01, "silence": -0.1}


def test_measured_effects_are_ranked_with_the_rules_by_what_they_save():
    rules = RetentionRules(
        [RetentionRule(id="r", when=ValueRange(), action="call", saved_share=0.1, cost_share=0.0, sentence="Call.")],
        {"call": 30.0, "gift": 2.0},
    )
    actions = rules.actions(0.5, 1000.0, EFFECTS)
    said = [(one.basis, one.arm or one.rule, one.priority) for one in actions]
    assert said == [("uplift", "call", 1), ("rule", "r", 2), ("uplift", "gift", 3)]
    assert [one.expected_value_saved for one in actions] == pytest.approx([170.0, 50.0, 8.0])
    assert [one.effect for one in actions] == [0.2, None, 0.01]
    assert [one.arm for one in rules.actions(0.5, 100.0, EFFECTS) if one.basis == "uplift"] == []
    assert [one.expected_value_saved for one in rules.actions(0.5, None, EFFECTS)] == [None, None, None]


@settings(deadline=None)
@given(st.floats(0, 1), st.dictionaries(st.sampled_from("abc"), st.floats(-1, 1)), st.none() | st.floats(0, 1e6), st.floats(0, 1e5))
def test_no_action_saves_less_than_nothing_and_none_is_recommended_beside_spending_nothing(risk, effects, value, cost):
    rules = RetentionRules([rule for _, _, rule in RULES._rules], {"a": cost})
    actions = rules.actions(risk, value, effects)
    assert all(one.expected_value_saved is None or one.expected_value_saved >= 0 for one in actions)
    assert {one.arm for one in actions if one.basis == "uplift"} <= {arm for arm, effect in effects.items() if effect > 0}
    assert len(actions) == 1 or "spend_nothing" not in {one.action for one in actions}


def test_amounts_have_a_currency_and_without_amounts_there_is_none(scorer):
    assert answer(scorer, currency="EUR").currency is None
    assert answer(scorer, customerValue=0, currency="EUR").currency == "EUR"


async def test_a_model_with_an_experiment_states_its_basis_and_a_batch_has_a_column_for_each_arm(tmp_path):
    table, _ = experiment(1_500)
    table.write_csv(tmp_path / "in.csv")
    made = MODELS["churn"].train(tmp_path / "in.csv", tmp_path / "bundle", mapping={}, seed=0, progress=lambda what, share: None)
    batch.run(Task("churn", made.path, {}, configuration.load()), tmp_path / "in.csv", tmp_path / "out.parquet")
    rows = pl.read_parquet(tmp_path / "out.parquet")
    assert rows.columns == ["churnRisk", "riskBand", "effect:call", "effect:gift", "modelVersion"]
    scorer = ChurnScorer(ChurnModel.load(made), RULES, lambda: NOW)
    got = answer(scorer, {"tenure": table["tenure"][0], "noise": table["noise"][0]}, customerValue=500)
    shown = {one.arm: one.effect for one in got.retention_actions if one.basis == "uplift"}
    assert shown
    assert {name: rows[f"effect:{name}"][0] for name in shown} == shown
    effects = rows.select(pl.col("^effect:.*$"))
    assert all((column <= rows["churnRisk"]).all() and (column >= rows["churnRisk"] - 1).all() for column in effects)
