"""Prices within their guard rails: what always holds, which rule binds, its explanation, and the profit in a simulated shop."""

import math
from datetime import UTC, datetime

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.pricing import ladder as kernel
from serving.engines.pricing.answers import DISCLOSURE
from serving.engines.pricing.checks import check
from serving.engines.pricing.guard_rails import GUARD_RAILS, intersection
from serving.engines.pricing.scorer import EXAMPLE, PRICING, PricingScorer
from serving.engines.pricing.types import PERSONALISED_PRICING, DynamicPricingRequest
from serving.errors import InvalidRequestError
from training.datasets.shop import catalog as shop_catalog
from training.models.pricing import train as elasticity
from training.models.pricing.model import PricingModel
from training.tables import sales as sales_table

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC).timestamp()
CONTENT = {
    "products": ["A", "inelastic", "thin"],
    "elasticity": [-2.5, -0.6, -2.2],
    "elasticitySd": [0.1, 0.05, 0.5],
    "price": [10.0, 10.0, 10.0],
    "quantity": [70.0, 70.0, 7.0],
    "cost": [6.0, 6.0, None],
    "insufficient": [False, False, True],
    "competitors": {"rival": {"elasticity": [0.8, 0.5, 0.5], "elasticitySd": [0.1, 0.1, 0.3], "price": [10.0, 10.0, 10.0]}},
    "season": {},
}


def scorer(**changes):
    return PricingScorer(PricingModel({**CONTENT, **changes}, {"currency": "EUR"}, "pricing-test"), lambda: NOW)


def asked(product="A", policy=None, **context):
    body = {"productId": product, "contextData": {"currentDemand": 0, "competitorPrices": [], "inventoryLevel": 1e6, **context}}
    request = msgspec.convert({**body, **({"policy": policy} if policy else {})}, DynamicPricingRequest)
    check(request)
    return request


def answer(request, by=None):
    by = by or scorer()
    refusal = by.refusal(request)
    if refusal is not None:
        raise refusal
    return by.rows([request], by.run(by.columns([request])))[0]


def competitors(*prices):
    return [{"competitor": f"c{number}", "price": price} for number, price in enumerate(prices)]


def test_without_a_binding_rule_the_price_is_the_rung_that_earns_most():
    got = answer(asked(policy={"maxChange": 5}))
    assert got.recommended_price == got.unconstrained_price == pytest.approx(10.0, rel=0.03)
    assert (got.binding_rule, got.adjustments, got.objective, got.currency) == (None, [], "profit", "EUR")
    assert got.elasticity.source == "product"


def test_inelastic_demand_is_decided_by_the_bounds_with_low_confidence():
    got = answer(asked("inelastic", {"maxChange": 0.1}))
    assert 10.7 < got.recommended_price <= 11.0
    assert got.binding_rule == "change_per_step"
    assert [adjustment.rule for adjustment in got.adjustments] == ["change_per_step", "price_ladder"]
    assert got.confidence < 0.1
    assert answer(asked()).confidence > 0.4


@pytest.mark.parametrize(
    ("policy", "context", "rule"),
    [
        ({"maxPrice": 9.0}, {}, "price_bounds"),
        ({"minMarginShare": 0.45}, {}, "margin_floor"),
        ({"minMargin": 4.5}, {}, "margin_floor"),
        ({"maxChangePerDay": 0.02}, {"priceAtDayStart": 8.0}, "change_per_day"),
        ({"competitorHigh": 1.0}, {"competitorPrices": competitors(7.0, 8.0, 9.0)}, "competitor_band"),
        ({"costPassThrough": 1.0}, {"previousUnitCost": 4.0}, "cost_pass_through"),
    ],
)
def test_each_guard_rail_binds_and_is_named(policy, context, rule):
    got = answer(asked(policy={"maxChange": 1.0, **policy}, **context))
    assert rule in {adjustment.rule for adjustment in got.adjustments}
    assert got.recommended_price != got.unconstrained_price
    assert next(rail.meaning for rail in GUARD_RAILS if rail.name == rule) in got.explanation


