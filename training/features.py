"""The features: names, order, units and sources; and the one function that computes the feature matrix.

A row of the matrix is one session at one time. A value in the input (a column of a table, a request's `aggregates` or `contextData`) is
*given*; otherwise it is counted from the session's events; without either it is NaN, for missing, never zero.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from kernels.sessions import features as sessions
from kernels.types import F32, F64, I8, I64

EVENT_TYPES = (
    "unknown",
    "page_view",
    "product_view",
    "search",
    "add_to_cart",
    "remove_from_cart",
    "checkout",
    "click",
    "scroll",
    "input",
    "wait",
    "change",
)
PAGE_KINDS = (
    "unknown",
    "administrative",
    "informational",
    "product",
    "home",
    "category",
    "search",
    "cart",
    "checkout",
    "account",
    "other",
)
EVENT_CODES = {name: code for code, name in enumerate(EVENT_TYPES)}
PAGE_CODES = {name: code for code, name in enumerate(PAGE_KINDS)}


@dataclass(frozen=True, slots=True)
class Feature:
    """One column of the matrix. source: its field in a request; counted: whether it is counted from events when not given."""

    name: str
    unit: str
    source: str
    low: float = 0.0
    high: float = 1e9  # beyond any shop, and well within float32
    kind: Literal["number", "category"] = "number"
    counted: bool = False


_AGGREGATES = "behaviorData.aggregates, else counted from behaviorData.interactions"
_EVENTS = "behaviorData.interactions"


def _counted(name: str, unit: str, source: str = _EVENTS) -> Feature:
    return Feature(name, unit, source, counted=True)


FEATURES: tuple[Feature, ...] = (
    # Counted from events unless given; the order is that of kernels.sessions.features.
    _counted("administrativeCount", "pages", _AGGREGATES),
    _counted("administrativeSeconds", "s", _AGGREGATES),
    _counted("informationalCount", "pages", _AGGREGATES),
    _counted("informationalSeconds", "s", _AGGREGATES),
    _counted("productCount", "pages", _AGGREGATES),
    _counted("productSeconds", "s", _AGGREGATES),
    _counted("eventCount", "events"),
    _counted("activeSeconds", "s"),
    _counted("lastGapSeconds", "s"),
    _counted("clickCount", "events"),
    _counted("productViewCount", "events"),
    _counted("searchCount", "events"),
    _counted("cartAddCount", "events"),
    _counted("cartRemoveCount", "events"),
    _counted("checkoutCount", "events"),
    _counted("rageClickCount", "events"),
    _counted("waitSeconds", "s"),
    # Never counted from events.
    Feature("bounceRate", "fraction", "behaviorData.aggregates", high=1),
    Feature("exitRate", "fraction", "behaviorData.aggregates", high=1),
    Feature("pageValue", "money a page", "behaviorData.aggregates", high=1e12),
    Feature("pageViews", "pages", "behaviorData.pageViews"),
    Feature("timeOnSite", "s", "behaviorData.timeOnSite"),
    Feature("timeOfDay", "h, local, [0, 24)", "contextData.timeOfDay", high=24),
    Feature("dayOfWeek", "0 Sunday to 6 Saturday", "contextData.dayOfWeek", high=6),
    Feature("weekend", "0 or 1", "contextData.dayOfWeek", high=1),
    Feature("month", "1 to 12", "contextData.month", low=1, high=12),
    Feature("specialDay", "closeness to a special day, 0 to 1", "contextData.specialDay", high=1),
    Feature("deviceType", "category", "contextData.deviceType", kind="category"),
    Feature("operatingSystem", "category", "contextData.operatingSystem", kind="category"),
    Feature("browser", "category", "contextData.browser", kind="category"),
    Feature("region", "category", "contextData.location.region", kind="category"),
    Feature("trafficType", "category", "contextData.trafficType", kind="category"),
    Feature("visitorType", "category", "contextData.visitorType", kind="category"),
)
NAMES: tuple[str, ...] = tuple(feature.name for feature in FEATURES)
INDEX: dict[str, int] = {name: i for i, name in enumerate(NAMES)}
CATEGORIES: tuple[str, ...] = tuple(feature.name for feature in FEATURES if feature.kind == "category")

# Page statistics of a web analytics tool; the model also predicts without them.
PAGE_STATISTICS = ("bounceRate", "exitRate", "pageValue")


def category_key(value: object) -> str:
    """Return the form in which a category value is looked up: lower-case text, without surrounding space and the suffix `_visitor`."""
    return str(value).strip().lower().removesuffix("_visitor")


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Category values of the training table: `codes[feature][key]` is the value's code in the matrix; other values are missing."""

    codes: Mapping[str, Mapping[str, float]]

    @classmethod
    def fit(cls, values: Mapping[str, Sequence[object]]) -> "Vocabulary":
        """Return codes for the distinct values of each category; whole numbers in numeric order, then text in alphabetic order."""
        codes = {}
        for feature, column in values.items():
            keys = {category_key(value) for value in column if value is not None}
            ordered = sorted(keys, key=lambda key: (0, int(key), "") if key.isdecimal() else (1, 0, key))
            codes[feature] = {key: float(code) for code, key in enumerate(ordered)}
        return cls(codes)

    def code(self, feature: str, value: object) -> float:
        """Return the code of `value`, NaN if it is None or not in the training table."""
        if value is None:
            return np.nan
        return self.codes.get(feature, {}).get(category_key(value), np.nan)


class Events(NamedTuple):
    """Events of many sessions in flat columns; those of session `i` are at `offsets[i]:offsets[i + 1]`, in order of time.

    offsets int64 [sessions + 1]; kind, page int8 codes; time_ms int64 epoch milliseconds; x, y float32 pixels; target int64: a number for
    the element that was clicked, as in `kernels.sessions.features`; wait_ms float32.
    """

    offsets: I64
    kind: I8
    page: I8
    time_ms: I64
    x: F32
    y: F32
    target: I64
    wait_ms: F32

    @classmethod
    def none(cls, sessions: int) -> "Events":
        """Return the columns of `sessions` sessions without events."""
        code, pixel = np.empty(0, np.int8), np.empty(0, np.float32)
        whole = np.empty(0, np.int64)
        return cls(np.zeros(sessions + 1, np.int64), code, code, whole, pixel, pixel, whole, pixel)


def given(rows: int) -> F64:
    """Return a float64 [rows, features] matrix of NaN, to be filled with given values."""
    return np.full((rows, len(FEATURES)), np.nan)


def matrix(given: F64, events: Events) -> F32:
    """Return the float32 [sessions, features] matrix: the given value, else the count from events, else NaN.

    Training, batch and online scoring call the same compiled function.
    """
    out = np.empty(given.shape, np.float32)
    sessions.session_features(
        events.offsets,
        events.kind,
        events.page,
        events.time_ms,
        events.x,
        events.y,
        events.target,
        events.wait_ms,
        sessions.PAGE_GROUPS,
        given,
        out,
    )
    return out
