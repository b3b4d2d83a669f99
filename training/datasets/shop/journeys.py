"""The simulated shop's sessions as the journey model learns from them: their events, and what is known when a session begins."""

from collections.abc import Collection

import polars as pl

EVENT_COLUMNS = ("sessionId", "timestamp", "type", "pageKind")
SESSION_COLUMNS = ("sessionId", "customerId", "startedAt", "purchased", "orderValue", "currency", "visitorType", "deviceType", "timeOfDay")
AWAY_DAYS = 60  # without another session: gone


def holds(events: Collection[str], sessions: Collection[str]) -> bool:
    """Return whether tables with these columns are what `revenue-engine simulate` writes."""
    return set(EVENT_COLUMNS) <= set(events) and set(SESSION_COLUMNS) <= set(sessions)


def journeys(events: pl.DataFrame, sessions: pl.DataFrame) -> pl.DataFrame:
    """Return a table of events: sessionId, type, page, seconds, purchase, returning, mobile, timeOfDay, orderValue, churned, currency.

    Everything else that the shop's table knows of a session is known only at its end.
    """
    events, sessions = (_timed(frame, name) for frame, name in ((events, "timestamp"), (sessions, "startedAt")))
    begun = sessions.select(
        pl.col("sessionId").cast(pl.String),
        pl.col("purchased").cast(pl.Float64).alias("purchase"),
        (pl.col("visitorType").cast(pl.String) == "returning").cast(pl.Float64).alias("returning"),
        (pl.col("deviceType").cast(pl.String) == "mobile").cast(pl.Float64).alias("mobile"),
        pl.col("timeOfDay").cast(pl.Float64),
        pl.col("orderValue").cast(pl.Float64),
        churned(sessions).alias("churned"),
        pl.col("currency").cast(pl.String),
    )
    ms = pl.col("timestamp").dt.epoch("ms")
    seconds = ((ms - ms.min().over("sessionId")) / 1000).alias("seconds")
    texts = (
        pl.col(name).cast(pl.String).alias(field) for name, field in (("sessionId", "sessionId"), ("type", "type"), ("pageKind", "page"))
    )
    return events.select(*texts, seconds).join(begun, on="sessionId", how="inner", maintain_order="left")


def _timed(frame: pl.DataFrame, column: str) -> pl.DataFrame:
    """Return the table with a column of moments, which in a CSV is text."""
    return frame if frame.schema[column] != pl.String else frame.with_columns(pl.col(column).str.to_datetime(time_zone="UTC"))


def churned(sessions: pl.DataFrame) -> pl.Expr:
    """Return whether a known customer had no further session within AWAY_DAYS; null of others, and where the time has not passed yet."""
    started, away = pl.col("startedAt"), pl.duration(days=AWAY_DAYS)
    later = started.sort().shift(-1).over("customerId", order_by="startedAt")
    back = later.is_not_null() & (later - started <= away)
    passed = started + away <= started.max()
    return pl.when(pl.col("customerId").is_null() | ~(back | passed)).then(None).otherwise((~back).cast(pl.Float64))