def test_the_margin_floor_wins_over_every_other_rule():
    got = answer(
        asked(
            policy={"maxChange": 0.05, "maxPrice": 10.2, "minMarginShare": 0.3, "competitorHigh": 1.0},
            competitorPrices=competitors(9.0),
            unitCost=9.0,
        )
    )
    assert got.recommended_price >= 9.0 / 0.7 - 1e-9
    assert (got.price_change_reason, got.binding_rule) == ("raised_by_rule", "margin_floor")
    assert got.recommended_price < 9.0 / 0.7 * 1.03
    assert "must be between its lowest and highest allowed value (at most 10.20)" in got.explanation


def test_a_floor_that_no_rung_meets_is_the_price():
    got = answer(asked(policy={"ladder": [8.0, 9.0], "minMarginShare": 0.5}, unitCost=8.0))
    assert (got.recommended_price, got.binding_rule) == (16.0, "margin_floor")


def test_a_ladder_of_one_is_the_price():
    got = answer(asked(policy={"ladder": [10.5]}))
    assert (got.recommended_price, got.unconstrained_price) == (10.5, 10.5)


def test_no_stock_keeps_the_price_with_its_reason():
    got = answer(asked(inventoryLevel=0, policy={"minMarginShare": 0.6}))
    assert (got.recommended_price, got.price_change_reason, got.binding_rule) == (10.0, "kept_out_of_stock", "out_of_stock")
    assert got.expected_impact.demand_change == 0


def test_scarce_stock_has_a_shadow_price_and_a_higher_price():
    plenty, scarce = answer(asked(policy={"maxChange": 1})), answer(asked(policy={"maxChange": 1}, inventoryLevel=10))
    assert scarce.recommended_price > plenty.recommended_price
    assert (plenty.shadow_price, scarce.shadow_price > 0) == (0, True)


def test_without_a_cost_revenue_is_maximised_and_profit_is_null():
    got = answer(asked("thin", {"maxChange": 0.2}))
    assert (got.objective, got.expected_impact.profit_change, got.expected_impact.profit_change80) == ("revenue", None, None)
    assert got.elasticity.source == "category"


def test_an_unknown_product_needs_a_price_to_begin_with():
    with pytest.raises(InvalidRequestError) as error:
        answer(asked("Z"))
    assert error.value.problems[0].field == "contextData.currentPrice"
    got = answer(asked("Z", currentPrice=20.0, unitCost=9.0, currentDemand=5))
    assert got.elasticity.source == "prior"
    assert got.recommended_price > 9.0


def test_another_currency_needs_every_amount_in_it():
    with pytest.raises(InvalidRequestError) as error:
        answer(asked(currency="USD"))
    assert error.value.problems[0].field == "contextData.currency"
    assert answer(asked(currency="USD", currentPrice=11.0, unitCost=6.6, currentDemand=10)).currency == "USD"
    with pytest.raises(InvalidRequestError) as error:
        answer(asked(competitorPrices=[{"competitor": "r", "price": 9, "currency": "USD"}]))
    assert error.value.problems[0].field == "contextData.competitorPrices[0].currency"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"policy": {"minPrice": 12, "maxPrice": 11}}, "policy.minPrice"),
        ({"policy": {"competitorLow": 1.2, "competitorHigh": 1.1}}, "policy.competitorLow"),
        ({"customerSegment": "gender_female"}, "contextData.customerSegment"),
    ],
)
def test_what_no_price_can_follow_is_refused_with_its_field(change, field):
    with pytest.raises(InvalidRequestError) as error:
        asked(**change)
    assert [problem.field for problem in error.value.problems] == [field]


@pytest.mark.parametrize(
    ("context", "path"),
    [
        ({"inventoryLevel": -1}, "inventoryLevel"),
        ({"competitorPrices": [{"competitor": "r", "price": 0}]}, r"competitorPrices\[0\].price"),
        ({"currentPrice": 0}, "currentPrice"),
        ({"currency": "euro"}, "currency"),
    ],
)
def test_amounts_that_cannot_be_are_refused(context, path):
    with pytest.raises(msgspec.ValidationError, match=path):
        asked(**context)


