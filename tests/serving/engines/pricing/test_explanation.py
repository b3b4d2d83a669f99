"""The explanation of a price: rules applied one by one in plain Python give the same steps, binding rule and numbers."""

import math
import re

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from kernels.pricing import ladder as kernel
from kernels.pricing.demand import Z
from serving.engines.pricing.explanation import amount
from serving.engines.pricing.guard_rails import GUARD_RAILS, intersection
from tests.kernels.pricing.test_trail import apart
from tests.naive import pricing as naive
from tests.serving.engines.pricing.test_scorer import answer, asked, competitors, scorer

ANY = (0.0, math.inf)
DEMO = {"product": "A", "currentDemand": 100, "inventoryLevel": 5, "currentPrice": 3.1, "unitCost": 2.0}


def numbers(text):
    """Return the numbers of a text, in order."""
    return [float(number.replace(",", "")) for number in re.findall(r"\d[\d,]*(?:\.\d+)?", text)]


def worths(ladder, row, stock):
    """Return what each price of the ladder earns, in plain Python over the draws."""
    draws = (row[kernel.ELASTICITY] + row[kernel.SD] * Z).tolist()
    weights = (row[kernel.PROFIT_WEIGHT], row[kernel.REVENUE_WEIGHT], row[kernel.RISK])
    facts = row[kernel.PRICE], row[kernel.QUANTITY], draws, row[kernel.COST], ANY, stock, weights
    return [naive.prices([rung], *facts).worth for rung in ladder]


def twin(request, by):
    """Return the price by demand alone and each adjustment, (rule, before, after); None where rounding decides between two prices."""
    columns = by.columns([request])
    common = [rung for rung in columns.ladder[0, : -kernel.EDGES].tolist() if rung == rung]
    edges = [rung for rung in columns.ladder[0, -kernel.EDGES :].tolist() if rung not in common]
    ladder = [*common, *dict.fromkeys(edges)]
    query, row = columns.queries[0], columns.inputs[0].tolist()
    free, stocked = worths(ladder, row, math.inf), worths(ladder, row, row[kernel.STOCK])
    if not (apart(dict(zip(ladder, free, strict=True)).values()) and apart(dict(zip(ladder, stocked, strict=True)).values())):
        return None
    start, steps = naive.trails(ladder, free, stocked, query.allowed, len(common))
    found, at, (floor, _) = [], start, query.allowed[-1]
    unmet = max(ladder) < floor  # no price of the ladder is that high: the floor is the price, rounded up
    for step in steps:
        rule = step.rule if isinstance(step.rule, str) else GUARD_RAILS[step.rule].name
        if not (unmet and rule == "margin_floor"):
            found += [(rule, step.before, step.bound), ("price_ladder", step.bound, step.after)]
            at = step.after
    if unmet:
        price = math.ceil(round(floor * 100, 6)) / 100
        bound = price if math.isclose(floor, price, rel_tol=1e-9) else floor
        found += [("margin_floor", at, bound), ("price_ladder", bound, price)]
    return start, [one for one in found if one[1] != one[2]]


CONTEXT = st.fixed_dictionaries(
    {
        "currentDemand": st.sampled_from([0, 1, 20, 300]),
        "inventoryLevel": st.sampled_from([1.0, 15.0, 120.0, 1e6]),
        "currentPrice": st.floats(1, 200).map(lambda price: round(price, 2)),
        "priceAtDayStart": st.floats(1, 200).map(lambda price: round(price, 2)),
        "unitCost": st.floats(0.5, 250),
        "previousUnitCost": st.floats(0.5, 250),
        "competitorPrices": st.lists(st.floats(1, 300), max_size=3).map(lambda prices: competitors(*prices)),
    }
)
POLICY = st.fixed_dictionaries(
    {},
    optional={
        "maxChange": st.floats(0.01, 1),
        "maxChangePerDay": st.floats(0.01, 1),
        "minMarginShare": st.floats(0, 0.8),
        "minPrice": st.floats(1, 50),
        "maxPrice": st.floats(50, 300),
        "competitorLow": st.floats(0.5, 1),
        "competitorHigh": st.floats(1, 1.5),
        "costPassThrough": st.floats(0, 1),
        "riskAversion": st.floats(0, 1),
        "objective": st.sampled_from(["profit", "mix"]),
        "ladder": st.lists(st.floats(1, 400).map(lambda price: round(price, 2)), min_size=1, max_size=20),
    },
)


