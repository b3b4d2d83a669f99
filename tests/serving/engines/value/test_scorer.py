"""The value engine: answers add up, a published customer needs only their id, and a batch job has the same numbers."""

import json
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
from serving.batch.publish import Publication
from serving.batch.task import Task
from serving.engines import actions
from serving.engines.lookup import Stored
from serving.engines.types import LOW_RISK, risk_bands
from serving.engines.value.checks import check
from serving.engines.value.drivers import contributions
from serving.engines.value.scorer import EXAMPLE, FACTS, VALUE, ValueScorer
from serving.engines.value.stored import fill, key
from serving.engines.value.types import CustomerValueRequest
from serving.errors import InvalidRequestError, NotFoundError, StoreUnavailableError
from serving.ingress.decoding.decoder import Decoder
from serving.scoring.question import score
from serving.settings import CONFIGS
from serving.stores.features import Publisher
from tests.serving.cache_fixtures import real_redis, run_valkey
from tests.serving.greeting import client
from training.datasets import buyers
from training.errors import TableError
from training.models import MODELS
from training.models.value import rfm
from training.models.value.model import ValueModel
from training.models.value.rfm import GRID
from training.registry import bundle as bundles
from training.registry.registry import Registry
from training.tables.summaries import NAMES

NOW = datetime(2026, 11, 22, 9, 30, tzinfo=UTC).timestamp()
RULES = actions.load(CONFIGS / "actions.yaml", "value", FACTS)
SUMMARY = {"frequency": 5, "recencyDays": 140, "ageDays": 200, "meanSpend": 40.0, "currentValue": 260.0}


@pytest.fixture(scope="module")
def trained(bundle_of):
    return bundle_of("value")


@pytest.fixture(scope="module")
def scorer(trained):
    return ValueScorer(ValueModel.load(trained), RULES, lambda: NOW)


@pytest.fixture(scope="module")
def task(trained):
    return Task("value", trained.path, {}, configuration.load())


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    with real_redis(tmp_path_factory.mktemp("store")) as url:
        yield url


def asked(summary=None, **fields):
    request = msgspec.convert({"customerId": "c-1", **({"summary": summary} if summary else {}), **fields}, CustomerValueRequest)
    check(request)
    return request


def answer(scorer, summary=None, **fields):
    request = asked(summary or SUMMARY, **fields)
    assert scorer.refusal(request) is None
    return scorer.rows([request], scorer.run(scorer.columns([request])))[0]


@st.composite
def summaries(draw):
    age = draw(st.integers(0, 700))
    recency = draw(st.integers(0, age))
    frequency = draw(st.integers(1, min(recency, 50))) if recency else 0
    return {"frequency": frequency, "recencyDays": recency, "ageDays": age, "meanSpend": draw(st.floats(1, 500))}


PARAMETERS = {
    "bg_nbd": {"r": 0.24259, "alpha": 4.41353, "a": 0.79289, "b": 2.42575},
    "mbg_nbd": {"r": 0.525, "alpha": 6.183, "a": 0.891, "b": 1.614},
    "pareto_nbd": {"r": 0.55328, "alpha": 10.5776, "s": 0.60621, "beta": 11.6679},
    "nbd": {"r": 0.72, "alpha": 9.4},
}
ACTIVE = {name for row in GRID[:3] for name in row} - {"about_to_sleep"}
LAPSED = {name for row in GRID[3:] for name in row} - {"about_to_sleep"}


@pytest.fixture(scope="module")
def scorers(trained):
    """Return a scorer of each counting model, with CDNOW's published parameters, over the base of `trained`."""
    content = trained.json("value.json")
    counting = {name: {"counting": {"model": name, "parameters": of}} for name, of in PARAMETERS.items()}
    models = {name: ValueModel({**content, **of}, trained.manifest, trained.version) for name, of in counting.items()}
    return {name: ValueScorer(model, RULES, lambda: NOW) for name, model in models.items()}


