"""The simulated shop's page statistics come from sessions that ended before the day: against a slow loop over the year."""

import numpy as np
import polars as pl
import pytest

from training import features
from training.datasets.shop import shop


@pytest.fixture(scope="module")
def small() -> shop.Shop:
    return shop.simulate(1_500, seed=11)


def _seen(of: shop.Shop) -> pl.DataFrame:
    """Return the events up to the scored moments."""
    until = of.sessions.select("sessionId", "asOf")
    return of.events.join(until, on="sessionId", maintain_order="left").filter(pl.col("timestamp") <= pl.col("asOf"))


class _Page:
    """What an analytics tool has counted on one page."""

    def __init__(self) -> None:
        self.landed = self.bounced = self.views = self.exits = self.sessions = 0
        self.money = 0.0


def _naive_statistics(small: shop.Shop) -> dict[str, list[float | None]]:
    """Each session's page statistics, by walking through the year day by day."""
    views = {
        key[0]: [product or kind for product, kind in frame.select("productId", "pageKind").iter_rows()]
        for key, frame in small.events.filter(pl.col("type").is_in(["page_view", "product_view"])).group_by(
            "sessionId", maintain_order=True
        )
    }
    seen = {
        key[0]: frame.height
        for key, frame in _seen(small).filter(pl.col("type").is_in(["page_view", "product_view"])).group_by("sessionId")
    }
    ended = small.events.group_by("sessionId").agg(end=pl.col("timestamp").max().dt.date())
    table = small.sessions.join(ended, on="sessionId").sort("startedAt").to_dicts()
    pages: dict[str, _Page] = {}
    answer: dict[str, list[float | None]] = {}
    waiting = sorted(table, key=lambda row: row["end"])
    for row in table:
        while waiting and waiting[0]["end"] < row["startedAt"].date():
            _count(pages, views[waiting[0]["sessionId"]], waiting[0]["orderValue"] or 0)
            waiting.pop(0)
        known = [pages[page] for page in views[row["sessionId"]][: seen[row["sessionId"]]] if page in pages]
        ratios = [[(p.bounced, p.landed), (p.exits, p.views), (p.money, p.sessions)] for p in known]
        columns = zip(*ratios, strict=True) if ratios else [(), (), ()]
        means = [[part / whole for part, whole in column if whole] for column in columns]
        answer[row["sessionId"]] = [sum(mean) / len(mean) if mean else None for mean in means]
    return answer


def _count(pages: dict[str, _Page], views: list[str], money: float) -> None:
    for page in views:
        pages.setdefault(page, _Page()).views += 1
    for page in set(views):
        pages[page].sessions += 1
        pages[page].money += money
    pages[views[0]].landed += 1
    pages[views[0]].bounced += len(views) == 1
    pages[views[-1]].exits += 1


def test_page_statistics_come_from_sessions_that_ended_on_earlier_days(small: shop.Shop) -> None:
    naive, told = _naive_statistics(small), 0
    for session, *row in small.sessions.select("sessionId", *features.PAGE_STATISTICS).iter_rows():
        if row != [None, None, None]:
            told += 1
            np.testing.assert_allclose(np.array(row, float), np.array(naive[session], float), atol=2e-5, rtol=1e-6)
    assert 0.7 < told / small.sessions.height < 0.8