def test_a_price_is_personal_only_with_consent_and_then_has_a_disclosure():
    body = {**EXAMPLE, "customerId": "c-1"}
    known, by = msgspec.convert(body, DynamicPricingRequest), scorer()
    assert (answer(known, by).personalised, answer(known, by).disclosure) == (False, None)
    consenting = msgspec.convert({**body, "consent": [PERSONALISED_PRICING]}, DynamicPricingRequest)
    assert (answer(consenting, by).personalised, answer(consenting, by).disclosure) == (True, DISCLOSURE)


def test_the_lowest_price_of_thirty_days_is_kept_and_the_price_has_an_end():
    got = answer(asked(lowestPrice30Days=8.8, policy={"validHours": 6}))
    assert got.lowest_price30_days == 8.8
    assert (got.valid_until - got.as_of).total_seconds() == 6 * 3600


def test_demand_follows_the_competitors_where_it_is_not_stated():
    dear, cheap = (answer(asked(competitorPrices=competitors(price), policy={"maxChange": 1}, unitCost=8.0)) for price in (20.0, 5.0))
    assert dear.recommended_price == cheap.recommended_price > 10
    assert dear.expected_impact.demand_change == pytest.approx(4**0.8 * cheap.expected_impact.demand_change)


CONTEXT = st.fixed_dictionaries(
    {
        "currentDemand": st.floats(0, 1000),
        "inventoryLevel": st.floats(0, 5000),
        "currentPrice": st.floats(1, 200),
        "unitCost": st.floats(0, 250),
        "competitorPrices": st.lists(st.floats(1, 300), max_size=3).map(lambda prices: competitors(*prices)),
    }
)


def test_prices_of_the_default_ladder_have_the_requested_endings():
    got = answer(asked(policy={"endings": [0.99, 0.49], "maxChange": 1}, unitCost=7.3))
    assert round(got.recommended_price % 1, 2) in (0.49, 0.99)
    columns = scorer().columns([asked(policy={"endings": [0.95]}, currentPrice=0.4)])
    assert {round(price % 1, 2) for price in columns.ladder[0].tolist()} == {0.95}


def test_exploration_moves_a_share_of_the_products_by_a_rung_with_its_propensity():
    by = scorer()
    plain = answer(asked("p", {"maxChange": 1}, currentPrice=10.0, unitCost=3.0, currentDemand=7), by)
    assert plain.exploration is None
    got = [
        answer(asked(f"p{number}", {"maxChange": 1, "exploration": 0.3}, currentPrice=10.0, unitCost=3.0, currentDemand=7), by)
        for number in range(600)
    ]
    moved = [one for one in got if one.exploration.explored]
    assert 0.24 < len(moved) / len(got) < 0.36
    assert {one.exploration.propensity for one in moved} == {0.15}
    assert {one.exploration.propensity for one in got if not one.exploration.explored} == {0.7}
    assert {one.recommended_price for one in got if not one.exploration.explored} == {plain.recommended_price}
    assert len({one.recommended_price for one in moved}) == 2
    assert all(one.adjustments[-1].rule == one.binding_rule == "exploration" for one in moved)


def test_exploration_is_the_same_for_everybody_on_a_day_and_another_on_another():
    policy = {"maxChange": 1, "exploration": 0.5}

    def price(day, customer=None):
        body = {"productId": "A", "customerId": customer, "asOf": f"2026-11-{day:02d}T12:00:00Z", "policy": policy}
        body["contextData"] = {"currentDemand": 5, "competitorPrices": [], "inventoryLevel": 1e6}
        return answer(msgspec.convert(body, DynamicPricingRequest)).recommended_price

    days = [price(day) for day in range(1, 29)]
    assert days == [price(day, "c-1") for day in range(1, 29)]
    assert len(set(days)) == 3


@given(CONTEXT, st.floats(0, 0.5))
@settings(deadline=None)
def test_exploration_stays_within_the_guard_rails(context, share):
    request = asked("A", {"maxChange": 0.1, "exploration": share}, **context)
    by = scorer()
    low, high = intersection(by.columns([request]).queries[0].allowed)
    got = answer(request, by)
    if got.exploration is not None and got.exploration.explored:
        assert low <= got.recommended_price <= high


