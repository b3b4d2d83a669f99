"""A session that cannot be is refused, by the path of what is wrong."""

import math
from typing import Any

import msgspec
import pytest

from serving.engines.purchase.types import MAX_INTERACTIONS, PurchasePredictionRequest
from serving.errors import InvalidRequestError, TooLargeError
from tests.serving.sessions import Body, answer, at, bare, decoded, put, row, visit
from training.features import FEATURES

REFUSED: dict[str, list[Any]] = {
    "sessionId": ["", "s" * 257, None, 7],
    "customerId": ["", "c" * 257],
    "asOf": ["2026-03-01T12:00:00", "yesterday", 1772366400, -1, 4102444800000, True],
    "maxFactors": [-1, len(FEATURES) + 1, 2.5, "5"],
    "behaviorData.pageViews": [-1, 1e10, "4", None, True],
    "behaviorData.timeOnSite": [-0.001, 1e10, None],
    "behaviorData.interactions": [None, {}, "none"],
    "behaviorData.currentPage": [None, "x" * 4097],
    "behaviorData.referrer": ["x" * 4097, 1],
    "behaviorData.aggregates.productCount": [-1],
    "behaviorData.aggregates.productSeconds": [-0.5],
    "behaviorData.aggregates.bounceRate": [-0.1, 1.1],
    "behaviorData.aggregates.exitRate": [1.0001],
    "behaviorData.aggregates.pageValue": [-1],
    "contextData.deviceType": [None, "x" * 257, 3],
    "contextData.timeOfDay": [-0.1, 24, 24.5, "noon"],
    "contextData.dayOfWeek": [-1, 7, 2.5],
    "contextData.month": [0, 13, 1.5],
    "contextData.specialDay": [-0.1, 1.1],
    "contextData.browser": [1.5, "x" * 257, [], 1e300],
    "contextData.location.latitude": [91],
    "contextData.location.longitude": [-181],
}


@pytest.mark.parametrize(("path", "value"), [(path, value) for path, values in REFUSED.items() for value in values], ids=str)
def test_what_is_out_of_bounds_is_refused_by_its_path(path: str, value: Any) -> None:
    with pytest.raises(msgspec.ValidationError) as caught:
        decoded(put(bare(), {path: value}))
    assert f"`$.{path}" in str(caught.value)


@pytest.mark.parametrize("path", ["sessionId", "behaviorData.currentPage", "behaviorData.interactions", "contextData.timeOfDay"])
def test_a_required_field_cannot_be_left_out(path: str) -> None:
    body = bare()
    *parents, field = path.split(".")
    del (body[parents[0]] if parents else body)[field]
    with pytest.raises(msgspec.ValidationError, match=f"missing required field `{field}`"):
        decoded(body)


@pytest.mark.parametrize(
    "change",
    [
        {"timestamp": "2026-03-01T12:00:00"},
        {"timestamp": None},
        {"type": None},
        {"waitMs": -1},
        {"x": 1e9},
        {"pageKind": 3},
        {"value": "free"},
    ],
    ids=str,
)
def test_a_wrong_interaction_is_refused_by_its_place(change: Body) -> None:
    with pytest.raises(msgspec.ValidationError, match=r"\$\.behaviorData\.interactions\[1\]"):
        decoded(visit([at(0), at(1) | change]))


def test_a_moment_of_another_age_is_refused_wherever_it_is() -> None:
    events = [at(0), {"type": "click", "timestamp": "1999-12-31T23:59:59Z"}, at(1), {"type": "click", "timestamp": "2100-01-01T00:00:00Z"}]
    with pytest.raises(InvalidRequestError) as caught:
        decoded(visit(events, asOf="0001-01-01T00:00:00+23:59"))
    assert [problem.field for problem in caught.value.problems] == [
        "behaviorData.interactions[1].timestamp",
        "behaviorData.interactions[3].timestamp",
        "asOf",
    ]


@pytest.mark.parametrize("stamp", ["2000-01-01T00:00:00Z", "2099-12-31T23:59:59.999999Z", "2000-01-01T00:00:00+23:59", 946684800000])
def test_the_first_and_the_last_moment_are_scored(stamp: str | int) -> None:
    assert math.isfinite(answer(visit([{"type": "click", "timestamp": stamp}], asOf=stamp)).purchase_probability)


def test_ten_thousand_interactions_are_taken_and_one_more_is_too_many() -> None:
    events = [at(i) for i in range(MAX_INTERACTIONS)]
    assert row(visit(events))["eventCount"] == MAX_INTERACTIONS == 10_000
    with pytest.raises(TooLargeError, match="10,001 events") as caught:
        decoded(visit([*events, at(0)]))
    assert caught.value.field == "behaviorData.interactions"


def test_the_schema_states_the_bounds() -> None:
    _, schemas = msgspec.json.schema_components([PurchasePredictionRequest])
    context, behavior = schemas["ContextData"]["properties"], schemas["BehaviorData"]["properties"]
    assert {"minimum": 0, "exclusiveMaximum": 24}.items() <= context["timeOfDay"].items()
    assert {"minimum": 0, "maximum": 6, "multipleOf": 1}.items() <= context["dayOfWeek"].items()
    assert behavior["interactions"]["maxItems"] == MAX_INTERACTIONS
    assert schemas["PurchasePredictionRequest"]["required"] == ["sessionId", "behaviorData", "contextData"]
    assert schemas["BehaviorData"]["required"] == ["pageViews", "timeOnSite", "interactions", "currentPage"]
    assert schemas["ContextData"]["required"] == ["deviceType", "timeOfDay", "dayOfWeek"]
    assert schemas["InteractionEvent"]["required"] == ["type", "timestamp"]
