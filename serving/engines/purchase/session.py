"""A session in a request: what the caller says of it, and how that becomes a row of the feature matrix."""

import math
from array import array
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Protocol

import numpy as np
from msgspec import Meta

from kernels.types import F32
from serving.engines.compiled_fields import QUICK, Quick
from serving.engines.purchase import fast_events as interactions
from serving.engines.purchase.columns import flatten, moments, rows
from serving.engines.purchase.referrer import traffic_class
from serving.engines.types import (
    ApiModel,
    Category,
    Count,
    DayOfWeek,
    Fraction,
    GeoLocation,
    InteractionEvent,
    Moment,
    Money,
    Month,
    Name,
    Seconds,
    Url,
    epoch_ms,
    is_sane,
    not_sane,
    odd,
)
from serving.errors import FieldProblem, TooLargeError
from training import features

MAX_INTERACTIONS = 10_000
WEEKEND = (0, 6)  # Sunday, Saturday


class Aggregates(ApiModel, frozen=True, kw_only=True):
    """Statistics of the session from a web analytics tool. What is given here stands; the rest is counted from the interactions."""

    administrative_count: Count | None = None
    administrative_seconds: Seconds | None = None
    informational_count: Count | None = None
    informational_seconds: Seconds | None = None
    product_count: Count | None = None
    product_seconds: Seconds | None = None
    bounce_rate: Annotated[Fraction | None, Meta(description="Average bounce rate of the pages visited.")] = None
    exit_rate: Annotated[Fraction | None, Meta(description="Average exit rate of the pages visited.")] = None
    page_value: Annotated[Money | None, Meta(description="Average value of the pages visited, as in the training data.")] = None


class BehaviorData(ApiModel, frozen=True, kw_only=True):
    """What happened in the session so far."""

    page_views: Annotated[Count, Meta(description="Pages viewed, as the caller counts them.")]
    time_on_site: Annotated[Seconds, Meta(description="Seconds since the session began, as the caller measures them.")]
    interactions: Annotated[
        list[InteractionEvent],
        Meta(
            description="Events, in any order; at most 10,000. Empty means that nothing is known, not that nothing happened.",
            extra_json_schema={"maxItems": MAX_INTERACTIONS},
            extra={QUICK: Quick(interactions.read, rows)},
        ),
    ]
    current_page: Url
    referrer: Annotated[Url | None, Meta(description="Where the shopper came from; empty: typed in or bookmarked.")] = None
    aggregates: Aggregates | None = None


class ContextData(ApiModel, frozen=True, kw_only=True):
    """With what, where and when the shopper looks. Category values are those of the training data; others count as missing."""

    device_type: Annotated[Name, Meta(description="desktop, mobile, tablet ...; unknown counts as missing.")]
    time_of_day: Annotated[float, Meta(ge=0, lt=24, description="Hours since the shopper's local midnight.")]
    day_of_week: Annotated[DayOfWeek, Meta(description="The shopper's local day: 0 Sunday to 6 Saturday.")]
    location: GeoLocation | None = None
    month: Annotated[Month | None, Meta(description="1 to 12; absent: the UTC month of asOf, else of the latest interaction.")] = None
    special_day: Annotated[Fraction | None, Meta(description="Closeness to a special day such as Mother's Day; 1 on the day.")] = None
    operating_system: Category | None = None
    browser: Category | None = None
    traffic_type: Annotated[Category | None, Meta(description="Absent: derived from referrer, where the model knows the class.")] = None
    visitor_type: Annotated[Category | None, Meta(description="new, returning or other.")] = None


class SessionRequest(Protocol):
    """A request about one session as of one moment."""

    @property
    def behavior_data(self) -> BehaviorData:
        """Return what happened."""

    @property
    def context_data(self) -> ContextData:
        """Return with what, where and when."""

    @property
    def as_of(self) -> Moment | None:
        """Return the moment the answer is for, if the caller names one."""


