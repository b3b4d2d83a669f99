"""Training data of the journey model from the simulated shop: events, and attributes known at the start of a session."""

from collections.abc import Collection

import polars as pl

EVENT_COLUMNS = ("sessionId", "timestamp", "type", "pageKind")
SESSION_COLUMNS = ("sessionId", "customerId", "startedAt", "purchased", "orderValue", "currency", "visitorType", "deviceType", "timeOfDay")
CHURN_DAYS = 60  # without another session until a customer counts as churned


def holds(events: Collection[str], sessions: Collection[str]) -> bool:
    """Return whether tables with these columns were written by `revenue-engine simulate`."""
    return set(EVENT_COLUMNS) <= set(events) and set(SESSION_COLUMNS) <= set(sessions)


def journeys(events: pl.DataFrame, sessions: pl.DataFrame) -> pl.DataFrame:
    """Return a table of events: sessionId, type, page, seconds, purchase, returning, mobile, timeOfDay, orderValue, churned, currency.

    The other columns of the shop's table are known only at the end of a session.
    """
    events, sessions = (_timed(frame, name) for frame, name in ((events, "timestamp"), (sessions, "startedAt")))
    attributes = sessions.select(
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
    texts = (pl.col(name).cast(pl.String) for name in ("sessionId", "type", "pageKind"))
    return events.select(*texts, seconds).join(attributes, on="sessionId", how="inner", maintain_order="left")


def _timed(frame: pl.DataFrame, column: str) -> pl.DataFrame:
    """Return the table with a column as times; in a CSV file it is text."""
    return frame if frame.schema[column] != pl.String else frame.with_columns(pl.col(column).str.to_datetime(time_zone="UTC"))


def churned(sessions: pl.DataFrame) -> pl.Expr:
    """Return whether a known customer had no session within CHURN_DAYS; null for anonymous ones and where that time has not passed."""
    started, window = pl.col("startedAt"), pl.duration(days=CHURN_DAYS)
    later = started.sort().shift(-1).over("customerId", order_by="startedAt")
    returned = later.is_not_null() & (later - started <= window)
    passed = started + window <= started.max()
    return pl.when(pl.col("customerId").is_null() | ~(returned | passed)).then(None).otherwise((~returned).cast(pl.Float64))
