"""One definition of a feature: names, order, vocabulary, and the same bits for a session alone and among a million."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels.sessions import features as sessions
from kernels.types import F64
from training import features
from training.features import EVENT_CODES, FEATURES, INDEX, NAMES, PAGE_CODES, PAGE_KINDS, Events, Vocabulary, category_key

MILLION = 1_000_000


@pytest.fixture(scope="module")
def million() -> tuple[F64, Events]:
    """Return what is given and the events of a million sessions of none to four events."""
    rng = np.random.default_rng(11)
    offsets = np.concatenate([[0], np.cumsum(rng.integers(0, 5, MILLION))])
    size = int(offsets[-1])
    known = features.given(MILLION)
    rows = rng.integers(0, MILLION, MILLION)
    known[rows, rng.integers(0, len(NAMES), MILLION)] = rng.uniform(0, 1e4, MILLION)
    return (
        known,
        Events(
            offsets=offsets,
            kind=rng.integers(0, 12, size, np.int8),
            page=rng.integers(0, 11, size, np.int8),
            time_ms=1_700_000_000_000 + np.cumsum(rng.integers(0, 900, size)),
            x=rng.uniform(0, 20, size).astype(np.float32),
            y=rng.uniform(0, 20, size).astype(np.float32),
            target=rng.integers(-1, 3, size),
            wait_ms=np.where(rng.random(size) < 0.5, np.nan, rng.uniform(0, 1e4, size)).astype(np.float32),
        ),
    )


def test_a_session_alone_gives_the_same_bits_as_among_a_million(million: tuple[F64, Events]) -> None:
    known, events = million
    together = features.matrix(known, events)
    longest = np.flatnonzero(np.diff(events.offsets) == 4)[:250]
    for row in [*range(250), *longest, *range(499_750, 500_000), *range(MILLION - 250, MILLION)]:
        first, last = events.offsets[row : row + 2]
        own = Events(
            np.array([0, last - first]),
            *(getattr(events, name)[first:last].copy() for name in ("kind", "page", "time_ms", "x", "y", "target", "wait_ms")),
        )
        alone = features.matrix(known[row : row + 1].copy(), own)
        assert alone.tobytes() == together[row].tobytes(), f"session {row}"


def test_no_events_known_leaves_only_what_is_given() -> None:
    known = features.given(3)
    known[1, INDEX["month"]] = 5
    np.testing.assert_array_equal(features.matrix(known, Events.none(3)), known.astype(np.float32))


@pytest.mark.parametrize(
    ("column", "name"),
    [
        (sessions.COUNTS[sessions.ADMINISTRATIVE], "administrativeCount"),
        (sessions.SECONDS[sessions.ADMINISTRATIVE], "administrativeSeconds"),
        (sessions.COUNTS[sessions.INFORMATIONAL], "informationalCount"),
        (sessions.SECONDS[sessions.INFORMATIONAL], "informationalSeconds"),
        (sessions.COUNTS[sessions.PRODUCT], "productCount"),
        (sessions.SECONDS[sessions.PRODUCT], "productSeconds"),
        (sessions.EVENT_COUNT, "eventCount"),
        (sessions.ACTIVE_SECONDS, "activeSeconds"),
        (sessions.LAST_GAP_SECONDS, "lastGapSeconds"),
        (sessions.CLICK_COUNT, "clickCount"),
        (sessions.PRODUCT_VIEW_COUNT, "productViewCount"),
        (sessions.SEARCH_COUNT, "searchCount"),
        (sessions.CART_ADD_COUNT, "cartAddCount"),
        (sessions.CART_REMOVE_COUNT, "cartRemoveCount"),
        (sessions.CHECKOUT_COUNT, "checkoutCount"),
        (sessions.RAGE_CLICK_COUNT, "rageClickCount"),
        (sessions.WAIT_SECONDS, "waitSeconds"),
    ],
)
def test_the_columns_of_the_kernel_are_those_of_the_table(column: int, name: str) -> None:
    assert INDEX[name] == column


def test_the_counted_features_come_first_and_are_those_that_the_kernel_fills() -> None:
    assert [feature.counted for feature in FEATURES] == [i < sessions.EVENT_FEATURES for i in range(len(FEATURES))]
    assert len(set(NAMES)) == len(NAMES)


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("page_view", sessions.PAGE_VIEW),
        ("product_view", sessions.PRODUCT_VIEW),
        ("search", sessions.SEARCH),
        ("add_to_cart", sessions.ADD_TO_CART),
        ("remove_from_cart", sessions.REMOVE_FROM_CART),
        ("checkout", sessions.CHECKOUT),
        ("click", sessions.CLICK),
        ("unknown", 0),
    ],
)
def test_the_kernel_and_the_table_mean_the_same_event(kind: str, code: int) -> None:
    assert EVENT_CODES[kind] == code


def test_every_kind_of_page_has_its_group() -> None:
    groups = {kind: int(sessions.PAGE_GROUPS[PAGE_CODES[kind]]) for kind in PAGE_KINDS}
    assert len(sessions.PAGE_GROUPS) == len(PAGE_KINDS)
    assert PAGE_CODES["unknown"] == sessions.UNKNOWN_PAGE
    assert groups["administrative"] == sessions.ADMINISTRATIVE
    assert groups["informational"] == sessions.INFORMATIONAL
    assert groups["product"] == sessions.PRODUCT
    assert groups["unknown"] == groups["other"] == groups["home"] == sessions.NO_GROUP


@pytest.mark.parametrize(
    ("value", "key"),
    [
        ("Returning_Visitor", "returning"),
        ("New_Visitor", "new"),
        ("Other", "other"),
        ("returning", "returning"),
        ("  Mobile ", "mobile"),
        (2, "2"),
        (np.int64(2), "2"),
        ("2", "2"),
    ],
)
def test_a_category_is_looked_up_without_case_space_or_the_published_suffix(value: object, key: str) -> None:
    assert category_key(value) == key


def test_numbers_are_numbered_by_size_before_text_by_alphabet() -> None:
    learned = Vocabulary.fit({"region": [10, 2, "west", "East", "1", None, 2]})
    assert learned.codes["region"] == {"1": 0, "2": 1, "10": 2, "east": 3, "west": 4}


def test_a_published_string_and_a_caller_s_spelling_are_one_category() -> None:
    learned = Vocabulary.fit({"visitorType": ["Returning_Visitor", "New_Visitor", "Other", "Returning_Visitor"]})
    assert learned.codes["visitorType"] == {"new": 0, "other": 1, "returning": 2}
    assert learned.code("visitorType", "returning") == learned.code("visitorType", "Returning_Visitor") == 2


@pytest.mark.parametrize(("feature", "value"), [("region", "atlantis"), ("region", None), ("browser", "2"), ("region", "")])
def test_what_was_never_seen_is_missing(feature: str, value: object) -> None:
    assert math.isnan(Vocabulary.fit({"region": ["2", "3"]}).code(feature, value))


@given(st.lists(st.one_of(st.integers(0, 50), st.text(max_size=8)), min_size=1))
def test_every_value_seen_has_a_code_from_0_up_and_only_equal_keys_share_one(values: list[object]) -> None:
    learned = Vocabulary.fit({"region": values})
    codes = {category_key(value): learned.code("region", value) for value in values}
    assert sorted(codes.values()) == list(range(len(codes)))