@settings(max_examples=200, deadline=None)
@given(name=st.sampled_from(sorted(PARAMETERS)), summary=summaries(), horizon=st.floats(90, 3650), money=st.booleans())
def test_the_parts_of_an_answer_do_not_contradict_each_other(scorers, name, summary, horizon, money):
    summary = summary if money else {field: value for field, value in summary.items() if field != "meanSpend"}
    got = answer(scorers[name], summary, predictionHorizon=horizon)
    unknown = {"nbd": "no-churn-in-model", "bg_nbd": None if summary["frequency"] else "no-repeat-purchase"}.get(name)
    assert got.churn_risk_reason == unknown
    assert (got.churn_risk is None) == (got.probability_alive is None) == (unknown is not None)
    assert ("probabilityAlive" in {one.name for one in got.value_drivers}) == (unknown is None)
    assert got.risk_factors == [] or unknown is None
    risk = 0.0 if got.churn_risk is None else got.churn_risk
    assert got.risk_band == risk_bands(np.array([got.no_purchase_risk]))[0]
    assert got.no_purchase_risk >= risk - 1e-12
    assert 1 - got.no_purchase_risk <= got.expected_purchases + 1e-9
    assert got.lifetime_value <= got.expected_purchases * got.expected_spend * (1 + 1e-9)
    assert got.segment not in ACTIVE or risk < 0.5
    assert got.segment not in LAPSED or got.risk_band != "low"
    assert got.segment not in ("lost", "cannot_lose") or unknown or risk >= 0.33
    action = got.next_best_action.action
    assert action != "spend_nothing" or got.risk_band != "low"
    assert action not in ("cross_sell", "reward_loyalty") or got.risk_band != "high"
    assert (got.current_value is None) == (not money)


def test_a_customer_last_seen_long_ago_is_not_certainly_alive_by_a_model_that_cannot_tell(scorers):
    for name in ("nbd", "bg_nbd"):
        got = answer(scorers[name], {"frequency": 0, "recencyDays": 0, "ageDays": 325, "currentValue": 40})
        assert (got.probability_alive, got.churn_risk, got.risk_band) == (None, None, "high")
        assert got.churn_risk_reason is not None
        assert got.segment in LAPSED


def test_the_low_band_is_that_by_which_segments_are_named():
    assert rfm.MAX_LOW_RISK == LOW_RISK


def test_a_customer_of_unknown_spend_has_no_current_value_and_no_rule_of_money_fires(scorer):
    got = answer(scorer, {"frequency": 20, "recencyDays": 300, "ageDays": 300})
    assert got.current_value is None
    assert got.segment_scores[1] == got.segment_scores[2] == 5
    assert got.next_best_action.rule == "everybody-else"
    assert answer(scorer, {"frequency": 0, "recencyDays": 0, "ageDays": 0, "currentValue": 0}).current_value == 0


@settings(max_examples=60, deadline=None)
@given(summary=summaries(), horizon=st.floats(1, 3650))
def test_drivers_add_up_to_the_value_and_risk_factors_to_the_risk(scorers, summary, horizon):
    got = answer(scorers["mbg_nbd"], summary, predictionHorizon=horizon)
    assert got.new_customer_value + sum(one.contribution for one in got.value_drivers) == pytest.approx(
        got.lifetime_value, rel=1e-9, abs=1e-9
    )
    assert sum(one.contribution for one in got.risk_factors) == pytest.approx(got.churn_risk, abs=1e-12)
    assert got.churn_risk == 1 - got.probability_alive
    assert 0 <= got.lifetime_value_interval.low <= got.lifetime_value <= got.lifetime_value_interval.high
    assert got.no_purchase_risk >= got.churn_risk - 1e-12


@settings(deadline=None)
@given(st.lists(st.floats(0, 10), min_size=6, max_size=6))
def test_contributions_are_the_mean_over_the_orders_in_which_factors_may_change(numbers):
    own, other = np.array(numbers[:3]), np.array(numbers[3:])
    found = contributions(own, other)
    orders = [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)]
    plain = np.zeros(3)
    for order in orders:
        now = other.copy()
        for place in order:
            before = now.prod()
            now[place] = own[place]
            plain[place] += (now.prod() - before) / len(orders)
    np.testing.assert_allclose(found, plain, atol=1e-9)


