"""Sales: one product however its id is written, dates that are dates, and what is left out."""

from datetime import date, timedelta

import polars as pl
import pytest

from training.errors import CellError, TableError
from training.tables import sales
from training.tables.cells import CellOptions

WEEKS = [date(2024, 1, 1) + timedelta(weeks=week) for week in range(60)]


def table(**columns):
    rows = len(WEEKS)
    plain = {"product": ["101"] * rows, "period": [day.isoformat() for day in WEEKS], "price": [9.5] * rows, "quantity": [3] * rows}
    return pl.DataFrame({**plain, **columns})


@pytest.mark.parametrize("form", ["%Y%m%d", "%d.%m.%Y", "%G%V", "%G-W%V"])
def test_periods_are_dates_in_every_form(form):
    got = sales.read(table(period=[day.strftime(form) for day in WEEKS]))
    assert got.dated
    assert got.periods.tolist() == [day.toordinal() for day in WEEKS]


def test_digits_in_a_column_of_numbers_are_dates_too():
    got = sales.read(table(period=[int(day.strftime("%Y%m%d")) for day in WEEKS]))
    assert (got.dated, got.periods[1] - got.periods[0]) == (True, 7)


def test_week_numbers_are_numbers():
    got = sales.read(table(period=list(range(40, 100))))
    assert (got.dated, got.periods[:3].tolist()) == (False, [40, 41, 42])


def test_months_and_weeks_in_digits_are_told_apart_or_refused():
    months = [f"{2020 + month // 12}{month % 12 + 1:02d}" for month in range(60)]
    assert date.fromordinal(int(sales.read(table(period=months)).periods[13])) == date(2021, 2, 1)
    with pytest.raises(TableError, match=r"as YYYYMM and .* as YYYYWW"):
        sales.read(table(product=[str(n) for n in range(60)], period=["202401", "202402"] * 30))


@pytest.mark.parametrize("products", [[" 101 ", "101.0", "101"], [101.0] * 3, [101] * 3], ids=str)
def test_a_product_is_one_however_its_id_is_written(products):
    got = sales.read(table(product=pl.Series(products * 20)))
    assert got.products == ("101",)


@pytest.mark.parametrize("word", ["NULL", "(not set)", "", None])
def test_rows_without_a_product_are_left_out_and_counted(word):
    got = sales.read(table(product=["101", word, "102"] * 20))
    assert (got.products, got.left_out) == (("101", "102"), {"without a product": 20})
    assert "20 rows without a product were left out" in got.warnings[0]


def test_a_category_of_each_product_alone_is_warned_about():
    got = sales.read(table(product=[str(n) for n in range(60)], category=[f"c{n}" for n in range(60)]))
    assert got.warnings[0].startswith("column category is read as a category, and has 60 values in 60 rows: it may be an id")


def test_prices_are_read_in_the_notation_of_their_column():
    got = sales.read(table(price=["1.009,50 EUR", "12,00 EUR"] * 30))
    assert pytest.approx([1009.5, 12.0]) == [float(price) for price in pl.Series(got.price[:2]).exp()]
    with pytest.raises(CellError, match=r"row 60, column price: 'free' is not a number"):
        sales.read(table(price=["9.5"] * 59 + ["free"]))


def test_a_promotion_is_a_word_or_a_share():
    assert sales.read(table(promotion=["Yes", "no", "0.5", "TRUE"] * 15)).promotions[:4, 0].tolist() == [1.0, 0.0, 0.5, 1.0]
    with pytest.raises(CellError, match=r"row 2, column promotion: 'maybe' is not a promotion"):
        sales.read(table(promotion=["yes", "maybe", "no"] * 20))


def test_a_blank_period_is_named():
    with pytest.raises(CellError, match=r"row 3, column period: .*is a blank period"):
        sales.read(table(period=[None if n == 2 else day.isoformat() for n, day in enumerate(WEEKS)]))


def test_given_blank_words_replace_the_list():
    got = sales.read(table(product=["NA", "-", "102"] * 20), options=CellOptions(blank=("-",)))
    assert got.products == ("102", "NA")
