"""The purchase engine: every answer adds up and lists its factors."""

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.types import F32, F64
from serving.engines.purchase.scorer import EXAMPLE
from serving.engines.purchase.types import DEFAULT_FACTORS
from tests.serving.sessions import VISIT, LinearModel, answer, bare, decoded, row, scorer, visit
from training.features import INDEX, NAMES


def test_an_answer_has_its_customer_and_an_unknown_one_is_null() -> None:
    known, unknown = answer(bare(customerId="c-1")), answer(bare())
    assert (known.customer_id, known.session_id) == ("c-1", "s")
    assert msgspec.json.decode(msgspec.json.encode(unknown))["customerId"] is None


def test_times_are_iso_8601_in_utc() -> None:
    body = msgspec.json.decode(msgspec.json.encode(answer(bare(asOf="2026-03-01T13:00:00.5+01:00"))))
    assert (body["asOf"], body["timestamp"]) == ("2026-03-01T12:00:00.500000Z", "2026-11-22T09:30:00.250000Z")


def test_the_predicted_value_is_the_expected_order() -> None:
    got = answer(visit(VISIT))
    assert (got.predicted_value, got.currency) == (got.purchase_probability * 80.0, "EUR")
    assert (got.horizon, got.model_version) == ("session", LinearModel.version)


def test_missing_features_are_named() -> None:
    assert answer(bare()).missing_features == [name for name, value in row(bare()).items() if math.isnan(value)]
    assert "month" not in answer(visit(VISIT)).missing_features


def test_the_actions_are_those_whose_rules_fire() -> None:
    certain = LinearModel(np.zeros(len(NAMES)))
    certain.bias = 5.0
    assert [action.action for action in answer(bare(), certain).recommended_actions] == ["protect_checkout"]
    listed = answer(visit(VISIT), certain).recommended_actions
    assert [action.rule for action in listed] == ["helpless-at-checkout", "nearly-sold"]


@given(st.data())
@settings(max_examples=50)
def test_factors_and_bias_add_up_to_the_margin_and_the_margin_is_the_probability(data: st.DataObject) -> None:
    weights = np.array(data.draw(st.lists(st.sampled_from([0.0, 0.01, -0.02, 0.3, -1.0]), min_size=len(NAMES), max_size=len(NAMES))))
    most = data.draw(st.none() | st.integers(0, len(NAMES)))
    got = answer(visit(VISIT, maxFactors=most, contextData__visitorType="new"), LinearModel(weights))
    assert math.fsum(factor.contribution for factor in got.factors) + got.bias == pytest.approx(got.margin, abs=1e-9)
    assert 1 / (1 + math.exp(-got.margin)) == pytest.approx(got.purchase_probability, abs=1e-12)
    named = [factor for factor in got.factors if factor.name != "otherFeatures"]
    assert len(named) <= (DEFAULT_FACTORS if most is None else most)
    assert all(factor.direction == ("raises" if factor.contribution >= 0 else "lowers") for factor in got.factors)


def test_the_largest_factors_come_first_and_the_rest_is_their_sum() -> None:
    weights = np.zeros(len(NAMES))
    for name, weight in {"eventCount": 0.1, "pageViews": -0.5, "timeOnSite": 0.001, "clickCount": 0.1, "dayOfWeek": -0.05}.items():
        weights[INDEX[name]] = weight
    got = answer(visit(VISIT, maxFactors=2), LinearModel(weights)).factors
    assert [(one.name, one.value, one.direction) for one in got] == [
        ("pageViews", 4, "lowers"),
        ("eventCount", 9, "raises"),
        ("otherFeatures", None, "raises"),
    ]
    assert [one.contribution for one in got] == pytest.approx([-2.0, 0.9, 0.3 + 0.06 - 0.05])
    assert [one.unit for one in got[:2]] == ["pages", "events"]


def test_all_factors_leave_no_rest_and_zeros_are_not_listed() -> None:
    weights = np.zeros(len(NAMES))
    weights[INDEX["pageViews"]] = 1.0
    got = answer(bare(maxFactors=len(NAMES)), LinearModel(weights)).factors
    assert [(one.name, one.contribution) for one in got] == [("pageViews", 4.0)]
    assert answer(bare(), LinearModel(np.zeros(len(NAMES)))).factors == []


class WithMissing(LinearModel):
    """A model in which missing features have contributions too."""

    def _shares(self, X: F32) -> F64:
        return np.where(np.isnan(X), 0.5, 0.25)


def test_a_factor_shows_the_value_as_it_is_known() -> None:
    body = bare(contextData__visitorType="Returning_Visitor", behaviorData__aggregates={"bounceRate": 0.2}, maxFactors=len(NAMES))
    values = {factor.name: factor.value for factor in answer(body, WithMissing()).factors}
    assert (values["visitorType"], values["bounceRate"], values["dayOfWeek"]) == ("returning", 0.2, 1)
    assert (values["region"], values["pageValue"]) == (None, None)


def test_without_factors_none_are_computed_and_their_sum_is_returned() -> None:
    model = LinearModel()
    one = scorer(model)
    asked = [decoded(visit(VISIT, maxFactors=most)) for most in (0, 3, None, 0)]
    model.explained.clear()
    answers = one.rows(asked, one.run(one.columns(asked)))
    assert sum(len(X) for X in model.explained) == 2
    assert [len(answered.factors) for answered in answers] == [1, 4, DEFAULT_FACTORS + 1, 1]
    (whole,) = answers[0].factors
    assert whole.name == "otherFeatures"
    assert whole.contribution == pytest.approx(math.fsum(factor.contribution for factor in answers[2].factors))


def test_the_example_has_factors() -> None:
    got = answer(dict(EXAMPLE))
    assert len(got.factors) == DEFAULT_FACTORS + 1