def test_an_answer_has_its_customer_basis_and_moment(scorer, trained):
    got = answer(scorer, asOf="2026-03-01T13:00:00+01:00", includeHistory=True)
    assert (got.customer_id, got.basis, got.model_version, got.degradation, got.currency) == (
        "c-1",
        "request",
        trained.version,
        "none",
        "XXX",
    )
    assert got.as_of == datetime(2026, 3, 1, 12, tzinfo=UTC)
    assert got.history.last_purchase_at == datetime(2025, 12, 31, 12, tzinfo=UTC)
    assert (got.history.purchases, got.history.days_between_purchases) == (6, 28)
    assert (got.prediction_horizon, got.discount_rate, got.current_value) == (365, 0.1, 260)
    assert answer(scorer).history is None


def test_later_money_is_worth_less_and_a_longer_horizon_more(scorer):
    near, far = answer(scorer, predictionHorizon=30), answer(scorer, predictionHorizon=3650)
    assert near.lifetime_value < far.lifetime_value
    plain, discounted = answer(scorer, discountRate=0), answer(scorer, discountRate=1)
    assert discounted.lifetime_value < plain.lifetime_value
    assert plain.lifetime_value == pytest.approx(plain.expected_purchases * plain.expected_spend)


def test_a_long_time_since_the_last_purchase_raises_the_risk(scorer):
    silent, fresh = answer(scorer, SUMMARY | {"ageDays": 400}), answer(scorer, SUMMARY | {"ageDays": 141})
    assert silent.churn_risk > 0.9 > 0.3 > fresh.churn_risk
    assert silent.risk_band == "high"
    assert silent.risk_factors[0].name == "timeSinceLastPurchase"
    assert (silent.risk_factors[0].value, silent.risk_factors[0].usual) == (260, 28)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"predictionHorizon": 0}, "predictionHorizon"),
        ({"predictionHorizon": -30}, "predictionHorizon"),
        ({"predictionHorizon": 36_525}, "predictionHorizon"),
        ({"discountRate": -0.1}, "discountRate"),
        ({"asOf": "1970-01-01T00:00:00Z"}, "asOf"),
        ({"customerId": ""}, "customerId"),
        ({"summary": SUMMARY | {"frequency": 1.5}}, "summary.frequency"),
        ({"summary": SUMMARY | {"recencyDays": 201}}, "summary.recencyDays"),
        ({"summary": SUMMARY | {"frequency": 0}}, "summary.recencyDays"),
        ({"summary": SUMMARY | {"frequency": 141}}, "summary.frequency"),
        ({"summary": SUMMARY | {"repeatsWithSpend": 6}}, "summary.repeatsWithSpend"),
        ({"summary": SUMMARY | {"meanSpend": -1}}, "summary.meanSpend"),
    ],
)
def test_what_is_wrong_is_named_by_its_path(change, field):
    decoder = Decoder(CustomerValueRequest, check, 10)
    with pytest.raises(InvalidRequestError) as error:
        decoder.reread(json.dumps({**EXAMPLE, **change}).encode())
    assert [problem.field for problem in error.value.problems] == [field]


def test_without_a_summary_the_stored_one_is_used_and_without_that_the_prior_if_allowed(scorer):
    request = asked()
    assert key(request) == "c-1"
    assert key(asked(SUMMARY)) is None
    assert [problem.field for problem in scorer.refusal(request).problems] == ["summary"]
    with pytest.raises(NotFoundError, match=r"no customer 'c-1' is stored: publish .* or set allowPrior"):
        fill(request, None)
    prior = asked(allowPrior=True)
    assert fill(prior, None) is prior
    (got,) = scorer.rows([prior], scorer.run(scorer.columns([prior])))
    assert (got.basis, got.current_value, got.segment) == ("prior", None, "new")
    assert got.lifetime_value == pytest.approx(got.new_customer_value)
    assert all(one.contribution == 0 for one in got.value_drivers)


def test_a_stored_summary_is_used_to_the_last_bit(scorer):
    vector = np.array([3.0, 345 / 7, 545 / 7, 2.0, 71.17 / 3, 100.5])
    request = fill(asked(), Stored("value-1", NOW - 86_400, vector))
    columns = scorer.columns([request])
    assert [column[0] for column in columns.known] == vector.tolist()
    (got,) = scorer.rows([request], scorer.run(columns))
    assert (got.basis, got.as_of) == ("stored", datetime.fromtimestamp(NOW - 86_400, UTC))