def problems(request: SessionRequest) -> list[FieldProblem]:
    """Return what types cannot say of a session; raise TooLargeError beyond MAX_INTERACTIONS."""
    events = request.behavior_data.interactions
    if len(events) > MAX_INTERACTIONS:
        raise TooLargeError(
            f"behaviorData.interactions has {len(events):,} events, at most {MAX_INTERACTIONS:,} are taken; send the latest ones",
            "behaviorData.interactions",
        )
    stamps = moments(events)
    wrong = [f"behaviorData.interactions[{i}].timestamp" for i, stamp in enumerate(stamps) if not is_sane(stamp)] if odd(stamps) else []
    if request.as_of is not None and not is_sane(request.as_of):
        wrong.append("asOf")
    return [not_sane(field) for field in wrong]


class SessionColumns:
    """Turns session requests into the feature matrix, with the category values of one model."""

    def __init__(self, vocabulary: features.Vocabulary) -> None:
        self._codes = tuple(_Codes(vocabulary.codes.get(name, {})) for name in features.CATEGORIES)
        self._codes[features.CATEGORIES.index("deviceType")].pop("unknown", None)

    def matrix(self, requests: Sequence[SessionRequest]) -> tuple[F32, list[float]]:
        """Return X float32 [n, features], and as of when each row is (epoch ms): asOf, else the latest interaction, else NaN."""
        until = [math.nan if request.as_of is None else epoch_ms(request.as_of) for request in requests]
        events, latest = flatten([request.behavior_data.interactions for request in requests], until)
        as_of = [late if math.isnan(said) else said for said, late in zip(until, latest, strict=True)]
        stated = array("d")
        for request, moment in zip(requests, as_of, strict=True):
            stated.extend(self._stated(request.behavior_data, request.context_data, moment))
        given = np.frombuffer(stated).reshape(len(requests), -1) if requests else features.given(0)
        return features.matrix(given, events), as_of

    def _stated(self, behavior: BehaviorData, context: ContextData, as_of_ms: float) -> tuple[float, ...]:
        """Return what the caller states, in the order of features.FEATURES."""
        device, system, browser, region, traffic, visitor = self._codes
        day = context.day_of_week
        return (
            *_aggregated(behavior.aggregates),
            behavior.page_views,
            behavior.time_on_site,
            context.time_of_day,
            day,
            1.0 if day in WEEKEND else 0.0,
            _month(as_of_ms) if context.month is None else context.month,
            math.nan if context.special_day is None else context.special_day,
            device[context.device_type],
            system[context.operating_system],
            browser[context.browser],
            math.nan if context.location is None else region[context.location.region],
            _traffic(traffic, behavior, context),
            visitor[context.visitor_type],
        )


_COUNTED_ONLY = (math.nan,) * 11  # eventCount to waitSeconds: no request states them
_NO_AGGREGATES = (math.nan,) * 20


def _aggregated(given: Aggregates | None) -> tuple[float, ...]:
    if given is None:
        return _NO_AGGREGATES
    pages = (
        given.administrative_count,
        given.administrative_seconds,
        given.informational_count,
        given.informational_seconds,
        given.product_count,
        given.product_seconds,
    )
    statistics = (given.bounce_rate, given.exit_rate, given.page_value)
    return (*_known(pages), *_COUNTED_ONLY, *_known(statistics))


def _known(values: tuple[float | None, ...]) -> list[float]:
    return [math.nan if value is None else value for value in values]


class _Codes(dict[Any, float]):
    """Codes by category value: by text, and by number for those that are numbers, as 3, 3.0 and "3" are one value; NaN for all others."""

    def __init__(self, codes: Mapping[str, float]) -> None:
        super().__init__(codes)
        self.update({float(key): code for key, code in codes.items() if key.isdecimal()})
        self[None] = math.nan

    def __missing__(self, value: Any) -> float:
        return self.get(features.category_key(value), math.nan) if isinstance(value, str) else math.nan


def _traffic(codes: _Codes, behavior: BehaviorData, context: ContextData) -> float:
    if context.traffic_type is not None or behavior.referrer is None:
        return codes[context.traffic_type]
    return codes.get(traffic_class(behavior.referrer, behavior.current_page), math.nan)


def _month(as_of_ms: float) -> float:
    return math.nan if math.isnan(as_of_ms) else datetime.fromtimestamp(as_of_ms / 1000, UTC).month
