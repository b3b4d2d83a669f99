"""What a request states and the served model cannot use is named, and nothing else is."""

import numpy as np
import pytest

from serving.engines.purchase.ignored import FIELDS, OF_TYPE
from tests.serving.sessions import VISIT, Body, LinearModel, answer, at, bare, put, visit
from training.features import EVENT_TYPES, FEATURES, NAMES

PUBLISHED = ("administrativeCount", "administrativeSeconds", "productCount", "productSeconds", "bounceRate", "month", "visitorType")


def model(*used: str) -> LinearModel:
    """Return a model whose score depends on these features alone."""
    made = LinearModel(np.array([0.5 if name in used else 0.0 for name in NAMES]))
    made.used = frozenset(used)
    return made


def ignored(body: Body, *used: str) -> list[str]:
    got = answer(body, model(*used) if used else None)
    assert got.more_ignored == 0
    return got.ignored


def test_every_field_that_becomes_a_feature_is_in_the_table():
    stated = {feature for _, of in FIELDS.values() for feature in of}
    assert {feature.name for feature in FEATURES if not feature.counted} <= stated
    assert set(OF_TYPE) == set(EVENT_TYPES) - {"unknown"}
    assert {feature for of in OF_TYPE.values() for feature in of} <= set(NAMES)


def test_nothing_is_ignored_where_the_model_uses_every_feature():
    assert ignored(visit(VISIT, contextData__browser="13", contextData__month=5)) == []


def test_a_type_of_event_that_the_model_has_no_feature_of_is_named():
    """A model of the published table has visits, and no counts of searches, cart changes, checkouts and clicks."""
    found = ignored(visit([*VISIT, at(60, "view_cart"), at(61, "begin_checkout")]), *PUBLISHED)
    assert [path for path in found if "interactions" in path] == [
        f"behaviorData.interactions.{name}" for name in ("search", "click", "add_to_cart", "checkout", "change")
    ]


@pytest.mark.parametrize("feature", ["eventCount", "activeSeconds", "lastGapSeconds"])
def test_no_known_type_is_ignored_by_a_model_that_counts_all_events(feature: str):
    assert [path for path in ignored(visit(VISIT), feature) if "interactions" in path] == []


def test_types_that_are_not_known_are_named_once_each():
    events = [*VISIT, at(51, "add_to_basket"), at(52, "zoom"), at(53, "zoom")]
    assert ignored(visit(events)) == ["behaviorData.interactions.add_to_basket", "behaviorData.interactions.zoom"]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("behaviorData.aggregates.pageValue", 3.5),
        ("behaviorData.aggregates.informationalCount", 2),
        ("contextData.month", 5),
        ("contextData.specialDay", 0.5),
        ("contextData.browser", "13"),
        ("contextData.location.region", "NL-ZH"),
        ("contextData.trafficType", "social"),
        ("contextData.visitorType", "Other"),
    ],
)
def test_a_field_without_an_effect_on_the_score_is_named_where_it_is_stated(path: str, value: object):
    stated, used = put(bare(), {path: value}), set(NAMES) - set(FIELDS[path][1])
    assert ignored(stated, *used) == [path]
    assert ignored(bare(), *used) == []
    assert ignored(stated) == []


@pytest.mark.parametrize(
    "path", ["contextData.browser", "contextData.location.region", "contextData.visitorType", "contextData.trafficType"]
)
def test_a_value_that_training_has_not_seen_is_named_by_its_field(path: str):
    assert ignored(put(bare(), {path: "netscape"})) == [path]


def test_of_much_that_is_ignored_twenty_paths_are_listed_and_the_others_counted():
    got = answer(visit([at(place, f"zoom-{place % 30}") for place in range(60)]))
    assert got.ignored == [f"behaviorData.interactions.zoom-{place}" for place in range(20)]
    assert got.more_ignored == 10


def test_a_name_of_any_length_is_cut():
    (path,) = ignored(visit([at(1, "x" * 256)]))
    assert path == "behaviorData.interactions." + "x" * 74 + "..."


def test_nothing_of_a_name_is_interpreted():
    assert ignored(visit([at(1, 'a"b\\c.d'), at(2, "é")])) == ['behaviorData.interactions.a"b\\c.d', "behaviorData.interactions.é"]
