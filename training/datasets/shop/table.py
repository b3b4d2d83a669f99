"""The training table of the simulated shop: one row per session at its scored moment, with the features of `training.features`."""

import numpy as np
import polars as pl

from kernels.types import F32, F64, I8, Bool
from training import features
from training.datasets.shop import calendar
from training.datasets.shop.audience import BROWSERS, DEVICES, SYSTEMS, TRAFFIC, Audience
from training.datasets.shop.catalog import CURRENCY
from training.datasets.shop.customers import REGIONS, ids, times
from training.datasets.shop.stream import Stream

VISITORS = ("new", "returning")


def matrix(seen: Stream, audience: Audience, statistics: F64) -> F32:
    """Return the float32 [sessions, features] matrix of numeric features, computed as in serving; categories are NaN.

    seen: the events up to the scored moment, the last of which defines it; statistics: PAGE_STATISTICS [sessions, 3].
    """
    moment = calendar.moment(seen.end_ms + audience.offset_ms)
    views = np.bincount(seen.session[seen.views], minlength=audience.start_ms.size)
    values_by_name = {
        "pageViews": views.astype(np.float64),
        "timeOnSite": (seen.end_ms - audience.start_ms) / 1000,
        "timeOfDay": moment.hour,
        "dayOfWeek": moment.day_of_week,
        "weekend": moment.weekend,
        "month": moment.month,
        "specialDay": moment.special,
        **dict(zip(features.PAGE_STATISTICS, statistics.T, strict=True)),
    }
    given = features.given(audience.start_ms.size)
    for name, values in values_by_name.items():
        given[:, features.INDEX[name]] = values
    return features.matrix(given, seen.events())


def session_ids(sessions: int) -> pl.Series:
    """Return the ids of sessions by number; the numbers are unrelated to time."""
    return pl.select(sessionId=pl.format("S{}", pl.int_range(sessions).cast(pl.String).str.zfill(8))).to_series()


def frame(numbers: F32, seen: Stream, audience: Audience, bought: Bool, order_value: F64) -> pl.DataFrame:
    """Return sessionId, customerId, startedAt, asOf, the features by name, purchased, orderValue (null when not bought), currency."""
    categories = {
        "deviceType": _texts(DEVICES, audience.device),
        "operatingSystem": _texts(SYSTEMS, audience.system),
        "browser": _texts(BROWSERS, audience.browser),
        "region": _texts(tuple(REGIONS), audience.region),
        "trafficType": _texts(TRAFFIC, audience.traffic),
        "visitorType": _texts(VISITORS, audience.returning.astype(np.int8)),
    }
    columns = {name: categories.get(name, pl.Series(numbers[:, column])) for name, column in features.INDEX.items()}
    return pl.DataFrame(
        {
            "sessionId": session_ids(bought.size),
            "customerId": ids(audience.customer),
            "startedAt": times(audience.start_ms),
            "asOf": times(seen.end_ms),
            **columns,
            "purchased": bought.astype(np.int8),
            "orderValue": np.where(bought, order_value, np.nan),
        }
    ).with_columns(pl.col(pl.Float32, pl.Float64).fill_nan(None), currency=pl.lit(CURRENCY))


def numbers(table: pl.DataFrame) -> F32:
    """Return the table's features as `training.features.matrix` returned them: float32 [rows, features], categories NaN."""
    out = np.full((table.height, len(features.NAMES)), np.nan, np.float32)
    for name, column in features.INDEX.items():
        if name not in features.CATEGORIES:
            out[:, column] = table[name].to_numpy()
    return out


def _texts(names: tuple[str, ...], codes: I8) -> pl.Series:
    """Return the name of each code, null for -1."""
    known = pl.Series(codes, dtype=pl.Int64)
    return pl.Series(names).gather(known.set(known < 0, None))
