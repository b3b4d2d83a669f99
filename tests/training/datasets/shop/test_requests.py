"""The simulated shop's requests have the values of the rows of its training table."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import numpy as np
import pytest

from kernels.types import F32
from training import features
from training.datasets.shop import shop
from training.datasets.shop import table as shop_table


@pytest.fixture(scope="module")
def year() -> shop.Shop:
    return shop.simulate(1_200, seed=5)


def _milliseconds(timestamp: str | int) -> int:
    if isinstance(timestamp, int):
        return timestamp
    return (datetime.fromisoformat(timestamp) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


def _matrix(bodies: list[dict[str, Any]]) -> F32:
    """Return the numbers of some requests, read the obvious way."""
    given = features.given(len(bodies))
    for row, body in zip(given, bodies, strict=True):
        behaviour, context = body["behaviorData"], body["contextData"]
        stated = {name: behaviour[name] for name in ("pageViews", "timeOnSite")} | behaviour.get("aggregates", {})
        stated |= {name: context[name] for name in ("timeOfDay", "dayOfWeek", "month", "specialDay")}
        for name, value in stated.items():
            row[features.INDEX[name]] = value
        row[features.INDEX["weekend"]] = context["dayOfWeek"] in (0, 6)
    flat = [event for body in bodies for event in body["behaviorData"]["interactions"]]
    lengths = [len(body["behaviorData"]["interactions"]) for body in bodies]
    return features.matrix(
        given,
        features.Events(
            np.concatenate(([0], np.cumsum(lengths))).astype(np.int64),
            np.array([features.EVENT_CODES[event["type"]] for event in flat], np.int8),
            np.array([features.PAGE_CODES[event["pageKind"]] for event in flat], np.int8),
            np.array([_milliseconds(event["timestamp"]) for event in flat], np.int64),
            *(np.array([event.get(name, np.nan) for event in flat], np.float32) for name in ("x", "y")),
            np.zeros(len(flat), np.int64),
            np.array([event.get("waitMs", np.nan) for event in flat], np.float32),
        ),
    )


def test_a_request_has_the_features_of_its_row_to_the_bit(year: shop.Shop) -> None:
    rows = year.sessions.head(1_000)
    bodies = msgspec.json.decode(msgspec.json.encode(year.requests))
    assert [body["sessionId"] for body in bodies] == rows["sessionId"].to_list()
    np.testing.assert_array_equal(_matrix(bodies).view(np.uint32), shop_table.numbers(rows).view(np.uint32))
    for body, row in zip(bodies, rows.iter_rows(named=True), strict=True):
        context = body["contextData"] | body["contextData"].get("location", {})
        assert body.get("customerId") == row["customerId"]
        assert [context.get(name) for name in features.CATEGORIES] == [row[name] for name in features.CATEGORIES]


def test_requests_differ_in_their_fields_and_in_their_format_of_times(year: shop.Shop) -> None:
    stamps = [event["timestamp"] for body in year.requests for event in body["behaviorData"]["interactions"]]
    assert {type(stamp) for stamp in stamps} == {int, str}
    assert {stamp[-1] == "Z" for stamp in stamps if isinstance(stamp, str)} == {True, False}
    for told in ("customerId", "aggregates", "location", "browser", "trafficType", "referrer"):
        share = np.mean([told in body or told in body["behaviorData"] or told in body["contextData"] for body in year.requests])
        assert 0.2 < share < 0.99, told
