"""Prices are amounts that can be paid: multiples of the minor unit of their currency, in answers and in batch jobs."""

import json
from decimal import Decimal

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving import settings as configuration
from serving.batch import run as batch
from serving.batch.task import Task
from serving.engines.pricing.scorer import PricingScorer
from serving.errors import InvalidRequestError
from tests.serving.engines.pricing.test_groups import catalogue
from tests.serving.engines.pricing.test_scorer import CONTENT, NOW, answer, asked, scorer
from training.currencies import DIGITS
from training.errors import TableError
from training.models.pricing.model import PricingModel


def scorer_in(currency):
    """Return a scorer whose model has prices in a currency."""
    return PricingScorer(PricingModel(CONTENT, {"currency": currency}, "v"), lambda: NOW)


def decimals(price):
    """Return the number of decimals with which a price is written."""
    return max(-Decimal(repr(price)).normalize().as_tuple().exponent, 0)


def problems(request, by):
    with pytest.raises(InvalidRequestError) as error:
        answer(request, by)
    return [(problem.field, problem.detail) for problem in error.value.problems]


@given(
    st.sampled_from(["JPY", "KRW", "KWD", "BHD", "CLF", "EUR", "USD"]),
    st.floats(2, 5000),
    st.floats(0.3, 1.5),
    st.sampled_from([3.0, 1e6]),
    st.fixed_dictionaries({}, optional={"maxChange": st.floats(0.05, 1), "minMarginShare": st.floats(0, 0.95)}),
)
@settings(deadline=None, max_examples=200)
def test_prices_have_the_decimals_of_their_currency_whether_stated_or_the_models(currency, price, cost, stock, policy):
    facts = {"currentPrice": round(price, DIGITS[currency]), "unitCost": price * cost, "currentDemand": 50, "inventoryLevel": stock}
    got = [
        answer(asked("A", policy, currency=currency, **facts), scorer_in(None)),
        answer(asked("A", policy, **facts), scorer_in(currency)),
        answer(asked("A", policy, currency=currency, **facts), scorer_in("EUR")),
    ]
    assert {one.currency for one in got} == {currency}
    assert len({one.recommended_price for one in got}) == 1
    for one in got:
        assert decimals(one.recommended_price) <= DIGITS[currency]
        assert decimals(one.unconstrained_price) <= DIGITS[currency]
        assert one.recommended_price >= price * cost * (1 - 1e-9)


def test_a_batch_job_has_whole_yen_and_names_the_currency():
    by = scorer_in(None)
    asks = [asked("A", currency=currency, currentPrice=1000.0, unitCost=480.0, currentDemand=100) for currency in ("JPY", "KWD", "EUR")]
    yen, dinar, euro = by.output_columns(by.run(by.columns(asks)))["recommendedPrice"].tolist()
    assert yen == round(yen)
    assert (dinar, euro) == (round(dinar, 3), round(euro, 2))
    assert len({yen, dinar, euro}) == 3
    by = scorer_in("JPY")
    columns = by.output_columns(by.run(by.table(catalogue([{"price": 1234.0, "cost": 600.0}, {"price": 980.0, "itemGroup": "g"}]))))
    assert columns["currency"] == ["JPY", "JPY"]
    assert all(price == round(price) for price in columns["recommendedPrice"].tolist())


def test_a_file_of_requests_is_priced_in_whole_yen_or_refused_with_its_line(bundle_of, tmp_path):
    task = Task("pricing", bundle_of("pricing").path, {}, configuration.load())
    context = {"currentDemand": 100, "inventoryLevel": 1000, "currentPrice": 1000, "unitCost": 480, "currency": "JPY"}
    lines = [json.dumps({"productId": "Z", "contextData": context, "policy": policy}) for policy in (None, {"tick": 10}, {"tick": 0.5})]
    (tmp_path / "in.ndjson").write_text("\n".join(lines[:2]))
    batch.run(task, tmp_path / "in.ndjson", tmp_path / "out.csv")
    answers = pl.read_csv(tmp_path / "out.csv")
    assert answers["currency"].to_list() == ["JPY", "JPY"]
    assert [price % unit for price, unit in zip(answers["recommendedPrice"], (1, 10), strict=True)] == [0, 0]
    (tmp_path / "in.ndjson").write_text("\n".join(lines))
    with pytest.raises(TableError, match=r"in\.ndjson, line 3, policy\.tick: is 0\.5, no multiple of 1, the minor unit of JPY"):
        batch.run(task, tmp_path / "in.ndjson", tmp_path / "refused.csv")


@pytest.mark.parametrize(
    ("policy", "currency", "field", "stated"),
    [
        ({"tick": 0.01}, "JPY", "policy.tick", "is 0.01, no multiple of 1, the minor unit of JPY"),
        ({"tick": 1.5}, "JPY", "policy.tick", "is 1.5, no multiple of 1, the minor unit of JPY"),
        ({"tick": 0.0005}, "KWD", "policy.tick", "is 0.0005, no multiple of 0.001, the minor unit of KWD"),
        ({"tick": 0.005}, "EUR", "policy.tick", "is 0.005, no multiple of 0.01, the minor unit of EUR"),
        ({"ladder": [900, 949.5]}, "JPY", "policy.ladder[1]", "is 949.5, no multiple of 1, the minor unit of JPY"),
        ({"endings": [0.0, 0.99]}, "JPY", "policy.endings[1]", "is 0.99, no multiple of 1, the minor unit of JPY"),
    ],
)
def test_amounts_that_cannot_be_paid_are_refused_with_the_minor_unit(policy, currency, field, stated):
    request = asked("A", policy, currency=currency, currentPrice=1000.0, unitCost=480.0)
    for by in (scorer_in(None), scorer_in(currency)):
        assert problems(request, by) == [(field, f"{stated}: state one that is, or leave it out")]
    own = asked("A", policy, currentPrice=1000.0, unitCost=480.0)  # in the currency of the model
    assert [name for name, _ in problems(own, scorer_in(currency))] == [field]


@pytest.mark.parametrize(
    ("policy", "currency"),
    [
        ({"tick": 5}, "JPY"),
        ({"tick": 0.005}, "KWD"),
        ({"tick": 0.1}, "EUR"),
        ({"ladder": [9.99, 10.49]}, "EUR"),
        ({"endings": [0.99, 0.495]}, "KWD"),
        ({"tick": 0.0001}, "XAU"),
        ({"tick": 0.0001}, None),
    ],
)
def test_amounts_that_can_be_paid_are_taken(policy, currency):
    context = {} if currency is None else {"currency": currency}
    assert scorer_in(None).refusal(asked("A", policy, currentPrice=1000.0, unitCost=480.0, **context)) is None


@pytest.mark.parametrize("tick", [0.15, 0.03, 0.35, 5.0, 0.05])
def test_prices_on_any_tick_are_written_without_binary_noise(tick):
    by = scorer()
    (ladder,) = by.columns([asked(policy={"tick": tick}, currentPrice=7.77)]).ladder
    assert max(map(decimals, ladder.tolist())) <= 2
    assert all(abs(price / tick - round(price / tick)) < 1e-9 for price in ladder.tolist())
    floor = answer(asked(policy={"tick": tick, "minMarginShare": 0.9}, currentPrice=7.77, unitCost=6.01), by).recommended_price
    assert decimals(floor) <= 2
    assert 60.1 <= floor < 60.1 + tick