POLICY = st.fixed_dictionaries(
    {},
    optional={
        "maxChange": st.floats(0, 1),
        "minMarginShare": st.floats(0, 0.8),
        "minPrice": st.floats(1, 50),
        "maxPrice": st.floats(50, 300),
        "competitorLow": st.floats(0.5, 1),
        "competitorHigh": st.floats(1, 1.5),
        "objective": st.sampled_from(["profit", "revenue", "mix"]),
        "ladder": st.lists(st.floats(1, 400).map(lambda price: round(price, 2)), min_size=1, max_size=20),
    },
)


@given(st.sampled_from(["A", "inelastic", "thin", "unknown"]), CONTEXT, POLICY)
@settings(deadline=None, max_examples=300)
def test_the_guard_rails_hold_in_their_order_for_any_request(product, context, policy):
    by, request = scorer(), asked(product, policy, **context)
    got, columns = answer(request, by), by.columns([request])
    price, ladder = got.recommended_price, columns.ladder[0]
    if context["inventoryLevel"] == 0:
        assert price == got.current_price
        return
    assert price >= context["unitCost"] / (1 - policy.get("minMarginShare", 0)) * (1 - 1e-9)
    rungs = ladder[~np.isnan(ladder)]
    allowed = [intersection(columns.queries[0].allowed[first:]) for first in range(len(GUARD_RAILS))]
    met = [bool(((rungs >= low) & (rungs <= high)).any()) for low, high in allowed]
    first = met.index(True) if True in met else None
    if first is None:
        assert price == pytest.approx(allowed[-1][0], abs=0.011)
        return
    low, high = allowed[first]
    assert low <= price <= high
    assert price in rungs
    prices = [got.unconstrained_price, *(adjustment.after for adjustment in got.adjustments)]
    assert prices[-1] == price
    assert [adjustment.before for adjustment in got.adjustments] == prices[:-1]
    assert answer(request, scorer()) == got


@given(CONTEXT, st.floats(0, 50))
@settings(deadline=None)
def test_a_higher_cost_never_lowers_the_price(context, more):
    if context["inventoryLevel"] == 0:
        return
    cheap, dear = (answer(asked(**{**context, "unitCost": context["unitCost"] + extra})) for extra in (0.0, more))
    assert dear.recommended_price >= cheap.recommended_price * (1 - 1e-9)


def test_the_prices_earn_nearly_what_the_true_elasticities_would():
    """At least 97 % of the profit of the oracle under the same rails and ladder, over three shops."""
    earned = np.zeros(3)
    for seed in range(3):
        random = np.random.default_rng(seed)
        catalog = shop_catalog.draw(random)
        sales = sales_table.read(shop_catalog.sales(catalog, random))
        model = PricingModel(elasticity.content(elasticity.fit(sales, ("product", "period"))), {"currency": "EUR"}, "v")
        by = PricingScorer(model, lambda: NOW)
        requests = [
            asked(name, {"maxChange": 0.5, "minMarginShare": 0.05}, currentPrice=price, unitCost=cost, currentDemand=10)
            for name, price, cost in zip(sales.products, catalog.price[:, -1].tolist(), catalog.cost[:, -1].tolist(), strict=True)
        ]
        columns = by.columns(requests)
        chosen = by.run(columns).price
        oracle = columns.inputs.copy()
        oracle[:, kernel.ELASTICITY], oracle[:, kernel.SD] = catalog.elasticity, 0.0
        out = np.empty((len(oracle), kernel.OUTPUTS))
        kernel.prices(columns.ladder, oracle, out)
        current, cost = columns.inputs[:, kernel.PRICE], columns.inputs[:, kernel.COST]
        for place, price in enumerate((current, chosen, out[:, kernel.BEST])):
            earned[place] += ((price - cost) * (price / current) ** catalog.elasticity * current).sum()
    now, ours, best = earned
    assert now < ours <= best * (1 + 1e-12)
    assert ours >= 0.97 * best


