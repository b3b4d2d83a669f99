"""Catalogues whose prices must agree: one price for a group, no pack above the price of its content, margin floors above both."""

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.pricing import ladder as kernel
from kernels.pricing.demand import Z
from serving import settings as configuration
from serving.batch import run as batch
from serving.batch import sources
from serving.batch.task import Task
from serving.engines.pricing import groups
from tests.naive import pricing as naive
from tests.serving.engines.pricing.test_scorer import CONTENT, scorer
from training.errors import CellError, TableError

ROUNDING = 1e-9


def catalogue(rows):
    """Return a table of these rows: what is not said is usual."""
    usual = {
        "product": "A",
        "price": 10.0,
        "quantity": 70.0,
        "cost": 6.0,
        "stock": 1e6,
        "itemGroup": None,
        "packOf": None,
        "packSize": None,
    }
    schema = {name: pl.String if name in ("product", "itemGroup", "packOf") else pl.Float64 for name in usual}
    return pl.DataFrame([{**usual, **row} for row in rows], schema)


def priced(rows, by=None):
    by = by or scorer()
    return pl.DataFrame(by.output_columns(by.run(by.table(catalogue(rows)))))


def alone(row):
    return priced([{**row, "itemGroup": None, "packOf": None}])["recommendedPrice"][0]


def test_a_group_has_the_one_price_at_which_it_earns_most_together():
    rows = [{"price": 10.0}, {"price": 11.0, "cost": 7.5, "quantity": 20.0}, {"product": "thin", "price": 9.5, "cost": 5.0}]
    grouped = [{**row, "itemGroup": "same"} for row in rows]
    found = priced(grouped)
    (price,) = set(found["recommendedPrice"])
    columns = scorer().table(catalogue(grouped))
    low, high = columns.inputs[:, kernel.LOW].max(), columns.inputs[:, kernel.HIGH].min()
    rungs = [rung for rung in np.unique(columns.ladder) if low <= rung <= high]

    slopes, products = zip((-2.5, -2.5, -2.2), (0.1, 0.1, 0.5), strict=True), []
    for row, (slope, sd) in zip(columns.inputs, slopes, strict=True):
        products.append((row[kernel.PRICE], row[kernel.QUANTITY], (slope + sd * Z).tolist(), row[kernel.COST], row[kernel.STOCK]))

    def earned(rung):
        return naive.joint_values([rung], products, (1.0, 0.0, 0.0))[0]

    assert earned(price) >= max(map(earned, rungs)) * (1 - ROUNDING)
    assert set(found["alignedBy"]) <= {"item_group", ""}
    assert "item_group" in set(found["alignedBy"])


PRODUCTS = st.sampled_from(CONTENT["products"])
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "product": PRODUCTS,
            "price": st.floats(1, 50).map(lambda price: round(price, 2)),
            "quantity": st.floats(0, 500),
            "cost": st.floats(0, 40).map(lambda cost: round(cost, 2)),
            "stock": st.sampled_from([0.0, 5.0, 1e6]),
            "itemGroup": st.sampled_from([None, "one", "two"]),
        }
    ),
    min_size=1,
    max_size=8,
)


@given(ROWS)
@settings(deadline=None, max_examples=100)
def test_whatever_is_in_a_group_it_has_one_price_above_every_cost_and_others_keep_theirs(rows):
    found = priced(rows)["recommendedPrice"].to_list()
    for group in ("one", "two"):
        members = [row for row, fields in enumerate(rows) if fields["itemGroup"] == group]
        if len(members) > 1 and any(rows[row]["stock"] > 0 for row in members):
            assert len({found[row] for row in members}) == 1
            assert found[members[0]] >= max(rows[row]["cost"] for row in members) - ROUNDING
    for row, fields in enumerate(rows):
        if fields["itemGroup"] is None:
            assert found[row] == alone(fields)


@given(st.floats(1, 12), st.floats(2, 100), st.floats(1, 60))
@settings(deadline=None, max_examples=60)
def test_a_pack_costs_no_more_than_what_is_in_it_unless_that_is_less_than_its_cost(size, price, cost):
    rows = [{"product": "thin", "price": price, "cost": cost, "packOf": "A", "packSize": size}, {}]
    pack, part = priced(rows)["recommendedPrice"]
    assert part == alone({})
    assert pack <= max(size * part, math.ceil(cost * 100 - 1e-6) / 100) + ROUNDING
    assert pack >= cost - ROUNDING


