"""Requests to the purchase engine from the simulated shop's backend, at the scored moment of a session.

Row i of the requests is row i of the training table: the same session, with bit-identical features once decoded by the server. The format
of times varies by row, as among clients: epoch milliseconds, ISO 8601 in UTC, ISO 8601 with the local offset, or a mixture. Null cells
of the table are omitted.
"""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import numpy as np
import polars as pl

from training import features
from training.datasets.shop.customers import REGIONS

REFERRERS = {
    "affiliate": "https://deals.example/",
    "email": "https://mail.example/",
    "organic": "https://search.example/",
    "paid": "https://search.example/ads",
    "referral": "https://blog.example/",
    "social": "https://social.example/",
}
CONTEXT = ("timeOfDay", "dayOfWeek", "month", "specialDay", "deviceType", "operatingSystem", "browser", "trafficType", "visitorType")
WHOLE = ("dayOfWeek", "month", "pageViews")
DETAILS = ("x", "y", "waitMs")

Row = dict[str, Any]
Clock = Callable[[datetime, int], int | str]


def _epoch(moment: datetime, hours: int) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


def _utc(moment: datetime, hours: int) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _local(moment: datetime, hours: int) -> str:
    return moment.astimezone(timezone(timedelta(hours=hours))).isoformat(timespec="milliseconds")


CLOCKS: tuple[tuple[Clock, ...], ...] = ((_epoch,), (_utc,), (_local,), (_epoch, _local, _utc))


def bodies(table: pl.DataFrame, events: pl.DataFrame) -> list[Row]:
    """Return the body of a PurchasePredictionRequest for each row of `table`, in its order; `events` may hold further events."""
    seen = _seen(table, events)
    return [
        _body(row, interactions, CLOCKS[number % len(CLOCKS)])
        for number, (row, interactions) in enumerate(zip(table.iter_rows(named=True), seen, strict=True))
    ]


def _seen(table: pl.DataFrame, events: pl.DataFrame) -> Iterator[list[Row]]:
    """Yield the events of each session up to its scored moment."""
    until = table.select("sessionId", "asOf")
    known = events.join(until, on="sessionId", how="inner", maintain_order="left").filter(pl.col("timestamp") <= pl.col("asOf"))
    rows: dict[str, list[Row]] = {session: [] for session in table["sessionId"]}
    for row in known.iter_rows(named=True):
        rows[row["sessionId"]].append(row)
    yield from rows.values()


def _body(row: Row, seen: list[Row], clocks: tuple[Clock, ...]) -> Row:
    hours = REGIONS[row["region"]][0] if row["region"] else 0
    behaviour = {
        "pageViews": int(row["pageViews"]),
        "timeOnSite": _number(row, "timeOnSite"),
        "interactions": [_interaction(event, clocks[n % len(clocks)], hours) for n, event in enumerate(seen)],
        "currentPage": _path([event for event in seen if event["type"] in ("page_view", "product_view")][-1]),
        "referrer": REFERRERS.get(row["trafficType"]),
        "aggregates": _present({name: _number(row, name) for name in features.PAGE_STATISTICS}) or None,
    }
    region = row["region"]
    context = {name: _number(row, name) for name in CONTEXT}
    context["location"] = {"country": region[:2], "region": region} if region else None
    return _present(
        {
            "sessionId": row["sessionId"],
            "customerId": row["customerId"],
            "behaviorData": _present(behaviour),
            "contextData": _present(context),
        }
    )


def _interaction(event: Row, clock: Clock, hours: int) -> Row:
    details = {"type": event["type"], "timestamp": clock(event["timestamp"], hours), "pageKind": event["pageKind"]}
    details |= {name: None if event[name] is None else int(event[name]) for name in DETAILS}
    return _present({**details, "productId": event["productId"]})


def _number(row: Row, name: str) -> Any:
    """Return a cell as a client writes it: the shortest decimal of the table's float32; counts as integers."""
    value = row[name]
    if not isinstance(value, float):
        return value
    return int(value) if name in WHOLE else float(str(np.float32(value)))


def _path(view: Row) -> str:
    return f"/product/{view['productId']}" if view["productId"] else f"/{view['pageKind']}"


def _present(row: Row) -> Row:
    return {name: value for name, value in row.items() if value is not None}
