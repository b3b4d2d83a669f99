"""Slow, obvious twins of the kernels: plain Python over one thing at a time, written from the definitions and not from the kernels."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

GROUP_OF_PAGE = {
    "administrative": "administrative",
    "account": "administrative",
    "cart": "administrative",
    "checkout": "administrative",
    "informational": "informational",
    "product": "product",
    "category": "product",
    "search": "product",
}
COUNTED_ACTIONS = {
    "clickCount": "click",
    "productViewCount": "product_view",
    "searchCount": "search",
    "cartAddCount": "add_to_cart",
    "cartRemoveCount": "remove_from_cart",
    "checkoutCount": "checkout",
}


class Event(NamedTuple):
    """One interaction: its type, kind of page, epoch milliseconds, pixels and milliseconds waited; NaN is unknown."""

    kind: str
    page: str
    time_ms: int
    x: float
    y: float
    wait_ms: float


def session_features(events: Sequence[Event], given: Mapping[str, float]) -> dict[str, float]:
    """Return the features of one session by name: what is given, else what its events count; what neither says is left out."""
    return {**_counted(events), **given}


def rage_clicks(events: Sequence[Event]) -> int:
    """Return how many runs of three or more clicks there are in which each is near the one before in place and time."""
    clicks = [event for event in events if event.kind == "click"]
    runs: list[list[Event]] = []
    for click in clicks:
        if runs and _near(runs[-1][-1], click):
            runs[-1].append(click)
        else:
            runs.append([click])
    return sum(len(run) >= 3 for run in runs)


def _near(one: Event, two: Event) -> bool:
    return abs(one.x - two.x) + abs(one.y - two.y) < 30 and two.time_ms - one.time_ms < 1000


def _counted(events: Sequence[Event]) -> dict[str, float]:
    if not events:
        return {}
    start, end = events[0].time_ms, events[-1].time_ms
    counted: dict[str, float] = {
        "eventCount": len(events),
        "activeSeconds": (end - start) / 1000,
        "rageClickCount": rage_clicks(events),
        "waitSeconds": sum(event.wait_ms for event in events if not math.isnan(event.wait_ms)) / 1000,
        **_visited(events),
    }
    for feature, kind in COUNTED_ACTIONS.items():
        counted[feature] = sum(event.kind == kind for event in events)
    if len(events) > 1:
        counted["lastGapSeconds"] = (end - events[-2].time_ms) / 1000
    return counted


def _visited(events: Sequence[Event]) -> dict[str, float]:
    """Return count and seconds of the visits to each group of pages; a visit ends with the next one or with the session."""
    visits = [event for event in events if event.kind in ("page_view", "product_view")]
    ends = [visit.time_ms for visit in visits[1:]] + [events[-1].time_ms]
    features: dict[str, float] = {}
    for group in ("administrative", "informational", "product"):
        stays = [end - visit.time_ms for visit, end in zip(visits, ends, strict=False) if _group(visit) == group]
        features[f"{group}Count"] = len(stays)
        features[f"{group}Seconds"] = sum(stays) / 1000
    return features


def _group(visit: Event) -> str | None:
    if visit.page == "unknown" and visit.kind == "product_view":
        return "product"
    return GROUP_OF_PAGE.get(visit.page)
