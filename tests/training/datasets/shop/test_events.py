"""The simulated shop's events are consistent, and its training table has the features of the events up to the scored moment."""

from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest

from training import features
from training.datasets.shop import shop
from training.datasets.shop import table as shop_table
from training.datasets.shop.customers import REGIONS


@pytest.fixture(scope="module")
def year() -> shop.Shop:
    return shop.simulate(6_000, seed=3)


def _seen(of: shop.Shop) -> pl.DataFrame:
    """Return the events up to the scored moments."""
    until = of.sessions.select("sessionId", "asOf")
    return of.events.join(until, on="sessionId", maintain_order="left").filter(pl.col("timestamp") <= pl.col("asOf"))


def test_a_session_starts_with_a_view_and_its_times_ascend(year: shop.Shop) -> None:
    assert year.events["sessionId"].rle_id().n_unique() == year.events["sessionId"].n_unique() == year.sessions.height
    by_session = year.events.group_by("sessionId", maintain_order=True)
    assert by_session.agg(pl.col("type").first()).to_series(1).is_in(["page_view", "product_view"]).all()
    gaps = year.events.select(pl.col("timestamp").diff().over("sessionId")).to_series().drop_nulls()
    assert gaps.min() >= timedelta(milliseconds=1)  # type: ignore[operator]


def test_every_session_is_scored_within_itself_and_before_its_purchase(year: shop.Shop) -> None:
    ends = year.events.group_by("sessionId").agg(
        first=pl.col("timestamp").min(), bought_at=pl.col("timestamp").filter(pl.col("type") == "purchase").max()
    )
    table = year.sessions.join(ends, on="sessionId")
    assert (table["startedAt"] < table["first"]).all()
    assert (table["first"] <= table["asOf"]).all()
    assert (table.filter(purchased=1)["asOf"] < table.filter(purchased=1)["bought_at"]).all()
    assert table.filter(purchased=0)["bought_at"].is_null().all()


def test_a_purchase_is_the_one_last_event_of_those_who_buy(year: shop.Shop) -> None:
    last = year.events.group_by("sessionId", maintain_order=True).agg(
        last=pl.col("type").last(), purchases=(pl.col("type") == "purchase").sum(), amount=pl.col("amount").sum()
    )
    table = year.sessions.join(last, on="sessionId")
    assert table["purchases"].equals(table["purchased"].cast(table["purchases"].dtype))
    assert ((table["last"] == "purchase") == (table["purchased"] == 1)).all()
    np.testing.assert_array_equal(table["amount"], table["orderValue"].fill_null(0))


def test_only_viewed_products_are_added_to_the_cart(year: shop.Shop) -> None:
    keys = ["sessionId", "productId"]
    viewed = year.events.filter(pl.col("type") == "product_view").group_by(keys).agg(viewed=pl.col("timestamp").min())
    added = year.events.filter(pl.col("type") == "add_to_cart").join(viewed, on=keys, how="left")
    assert added.height > 1_000
    assert (added["viewed"] < added["timestamp"]).all(ignore_nulls=False)


def test_an_order_value_is_the_cart_at_the_prices_of_the_week(year: shop.Shop) -> None:
    price = {(row["product"], row["period"]): row["price"] for row in year.sales.iter_rows(named=True)}
    bought = year.sessions.filter(purchased=1)
    changes = year.events.filter(pl.col("type").is_in(["add_to_cart", "remove_from_cart"]))
    carts = {key[0]: frame for key, frame in changes.group_by("sessionId", maintain_order=True)}
    assert bought.height > 100
    for session, started, value in bought.select("sessionId", "startedAt", "orderValue").iter_rows():
        monday = min(max(started.date() - timedelta(days=started.weekday()), date(2025, 1, 6)), date(2025, 12, 29))
        cart: list[str] = []
        for kind, product in carts[session].select("type", "productId").iter_rows():
            (cart.append if kind == "add_to_cart" else cart.remove)(product)
        assert cart
        assert sum(price[product, monday] for product in cart) == pytest.approx(value, abs=0.006)


def _from_events(seen: pl.DataFrame) -> features.Events:
    """Events as the kernels take them, from the stored table."""
    counts = seen.group_by("sessionId", maintain_order=True).len()["len"].to_numpy()
    pixel = {name: seen[name].cast(pl.Float32).fill_null(np.nan).to_numpy() for name in ("x", "y", "waitMs")}
    return features.Events(
        np.concatenate(([0], np.cumsum(counts))).astype(np.int64),
        np.array([features.EVENT_CODES[kind] for kind in seen["type"].to_list()], np.int8),
        np.array([features.PAGE_CODES[kind] for kind in seen["pageKind"].to_list()], np.int8),
        seen["timestamp"].dt.epoch("ms").to_numpy(),
        pixel["x"],
        pixel["y"],
        np.zeros(seen.height, np.int64),
        pixel["waitMs"],
    )


def test_features_are_those_counted_from_the_stored_events(year: shop.Shop) -> None:
    table = shop_table.numbers(year.sessions)
    again = features.matrix(features.given(year.sessions.height), _from_events(_seen(year)))
    for feature in features.FEATURES:
        if feature.counted:
            column = features.INDEX[feature.name]
            np.testing.assert_array_equal(again[:, column], table[:, column], err_msg=feature.name)


def test_every_number_is_in_its_range_and_every_feature_is_there(year: shop.Shop) -> None:
    columns = year.sessions.columns
    assert columns[:4] == ["sessionId", "customerId", "startedAt", "asOf"]
    assert columns[4:] == [*features.NAMES, "purchased", "orderValue", "currency"]
    for feature in features.FEATURES:
        if feature.kind == "number":
            values = year.sessions[feature.name].drop_nulls()
            assert values.len() > 0
            assert values.is_between(feature.low, feature.high).all(), feature.name
            assert values.is_finite().all()


def test_the_calendar_is_local_and_as_of_the_scored_moment(year: shop.Shop) -> None:
    for row in year.sessions.drop_nulls("region").iter_rows(named=True):
        local = row["asOf"] + timedelta(hours=REGIONS[row["region"]][0])
        weekday = (local.weekday() + 1) % 7
        assert row["timeOfDay"] == pytest.approx(local.hour + local.minute / 60, abs=1e-4)
        assert (row["dayOfWeek"], row["month"], row["weekend"]) == (weekday, local.month, weekday in (0, 6))


def test_special_days_come_closer_by_a_fifth_a_day(year: shop.Shop) -> None:
    local = year.sessions.drop_nulls("region").with_columns(
        day=(
            pl.col("asOf") + pl.duration(hours=pl.col("region").replace_strict({name: hours for name, (hours, _) in REGIONS.items()}))
        ).dt.date()
    )
    for back, closeness in enumerate((1, 0.8, 0.6, 0.4, 0.2, 0)):
        day = local.filter(day=date(2025, 11, 28) - timedelta(days=back))["specialDay"]
        assert day.len() > 0
        assert day.to_numpy() == pytest.approx(closeness)


def test_a_new_customers_first_session_is_the_only_new_one(year: shop.Shop) -> None:
    known = year.sessions.drop_nulls("customerId").sort("startedAt")
    order = known.select("visitorType", nth=pl.col("startedAt").rank("ordinal").over("customerId"))
    assert order.filter(pl.col("nth") > 1)["visitorType"].unique().to_list() == ["returning"]
    assert sorted(order.filter(nth=1)["visitorType"].unique()) == ["new", "returning"]