def test_packs_of_packs_and_packs_in_groups_agree_too():
    rows = [
        {"product": "crate", "price": 500.0, "cost": 100.0, "packOf": "six", "packSize": 4.0},
        {"product": "six", "price": 90.0, "cost": 30.0, "packOf": "A", "packSize": 6.0, "itemGroup": "sixes"},
        {"product": "other six", "price": 80.0, "cost": 30.0, "itemGroup": "sixes"},
        {"product": "A"},
    ]
    crate, six, other, part = priced(rows)["recommendedPrice"]
    assert six == other <= 6 * part
    assert crate <= 4 * six


def test_the_rule_that_aligned_a_price_is_the_one_that_decided_it():
    pair = [{"itemGroup": "g"}, {"itemGroup": "g", "price": 14.0, "cost": 9.0}]
    assert set(priced(pair)["alignedBy"]) - {""} == {"item_group"}
    pack = {"product": "six", "price": 90.0, "cost": 30.0, "packOf": "A", "packSize": 6.0, "itemGroup": "g"}
    other = {"product": "other six", "price": 95.0, "cost": 30.0, "itemGroup": "g"}
    found = priced([pack, other, {}])
    assert found["alignedBy"].to_list() == ["pack", "pack", ""]  # the content of the pack holds the price of the whole group down
    assert found["bindingRule"].to_list()[:2] == ["pack", "pack"]
    roomy = priced([{**pack, "packSize": 60.0}, other, {}])
    assert set(roomy["alignedBy"]) == {"item_group", ""}


def test_what_is_sold_out_follows_its_group_and_a_group_that_is_sold_out_stays():
    rows = [{"itemGroup": "g"}, {"itemGroup": "g", "price": 12.0, "stock": 0.0}]
    assert len(set(priced(rows)["recommendedPrice"])) == 1
    gone = [{**row, "stock": 0.0} for row in rows]
    assert priced(gone)["recommendedPrice"].to_list() == [10.0, 12.0]


def test_groups_and_packs_keep_within_a_store():
    rows = [{"itemGroup": "g", "price": 10.0}, {"itemGroup": "g", "price": 30.0, "cost": 20.0}]
    frame = catalogue(rows).with_columns(store=pl.Series(["east", "west"]))
    assert groups.read(frame).units == ()
    assert groups.read(frame.drop("store")).units == ((0, 1),)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"packOf": "B", "packSize": 2.0}, "row 2, column packOf: 'B' is no product of this table; add its row"),
        ({"packOf": "A"}, "row 2, column packSize: None is empty: give the number of A in the pack"),
        ({"packOf": "A", "packSize": 0.5}, "row 2, column packSize: 0.5 is not in the range 1 to"),
        ({"product": "loop", "packOf": "loop", "packSize": 2.0}, "row 2, column packOf: 'loop' is a pack of this one"),
    ],
)
def test_an_invalid_pack_is_refused(row, message):
    with pytest.raises(CellError) as error:
        priced([{}, row])
    assert str(error.value).startswith(message)


@pytest.fixture
def task(bundle_of):
    return Task("pricing", bundle_of("pricing").path, {"itemGroup": "line"}, configuration.load())


def test_a_group_is_priced_as_one_however_the_file_is_cut(task, tmp_path, monkeypatch):
    rows = [{"product": f"P{number:04}", "price": 10.0 + number % 7, "itemGroup": "all"} for number in range(60)]
    catalogue(rows).drop("packOf", "packSize").rename({"itemGroup": "line"}).write_csv(tmp_path / "in.csv")
    batch.run(task, tmp_path / "in.csv", tmp_path / "whole.csv")
    monkeypatch.setattr(sources, "CHUNK_BYTES", 300)
    summary = batch.run(task, tmp_path / "in.csv", tmp_path / "cut.csv")
    assert (summary.rows, summary.by) == (60, "as a whole")
    assert (tmp_path / "cut.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert pl.read_csv(tmp_path / "cut.csv")["recommendedPrice"].n_unique() == 1


def test_a_wrong_cell_is_named_by_its_line_however_the_file_is_cut(task, tmp_path, monkeypatch):
    rows = [{"product": f"P{number}", "itemGroup": "all", "price": -1.0 if number == 41 else 10.0} for number in range(60)]
    catalogue(rows).drop("packOf", "packSize").rename({"itemGroup": "line"}).write_csv(tmp_path / "in.csv")
    monkeypatch.setattr(sources, "CHUNK_BYTES", 300)
    with pytest.raises(TableError, match=r"in\.csv, line 43, column price: -1\.0 is not in the range"):
        batch.run(task, tmp_path / "in.csv", tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()