def test_confidence_is_how_often_the_price_earns_no_less():
    """Over products whose true elasticity is drawn from their posterior, the stated confidence is the share that gain (within 5 points)."""
    random = np.random.default_rng(0)
    by, request = scorer(), asked("A", {"maxChange": 1}, unitCost=5.0)
    columns = by.columns([request] * 1)
    answers = by.run(columns)
    price, current, cost = answers.price[0], columns.inputs[0, kernel.PRICE], 5.0
    true = columns.inputs[0, kernel.ELASTICITY] + columns.inputs[0, kernel.SD] * random.normal(size=20_000)
    gained = ((price - cost) * (price / current) ** true >= current - cost) & (true < -1)
    assert answers.changes[0, kernel.CONFIDENCE] == pytest.approx(gained.mean(), abs=0.05)


def test_competitors_prices_may_be_absent_or_null():
    body = {"productId": "A", "contextData": {"currentDemand": 0, "inventoryLevel": 1e6}}
    bodies = [body, *({**body, "contextData": {**body["contextData"], "competitorPrices": none}} for none in (None, []))]
    policy = {"competitorLow": 1.0, "competitorHigh": 1.0}
    absent, null, empty = (answer(msgspec.convert({**one, "policy": policy}, DynamicPricingRequest)) for one in bodies)
    assert absent == null == empty
    assert absent.recommended_price == answer(asked()).recommended_price


@pytest.mark.parametrize("elasticity", [-2.5, -4.0])
def test_the_confidence_in_a_product_without_history_is_that_of_the_prior(elasticity):
    """However precisely one product is known, another may differ from it."""
    one = {"products": ["A"], "elasticity": [elasticity], "elasticitySd": [0.01], "insufficient": [False], "competitors": {}}
    by = scorer(**{**one, "price": [10.0], "quantity": [70.0], "cost": [6.0]})
    facts = {"currentPrice": 10.0, "unitCost": 6.0, "currentDemand": 70}
    for context in (facts, {**facts, "inventoryLevel": 5}, {**facts, "inventoryLevel": 0}):
        known, unknown = answer(asked("A", **context), by), answer(asked("never seen", **context), by)
        assert known.confidence > 0.9
        assert unknown.confidence < known.confidence - 0.01
        assert unknown.elasticity.standard_deviation > 0.5


def test_no_confidence_is_certain():
    """64 draws of the elasticity are no evidence for a probability of 0 or 1."""
    facts = {"inventoryLevel": 5, "currentPrice": 3.1, "unitCost": 2.0, "currentDemand": 100}
    assert 0.99 < answer(asked("A", **facts)).confidence < 1
    assert 0 < answer(asked("inelastic", **facts)).confidence < 0.01


def test_a_stock_that_is_just_enough_has_no_shadow_price():
    for demand in range(1, 200):
        got = answer(asked(policy={"maxChange": 1e-9}, currentPrice=9.99, currentDemand=demand, inventoryLevel=demand))
        assert (got.recommended_price, got.shadow_price) == (9.99, 0)


def test_batch_columns_are_those_of_the_answers():
    by = scorer()
    asks = [
        asked(policy={"maxChange": 1}),
        asked(inventoryLevel=5, currentPrice=3.1, unitCost=2.0, currentDemand=100),
        asked(inventoryLevel=0),
        asked("thin"),
        asked("Z", currentPrice=10.0, unitCost=14.0, currentDemand=5),
        *(asked(f"p{number}", {"exploration": 0.5}, currentPrice=10.0, unitCost=6.0, currentDemand=7) for number in range(9)),
    ]
    predictions = by.run(by.columns(asks))
    columns, rows = by.output_columns(predictions), by.rows(asks, predictions)
    assert columns["bindingRule"] == [row.binding_rule or "" for row in rows]
    assert set(columns["bindingRule"]) >= {"", "change_per_step", "out_of_stock", "margin_floor", "exploration"}
    assert columns["unconstrainedPrice"].tolist() == [row.unconstrained_price for row in rows]
    assert columns["objective"] == [row.objective for row in rows]
    assert columns["elasticitySource"] == [row.elasticity.source for row in rows]
    assert columns["currency"] == [row.currency for row in rows]


def test_the_example_is_answered():
    got = answer(PRICING.decode_example())
    assert math.isfinite(got.recommended_price)
    assert got.model_version == "pricing-test"