@given(st.sampled_from(["A", "inelastic", "thin", "unknown"]), CONTEXT, POLICY)
@settings(deadline=None, max_examples=400)
def test_the_answer_follows_the_rules_applied_one_by_one(product, context, policy):
    by, request = scorer(), asked(product, policy, **context)
    expected = twin(request, by)
    assume(expected is not None)
    start, steps = expected
    got, allowed = answer(request, by), by.columns([request]).queries[0].allowed
    assert got.unconstrained_price == start
    assert [adjustment.rule for adjustment in got.adjustments] == [rule for rule, _, _ in steps]
    for adjustment, (_, before, after) in zip(got.adjustments, steps, strict=True):
        assert (adjustment.before, adjustment.after) == pytest.approx((before, after), rel=1e-12)
    deciding = [rule for rule, _, _ in steps if rule != "price_ladder"]
    assert got.binding_rule == (deciding[-1] if deciding else None)
    assert got.price_change_reason.endswith("_by_rule") == bool(deciding)

    sentence = got.explanation.partition(" Not kept")[0].partition(" No cost")[0].partition(" The ")[0].partition(" How much")[0]
    said = [got.current_price] if got.recommended_price != got.current_price else []
    said += [got.recommended_price, start] if steps else [got.recommended_price, got.recommended_price]
    for rule, before, after in steps:
        if rule == "inventory":
            said += [context["inventoryLevel"], after]
        elif rule == "price_ladder":
            said.append(after)
        else:
            low, high = allowed[[rail.name for rail in GUARD_RAILS].index(rule)]
            bound = low if before < low else high
            said += [bound] if after == bound else [bound, after]
    assert numbers(sentence) == pytest.approx(said, rel=1e-3)
    meanings = {rail.name: rail.meaning for rail in GUARD_RAILS} | {"inventory": "in stock"}
    places = [got.explanation.index(meanings[rule]) for rule in dict.fromkeys(deciding)]
    assert places == sorted(places)


@given(st.sampled_from(["A", "thin"]), CONTEXT, POLICY)
@settings(deadline=None, max_examples=300)
def test_each_rule_that_the_price_does_not_keep_is_stated_and_no_other(product, context, policy):
    by, request = scorer(), asked(product, policy, **context)
    got, allowed = answer(request, by), by.columns([request]).queries[0].allowed
    _, _, not_kept = got.explanation.partition(" Not kept")
    for rail, (low, high) in zip(GUARD_RAILS, allowed, strict=True):
        keeps = low * (1 - 1e-9) <= got.recommended_price <= high * (1 + 1e-9)
        assert (rail.meaning in not_kept) == (not keeps)


@given(st.sampled_from(["A", "inelastic"]), CONTEXT, POLICY)
@settings(deadline=None, max_examples=200)
def test_without_the_binding_rule_the_price_is_another(product, context, policy):
    """The counterfactual: the rule that decided is the one whose removal moves the price back, unless another rule stops it first."""
    by, request = scorer(), asked(product, policy, **context)
    got = answer(request, by)
    rail = next((place for place, rail in enumerate(GUARD_RAILS) if rail.name == got.binding_rule), None)
    assume(rail is not None)
    columns = by.columns([request])
    allowed = [*columns.queries[0].allowed]
    before = next(adjustment.before for adjustment in got.adjustments if adjustment.rule == got.binding_rule)
    allowed[rail] = ANY
    later = columns.rails.copy()
    later[0, rail] = ANY
    again = by.run(columns._replace(rails=later, queries=[columns.queries[0]._replace(allowed=allowed)])).price[0]
    if all(low <= before <= high for low, high in allowed[rail:]):
        assert again == before != got.recommended_price


