"""A session in a request: every field reaches its feature, events in whatever order, as of one moment."""

import math
from datetime import UTC, datetime, timedelta

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.serving.sessions import NOW, VISIT, VOCABULARY, Body, LinearModel, answer, at, bare, decoded, put, row, same, scorer, visit
from training.datasets.shop import shop
from training.datasets.shop import table as shop_table
from training.features import CATEGORIES, FEATURES, INDEX, Vocabulary

STATED = {
    "behaviorData.pageViews": (7, "pageViews", 7),
    "behaviorData.timeOnSite": (61.5, "timeOnSite", 61.5),
    **{
        f"behaviorData.aggregates.{name}": (value, name, value)
        for name, value in {
            "administrativeCount": 1,
            "administrativeSeconds": 2.5,
            "informationalCount": 3,
            "informationalSeconds": 4.5,
            "productCount": 5,
            "productSeconds": 6.5,
            "bounceRate": 0.25,
            "exitRate": 0.5,
            "pageValue": 7.5,
        }.items()
    },
    "contextData.timeOfDay": (23.75, "timeOfDay", 23.75),
    "contextData.dayOfWeek": (3, "dayOfWeek", 3),
    "contextData.month": (12, "month", 12),
    "contextData.specialDay": (0.75, "specialDay", 0.75),
    "contextData.deviceType": ("desktop", "deviceType", 0),
    "contextData.operatingSystem": (3, "operatingSystem", 2),
    "contextData.browser": ("13", "browser", 2),
    "contextData.location.region": ("nl-zh", "region", 1),
    "contextData.trafficType": ("social", "trafficType", 2),
    "contextData.visitorType": ("Returning_Visitor", "visitorType", 2),
}


@pytest.mark.parametrize("path", STATED)
def test_what_a_request_states_is_its_feature(path: str) -> None:
    value, name, expected = STATED[path]
    assert row(put(bare(), {path: value}))[name] == expected
    source = FEATURES[INDEX[name]].source.split(",")[0]
    assert path in (source, f"{source}.{name}"), "the feature table says where it comes from"


def test_every_feature_that_is_not_counted_can_be_stated() -> None:
    stated = {name for _, name, _ in STATED.values()} | {"weekend"}
    assert {feature.name for feature in FEATURES if not feature.counted} <= stated


def test_what_is_absent_is_missing_and_never_zero() -> None:
    known = {name for name, value in row(bare()).items() if not math.isnan(value)}
    assert known == {"pageViews", "timeOnSite", "timeOfDay", "dayOfWeek", "weekend", "deviceType"}


@pytest.mark.parametrize(("day", "weekend"), [(0, 1), (1, 0), (5, 0), (6, 1), (6.0, 1)])
def test_sunday_and_saturday_are_the_weekend(day: float, weekend: int) -> None:
    assert row(bare(contextData__dayOfWeek=day))["weekend"] == weekend


@pytest.mark.parametrize("value", [1, 1.0, "1", " 1 "])
def test_a_category_that_is_a_number_may_be_written_as_one_or_as_text(value: str | float) -> None:
    assert row(bare(contextData__browser=value))["browser"] == 0


@pytest.mark.parametrize(
    ("field", "value"), [("deviceType", "unknown"), ("deviceType", "Unknown"), ("deviceType", "toaster"), ("browser", 99)]
)
def test_an_unknown_category_is_missing(field: str, value: str | int) -> None:
    assert math.isnan(row(put(bare(), {f"contextData.{field}": value}))[field])


@pytest.fixture(scope="module")
def season() -> shop.Shop:
    return shop.simulate(400, seed=11)


def test_a_request_of_the_simulated_shop_has_the_features_of_its_row_to_the_bit(season: shop.Shop) -> None:
    asked = [decoded(body) for body in msgspec.json.decode(msgspec.json.encode(season.requests))]
    rows = season.sessions.head(len(asked))
    vocabulary = Vocabulary.fit({name: rows[name].to_list() for name in CATEGORIES})
    model = LinearModel()
    model.vocabulary = vocabulary
    expected = shop_table.numbers(rows)
    for name in CATEGORIES:
        expected[:, INDEX[name]] = [vocabulary.code(name, value) for value in rows[name]]
    np.testing.assert_array_equal(scorer(model).columns(asked).X.view(np.uint32), expected.view(np.uint32))


def test_interactions_are_counted() -> None:
    counted = row(visit(VISIT))
    expected = {
        "eventCount": 9,
        "activeSeconds": 50,
        "lastGapSeconds": 8,
        "clickCount": 3,
        "rageClickCount": 1,
        "productViewCount": 1,
        "productCount": 1,
        "productSeconds": 33,
        "informationalCount": 1,
        "informationalSeconds": 8,
        "searchCount": 1,
        "cartAddCount": 1,
        "cartRemoveCount": 0,
        "checkoutCount": 1,
        "waitSeconds": 0.25,
        "pageViews": 4,
    }
    assert {name: counted[name] for name in expected} == expected


def test_given_aggregates_are_used_and_the_others_are_counted() -> None:
    both = row(visit(VISIT, behaviorData__aggregates={"productCount": 0, "productSeconds": None, "pageValue": 3}))
    assert (both["productCount"], both["productSeconds"], both["pageValue"]) == (0, 33, 3)


@given(st.permutations(VISIT))
def test_the_order_in_which_interactions_are_sent_does_not_matter(events: list[Body]) -> None:
    assert same(visit(events), visit(VISIT))