def test_a_base_too_small_to_learn_from_gets_no_number_and_the_reason(tmp_path):
    buyers.simulate(120, 3).write_csv(tmp_path / "few.csv")
    few = MODELS["value"].train(tmp_path / "few.csv", tmp_path / "few", mapping={}, seed=0, progress=lambda what, share: None)
    assert "no value is predicted" in few.json("metrics.json")["warnings"][-1]
    scorer = ValueScorer(ValueModel.load(few), RULES, lambda: NOW)
    got = answer(scorer)
    assert got.insufficient_data == ["customers 120, 500 needed"]
    assert (got.lifetime_value, got.lifetime_value_interval, got.churn_risk, got.risk_band) == (None, None, None, None)
    assert got.churn_risk_reason == "insufficient-data"
    assert (got.value_drivers, got.risk_factors, got.current_value) == ([], [], 260)
    batch.run(Task("value", few.path, {}, configuration.load()), tmp_path / "few.csv", tmp_path / "out.csv")
    out = pl.read_csv(tmp_path / "out.csv")
    assert (out["lifetimeValue"].null_count(), set(out["insufficientData"])) == (out.height, {"customers 120, 500 needed"})


def test_a_table_of_purchases_has_one_row_a_customer_and_the_bits_of_its_requests(task, scorer, purchases_csv, tmp_path):
    summary = batch.run(task, purchases_csv, tmp_path / "table.parquet")
    table = pl.read_parquet(tmp_path / "table.parquet")
    bought = pl.read_csv(purchases_csv)
    assert summary.rows == table.height == bought["customer"].n_unique()
    assert table["customerId"].is_sorted()
    assert table["purchases"].sum() == bought.unique(["customer", "time"]).height
    bodies = [
        json.dumps(
            {
                "customerId": row["customerId"],
                "asOf": f"{row['asOf']}T00:00:00Z",
                "summary": {
                    "frequency": row["frequency"],
                    "recencyDays": round(row["recencyWeeks"] * 7),
                    "ageDays": round(row["ageWeeks"] * 7),
                    "meanSpend": row["meanSpend"],
                    "repeatsWithSpend": row["repeatsWithSpend"],
                    "currentValue": row["currentValue"],
                },
            }
        ).encode()
        for row in table.to_dicts()
    ]
    (tmp_path / "in.ndjson").write_bytes(b"\n".join(bodies))
    batch.run(task, tmp_path / "in.ndjson", tmp_path / "requests.parquet")
    assert table.equals(pl.read_parquet(tmp_path / "requests.parquet"))
    alone = [json.loads(score(scorer, [msgspec.json.decode(body, type=VALUE.request)]).bodies[0]) for body in bodies[:40]]
    for name in ("customerId", "lifetimeValue", "probabilityAlive", "churnRisk", "noPurchaseRisk", "segment", "currentValue"):
        assert table[name].to_list()[:40] == [one[name] for one in alone]


def test_the_scores_that_training_writes_are_those_of_the_batch_job(purchases_csv, tmp_path):
    scored = tmp_path / "scored.parquet"
    made = MODELS["value"].train(
        purchases_csv, tmp_path / "bundle", mapping={}, seed=0, progress=lambda what, share: None, split="2025-10-01", score=scored
    )
    batch.run(Task("value", made.path, {}, configuration.load()), purchases_csv, tmp_path / "batch.parquet")
    assert pl.read_parquet(scored).equals(pl.read_parquet(tmp_path / "batch.parquet"))