def test_scarce_stock_moves_the_price_and_the_step_stops_it():
    got = answer(asked(**DEMO))
    assert (got.recommended_price, got.unconstrained_price, got.binding_rule) == (3.79, 3.32, "change_per_step")
    assert [(one.rule, one.before, one.after) for one in got.adjustments] == [
        ("inventory", 3.32, 6.2),
        ("change_per_step", 6.2, 3.875),
        ("price_ladder", 3.875, 3.79),
    ]
    assert got.explanation == (
        "The price is raised from 3.10 to 3.79: by demand alone 3.32 would earn the most profit; with 5 in stock 6.20, the highest price "
        "of the ladder, would; but one step may not change the price by more (at most 3.875); the nearest possible price is 3.79."
    )


def test_where_the_stock_alone_decides_it_is_the_binding_rule():
    got = answer(asked(**{**DEMO, "policy": {"maxChange": 1}}))
    assert (got.recommended_price, got.binding_rule, got.price_change_reason) == (6.2, "inventory", "raised_by_rule")
    assert got.explanation.endswith("with 5 in stock 6.20, the highest price of the ladder, would.")


def test_a_price_that_no_rule_moved_says_so_by_null():
    got = answer(asked(policy={"maxChange": 1}))
    assert (got.binding_rule, got.adjustments) == (None, [])
    assert got.explanation == "The price stays at 10.00: of the prices of the ladder 10.00 is expected to earn the most profit."


@pytest.mark.parametrize(
    ("policy", "context", "goal"),
    [
        ({"objective": "revenue"}, {}, "the most revenue"),
        ({"objective": "mix"}, {}, "the best mix of profit and revenue"),
        ({"riskAversion": 1}, {}, "the most profit, less an allowance for risk"),
        ({}, {}, "the most profit"),
    ],
)
def test_the_goal_is_stated(policy, context, goal):
    assert f"earn {goal}" in answer(asked(policy={"maxChange": 1, **policy}, **context)).explanation


@pytest.mark.parametrize(
    ("policy", "remark"),
    [
        (None, "No cost is known: revenue is pursued instead of profit, and no margin is kept."),
        ({"objective": "mix"}, "No cost is known: revenue is pursued instead of profit, and no margin is kept."),
        ({"objective": "revenue"}, "No cost is known: no margin is kept."),
    ],
)
def test_without_a_cost_the_other_goal_is_stated(policy, remark):
    got = answer(asked("thin", policy))
    assert remark in got.explanation
    assert "the most revenue" in got.explanation
    assert got.objective == "revenue"
    assert "No cost" not in answer(asked("thin", policy, unitCost=5.0)).explanation


def test_history_that_is_missing_or_short_is_stated():
    assert "no history of this product" in answer(asked("Z", currentPrice=10.0, unitCost=5.0, currentDemand=9)).explanation
    assert "own history is too short" in answer(asked("thin")).explanation
    assert "history" not in answer(asked("A")).explanation


def test_without_a_demand_no_stock_decides_and_no_effect_is_stated():
    got = answer(asked("Z", {"maxChange": 1}, currentPrice=10.0, unitCost=6.0, inventoryLevel=0.5))
    plenty = answer(asked("Z", {"maxChange": 1}, currentPrice=10.0, unitCost=6.0))
    assert got.recommended_price == plenty.recommended_price
    assert "inventory" not in {adjustment.rule for adjustment in got.adjustments}
    assert got.explanation.endswith("How much is sold is not known: the stock is left out, and the expected impact is given as 0.")
    known = answer(asked("Z", {"maxChange": 1}, currentPrice=10.0, unitCost=6.0, currentDemand=1.0))
    assert got.confidence == known.confidence


def test_a_competitor_far_away_is_approached_as_far_as_the_step_allows():
    got = answer(asked(policy={"competitorLow": 0.8}, competitorPrices=competitors(1000.0)))
    assert (got.binding_rule, got.price_change_reason) == ("change_per_step", "raised_by_rule")
    assert 12 < got.recommended_price <= 12.5
    assert "the price must stay near the competitors' prices (at least 800.00)" in got.explanation.partition("Not kept")[2]


