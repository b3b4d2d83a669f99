"""Sessions of requests as rows of the feature matrix: what the caller states, and what is counted from the interactions."""

import math
from array import array
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from kernels.types import F32
from serving.engines.purchase.columns import flatten, moments
from serving.engines.purchase.referrer import traffic_class
from serving.engines.purchase.types import MAX_INTERACTIONS, Aggregates, BehaviorData, ContextData, PurchasePredictionRequest
from serving.engines.types import any_invalid_moment, epoch_ms, invalid_moment, is_valid_moment
from serving.errors import FieldProblem, TooLargeError
from training import features

WEEKEND = (0, 6)  # Sunday, Saturday


def problems(request: PurchasePredictionRequest) -> list[FieldProblem]:
    """Return the problems of a session that types cannot express. Raises TooLargeError above MAX_INTERACTIONS."""
    events = request.behavior_data.interactions
    if len(events) > MAX_INTERACTIONS:
        raise TooLargeError(
            f"behaviorData.interactions has {len(events):,} events, at most {MAX_INTERACTIONS:,} are accepted; send the latest ones",
            "behaviorData.interactions",
        )
    stamps = moments(events)
    wrong = (
        [f"behaviorData.interactions[{i}].timestamp" for i, stamp in enumerate(stamps) if not is_valid_moment(stamp)]
        if any_invalid_moment(stamps)
        else []
    )
    if request.as_of is not None and not is_valid_moment(request.as_of):
        wrong.append("asOf")
    return [invalid_moment(field) for field in wrong]


class FeatureMatrixBuilder:
    """Builds the feature matrix of requests, with the category values of one model."""

    def __init__(self, vocabulary: features.Vocabulary) -> None:
        self._codes = tuple(_CategoryCodes(vocabulary.codes.get(name, {})) for name in features.CATEGORIES)
        self._codes[features.CATEGORIES.index("deviceType")].pop("unknown", None)

    def matrix(self, requests: Sequence[PurchasePredictionRequest]) -> tuple[F32, list[float]]:
        """Return X float32 [n, features], and the moment of each row (epoch ms): asOf, else the latest interaction, else NaN."""
        until = [math.nan if request.as_of is None else epoch_ms(request.as_of) for request in requests]
        events, latest = flatten([request.behavior_data.interactions for request in requests], until)
        as_of = [last if math.isnan(given) else given for given, last in zip(until, latest, strict=True)]
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


class _CategoryCodes(dict[Any, float]):
    """Codes by category value, NaN for unknown ones. Numbers are keys too, because 3, 3.0 and "3" are one value."""

    def __init__(self, codes: Mapping[str, float]) -> None:
        super().__init__(codes)
        self.update({float(key): code for key, code in codes.items() if key.isdecimal()})
        self[None] = math.nan

    def __missing__(self, value: Any) -> float:
        return self.get(features.category_key(value), math.nan) if isinstance(value, str) else math.nan


def _traffic(codes: _CategoryCodes, behavior: BehaviorData, context: ContextData) -> float:
    if context.traffic_type is not None or behavior.referrer is None:
        return codes[context.traffic_type]
    return codes.get(traffic_class(behavior.referrer, behavior.current_page), math.nan)


def _month(as_of_ms: float) -> float:
    return math.nan if math.isnan(as_of_ms) else datetime.fromtimestamp(as_of_ms / 1000, UTC).month