def test_interactions_of_one_moment_keep_the_order_in_which_they_are_sent() -> None:
    first, second = at(1, "product_view", pageKind="product"), at(1, "page_view", pageKind="informational")
    end = at(11, "scroll")
    assert row(visit([end, first, second]))["informationalSeconds"] == 10
    assert row(visit([end, second, first]))["productSeconds"] == 10


@pytest.mark.parametrize(
    "stamp", ["2026-03-01T12:00:00.25Z", "2026-03-01T13:00:00.250+01:00", "2026-03-01 06:30:00.25-05:30", 1772366400250, 1772366400250.0]
)
def test_a_moment_may_be_written_in_iso_8601_with_a_zone_or_in_milliseconds(stamp: str | float) -> None:
    event = at(10)
    assert row(visit([{"type": "click", "timestamp": stamp}, event]))["lastGapSeconds"] == 9.75
    assert answer(bare(asOf=stamp)).as_of == datetime(2026, 3, 1, 12, 0, 0, 250_000, tzinfo=UTC)


@given(st.integers(946684800000, 4102444799999), st.integers(0, 10_000))
def test_a_moment_is_the_same_to_the_millisecond_however_it_is_written(first: int, gap: int) -> None:
    last = min(first + gap, 4102444799999)
    written = [(datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)).isoformat() for ms in (first, last)]
    texts = visit([{"type": "click", "timestamp": stamp} for stamp in written])
    assert same(texts, visit([{"type": "click", "timestamp": ms} for ms in (first, last)]))
    assert row(texts)["activeSeconds"] == np.float32((last - first) / 1000)


def test_unknown_types_and_page_kinds_are_counted_as_unknown() -> None:
    stranger = row(visit([at(0, "levitate", pageKind="moon"), at(5, "page_view", pageKind="moon"), at(9, "wait", waitMs=500)]))
    assert (stranger["eventCount"], stranger["productCount"], stranger["waitSeconds"]) == (3, 0, 0.5)


def test_a_purchase_is_not_seen_for_it_would_be_the_answer() -> None:
    bought = [*VISIT, at(60, "purchase", pageKind="checkout", value=99)]
    assert same(visit(bought), visit(VISIT))
    assert answer(visit(bought)).as_of == answer(visit(VISIT)).as_of
    assert same(visit([at(60, "purchase")]), visit([]))


@pytest.mark.parametrize("seen", range(len(VISIT) + 1))
def test_a_session_as_of_a_moment_is_what_was_known_then(seen: int) -> None:
    moment = VISIT[seen - 1]["timestamp"] if seen else VISIT[0]["timestamp"] - 1
    known = visit(VISIT[:seen], asOf=moment)
    assert same(visit(VISIT, asOf=moment), known)
    assert same(visit(VISIT[::-1], asOf=moment), known)


def test_sessions_of_a_batch_do_not_mix() -> None:
    bodies = [visit(VISIT), visit([]), visit(VISIT[:2]), visit([at(0, "purchase")]), visit(VISIT[::-1])]
    together = scorer().columns([decoded(body) for body in bodies])
    for X, body in zip(together.X, bodies, strict=True):
        np.testing.assert_array_equal(X, scorer().columns([decoded(body)]).X[0])


@pytest.mark.parametrize(
    ("changes", "month"),
    [
        ({}, None),
        ({"contextData.month": 7}, 7),
        ({"asOf": "2026-02-28T23:30:00-01:00"}, 3),
        ({"behaviorData.interactions": VISIT}, 3),
        ({"behaviorData.interactions": VISIT, "asOf": "2026-05-01T00:00:00Z"}, 5),
        ({"behaviorData.interactions": VISIT, "contextData.month": 8}, 8),
    ],
)
def test_the_month_is_stated_or_that_of_the_moment_in_utc(changes: Body, month: int | None) -> None:
    got = row(put(bare(), changes))["month"]
    assert math.isnan(got) if month is None else got == month


@pytest.mark.parametrize(
    ("changes", "traffic"),
    [
        ({"referrer": "https://www.google.co.uk/search?q=shoes"}, "organic"),
        ({"referrer": "https://m.facebook.com/"}, "social"),
        ({"referrer": ""}, "direct"),
        ({"referrer": None}, None),
        ({"referrer": "https://mail.google.com/"}, None),
        ({"referrer": "https://blog.example.org/"}, None),
        ({"referrer": "https://www.google.com/", "trafficType": "direct"}, "direct"),
        ({"referrer": "https://www.google.com/", "trafficType": "balloon"}, None),
    ],
)
def test_the_traffic_type_is_stated_or_the_class_of_the_referrer_if_the_model_has_it(changes: Body, traffic: str | None) -> None:
    body = bare(behaviorData__referrer=changes["referrer"], contextData__trafficType=changes.get("trafficType"))
    expected = VOCABULARY.code("trafficType", traffic)
    np.testing.assert_equal(row(body)["trafficType"], expected)


def test_the_moment_of_the_score_is_as_of_else_the_latest_interaction_else_now() -> None:
    moment = "2026-03-01T12:00:42Z"
    assert answer(visit(VISIT, asOf=moment)).as_of == datetime(2026, 3, 1, 12, 0, 42, tzinfo=UTC)
    assert answer(visit(VISIT[::-1])).as_of == datetime(2026, 3, 1, 12, 0, 50, tzinfo=UTC)
    assert answer(bare()).as_of == NOW
    assert answer(visit(VISIT)).timestamp == NOW