def test_a_day_in_the_future_is_named_with_its_line(task, purchases_csv, tmp_path):
    lines = purchases_csv.read_text().splitlines()
    (tmp_path / "in.csv").write_text("\n".join([*lines[:9], "c9999,2099-01-01,5.0", *lines[9:]]))
    with pytest.raises(TableError, match=r"in\.csv, line 10, column time: '2099-01-01' is after today"):
        batch.run(task, tmp_path / "in.csv", tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()


def publish(task, url, source, out):
    """Publish a base; return the scored rows."""
    chosen = configuration.load(features={"redis_url": url})
    publication = Publication(VALUE, bundles.load(task.model).version)
    batch.run(task, source, out, on_answers=publication.add)
    assert publication.store(chosen, lambda what, share: None) == pl.read_parquet(out).height
    return pl.read_parquet(out)


async def test_a_published_customer_is_answered_by_name_with_the_numbers_of_the_batch(
    task, trained, store, purchases_csv, tmp_path, monkeypatch
):
    rows = publish(task, store, purchases_csv, tmp_path / "out.parquet")
    registry = Registry(str(tmp_path / "registry"), tmp_path / "fetched")
    registry.add(trained.path, alias="champion")
    monkeypatch.setenv("REVENUE_ENGINE_MODELS__REGISTRY", str(tmp_path / "registry"))
    monkeypatch.setenv("REVENUE_ENGINE_FEATURES__REDIS_URL", store)
    async with Application(configuration.load()) as application, client(application.api) as http:
        names = rows["customerId"].to_list()[:50]
        answers = (await http.post(VALUE.route, json=[{"customerId": name} for name in [*names, "nobody"]])).json()
        assert answers.pop()["status"] == 404
        for name in ("lifetimeValue", "probabilityAlive", "noPurchaseRisk", "currentValue", "segment"):
            assert [one[name] for one in answers] == rows[name].to_list()[:50]
        assert {one["basis"] for one in answers} == {"stored"}
        one = await http.post(VALUE.route, json={"customerId": names[0]})
        assert (one.status_code, one.json()["lifetimeValue"]) == (200, answers[0]["lifetimeValue"])
        unknown = await http.post(VALUE.route, json={"customerId": "nobody"})
        assert (unknown.status_code, "allowPrior" in unknown.json()["detail"]) == (404, True)
        prior = await http.post(VALUE.route, json={"customerId": "nobody", "allowPrior": True})
        assert (prior.status_code, prior.json()["basis"]) == (200, "prior")


async def test_without_the_store_requests_that_need_it_get_503_and_others_their_answer(trained, tmp_path, monkeypatch):
    registry = Registry(str(tmp_path / "registry"), tmp_path / "fetched")
    registry.add(trained.path, alias="champion")
    monkeypatch.setenv("REVENUE_ENGINE_MODELS__REGISTRY", str(tmp_path / "registry"))
    monkeypatch.setenv("REVENUE_ENGINE_FEATURES__REDIS_URL", f"unix://{tmp_path}/nobody.sock")
    async with Application(configuration.load()) as application, client(application.api) as http:
        gone = await http.post(VALUE.route, json={"customerId": "c-1", "allowPrior": True})
        assert (gone.status_code, gone.json()["type"], "retry-after" in gone.headers) == (503, "/problems/not-ready", True)
        assert (await http.post(VALUE.route, json=EXAMPLE)).status_code == 200


def test_a_store_that_refuses_writes_raises(tmp_path):
    publisher = Publisher(f"unix://{tmp_path}/nobody.sock", 60.0)
    with pytest.raises(StoreUnavailableError, match="did not take the published vectors"):
        publisher.put("default", VALUE.lookup, "value-1", ["c"], [0.0], np.zeros((1, len(NAMES))))
    publisher.close()


async def test_a_cached_answer_is_given_by_name_without_a_look_into_the_store(task, trained, purchases_csv, tmp_path, monkeypatch):
    registry = Registry(str(tmp_path / "registry"), tmp_path / "fetched")
    registry.add(trained.path, alias="champion")
    monkeypatch.setenv("REVENUE_ENGINE_MODELS__REGISTRY", str(tmp_path / "registry"))
    server, url = run_valkey(tmp_path)
    monkeypatch.setenv("REVENUE_ENGINE_FEATURES__REDIS_URL", url)
    try:
        name = publish(task, url, purchases_csv, tmp_path / "out.parquet")["customerId"][0]
        async with Application(configuration.load()) as application, client(application.api) as http:
            first = await http.post(VALUE.route, json={"customerId": name})
            server.kill()
            server.wait()
            again = await http.post(VALUE.route, json={"customerId": name})
            assert (first.headers["x-cache"], again.headers["x-cache"]) == ("miss", "hit")
            assert again.content == first.content
            other = await http.post(VALUE.route, json={"customerId": "c00001"}, headers={"Cache-Control": "no-cache"})
            assert other.status_code == 503
    finally:
        server.kill()
        server.wait()
