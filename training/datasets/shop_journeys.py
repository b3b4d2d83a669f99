"""The simulated shop's sessions as the journey model learns from them: pages that were opened, and what is known when a session begins."""

from collections.abc import Collection

import polars as pl

VIEWS = ("page_view", "product_view", "search")  # the events that open a page
EVENT_COLUMNS, SESSION_COLUMNS = ("sessionId", "timestamp", "type", "pageKind"), ("sessionId", "purchased", "visitorType", "deviceType")


def holds(events: Collection[str], sessions: Collection[str]) -> bool:
    """Return whether tables with these columns are what `revenue-engine simulate` writes."""
    return set(EVENT_COLUMNS) <= set(events) and set(SESSION_COLUMNS) <= set(sessions)


def journeys(events: pl.DataFrame, sessions: pl.DataFrame) -> pl.DataFrame:
    """Return a table of page events: sessionId, page, seconds, purchase, returning, mobile, timeOfDay.

    Everything else that the shop's table knows of a session is known only at its end.
    """
    begun = sessions.select(
        pl.col("sessionId").cast(pl.String),
        pl.col("purchased").cast(pl.Float64).alias("purchase"),
        (pl.col("visitorType").cast(pl.String) == "returning").cast(pl.Float64).alias("returning"),
        (pl.col("deviceType").cast(pl.String) == "mobile").cast(pl.Float64).alias("mobile"),
        pl.col("timeOfDay").cast(pl.Float64),
    )
    opened = events.filter(pl.col("type").cast(pl.String).is_in(VIEWS))
    ms = pl.col("timestamp").dt.epoch("ms")
    seconds = ((ms - ms.min().over("sessionId")) / 1000).alias("seconds")
    return opened.select(pl.col("sessionId").cast(pl.String), pl.col("pageKind").cast(pl.String).alias("page"), seconds).join(
        begun, on="sessionId", how="inner", maintain_order="left"
    )