def test_a_margin_that_no_price_of_the_ladder_has_is_the_price():
    got = answer(asked(policy={"minMarginShare": 0.9}, unitCost=5.0))
    assert (got.recommended_price, got.binding_rule) == (50.0, "margin_floor")
    assert "no unit may be sold for less than its cost plus the margin (at least 50.00)" in got.explanation.partition("Not kept")[0]
    assert "one step may not change the price by more (at most 12.50)" in got.explanation.partition("Not kept")[2]


def test_a_cost_above_the_price_is_covered_by_the_nearest_price():
    got = answer(asked(unitCost=14.0))
    assert (got.recommended_price, got.binding_rule) == (14.0, "margin_floor")
    above = answer(asked(unitCost=14.001))
    assert (above.recommended_price, above.adjustments[-1].rule) == (14.01, "price_ladder")
    assert above.explanation.partition(" Not kept")[0].endswith("(at least 14.001); the nearest possible price is 14.01.")


@pytest.mark.parametrize("match", [9.87, 10.06, 10.4])
def test_a_competitors_price_is_matched_to_the_cent(match):
    got = answer(asked(policy={"competitorLow": 1.0, "competitorHigh": 1.0}, competitorPrices=competitors(match)))
    assert (got.recommended_price, got.binding_rule) == (match, "competitor_band")
    assert "Not kept" not in got.explanation


def test_rules_that_hold_between_two_prices_of_the_ladder_hold():
    """A step of a quarter and a margin just below it leave no price of the ladder, but some cents."""
    got = answer(asked(policy={"minMarginShare": 0.5}, currentPrice=3.1, unitCost=1.9, currentDemand=100))
    assert 3.8 <= got.recommended_price <= 3.875
    assert (got.binding_rule, "Not kept" in got.explanation) == ("margin_floor", False)


def test_the_prices_of_the_caller_are_the_only_ones():
    got = answer(asked(policy={"ladder": [9.0, 11.0], "competitorLow": 1.0, "competitorHigh": 1.0}, competitorPrices=competitors(9.87)))
    assert (got.recommended_price, got.binding_rule) == (9.0, "competitor_band")
    assert "Not kept" in got.explanation


def test_exploration_is_the_reason_of_the_price_that_it_chose():
    got = [answer(asked(f"p{number}", {"exploration": 0.5}, currentPrice=10.0, unitCost=6.0, currentDemand=7)) for number in range(20)]
    (tried, *_) = [one for one in got if one.exploration.explored]
    assert tried.binding_rule == "exploration"
    assert f"{tried.recommended_price:.2f}, the price beside it on the ladder, is tried to learn demand" in tried.explanation
    assert not any("tried" in one.explanation for one in got if not one.exploration.explored)


@pytest.mark.parametrize(
    ("value", "digits", "shown"),
    [
        (3.1, 2, "3.10"),
        (3.875, 2, "3.875"),
        (19.294117647, 2, "19.2941"),
        (1234567.0, 0, "1234567"),
        (833.3333, 0, "833.33"),
        (0.5, 3, "0.500"),
        (1e-6, 2, "0.000001"),
        (1e9, 2, "1000000000.00"),
        (0.0, 2, "0.00"),
    ],
)
def test_an_amount_has_the_decimals_of_its_currency_and_more_only_where_it_lies_between(value, digits, shown):
    assert amount(value, digits) == shown


@given(st.floats(1e-6, 1e9), st.sampled_from([0, 2, 3]))
def test_an_amount_is_shown_to_four_digits_at_least(value, digits):
    assert float(amount(value, digits)) == pytest.approx(value, rel=1e-3)


@given(st.lists(st.tuples(st.floats(0, 20), st.floats(0, 20)).map(lambda ends: tuple(sorted(ends))), min_size=1, max_size=6))
def test_bands_that_agree_intersect(bands):
    low, high = max(low for low, _ in bands), min(high for _, high in bands)
    if low <= high:
        assert intersection(bands) == (low, high)
    assert np.isfinite(intersection(bands)).all()
