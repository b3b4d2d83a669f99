"""Numbers are read in the notation that the whole column shows, or refused with both readings."""

from decimal import Decimal

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.errors import CellError, TableError
from training.tables import cells
from training.tables.cells import CellOptions, NumberNotation


def numbers(*texts):
    return cells.numbers(pl.Series("x", list(texts), pl.String)).to_list()


READ = {
    "a decimal point and commas between thousands": (["1,234.50", "950.00", "1,234,567"], [1234.5, 950.0, 1234567.0]),
    "a decimal comma and points between thousands": (["1.234,50", "12,5", "1.234.567"], [1234.5, 12.5, 1234567.0]),
    "blanks between thousands": (["1 234,50", "3"], [1234.5, 3.0]),
    "narrow no-break spaces between thousands": (["1\u202f234,50", "1\u00a0000,00"], [1234.5, 1000.0]),
    "apostrophes between thousands": (["1'234.50", "2"], [1234.5, 2.0]),
    "lakhs": (["12,34,567.00", "1.5"], [1234567.0, 1.5]),
    "a currency's symbol": (["$12.00", "-$3.50", "$-1"], [12.0, -3.5, -1.0]),
    "a currency's code": (["12,50 EUR", "3 EUR", "EUR 1.000,00"], [12.5, 3.0, 1000.0]),
    "a symbol and its code": (["12,50 €", "3 EUR"], [12.5, 3.0]),
    "percentages": (["5%", "12.5 %", "0"], [0.05, 0.125, 0.0]),
    "parentheses for negative numbers": (["(12.00)", "($3)", "4"], [-12.0, -3.0, 4.0]),
    "signs": (["+5", "-0.5", "\u22122", "7-"], [5.0, -0.5, -2.0, -7.0]),
    "exponents": (["1e5", "2.5E-3"], [100000.0, 0.0025]),
    "blank words": (["n/a", " 12 ", "NULL", None, ""], [None, 12.0, None, None, None]),
    "three decimals beside others": (["1.234", "0.5"], [1.234, 0.5]),
    "three decimals after 0": (["0.500", "1.250"], [0.5, 1.25]),
    "whole numbers": (["12", "7"], [12.0, 7.0]),
}


@pytest.mark.parametrize(("texts", "values"), READ.values(), ids=READ)
def test_a_notation_is_recognised_from_the_whole_column(texts, values):
    assert numbers(*texts) == values


@pytest.mark.parametrize(
    ("texts", "point", "comma"), [(["1,234"], 1234, 1.234), (["1.234", "12"], 1.234, 1234), (["-1,234", "5"], -1234, -1.234)]
)
def test_a_column_that_fits_two_notations_is_refused_with_both_readings_and_the_option_chooses(texts, point, comma):
    said = rf"column x: '{texts[0]}' is {point} with a decimal point and {comma} with a decimal comma.*--decimal"
    with pytest.raises(TableError, match=said):
        numbers(*texts)
    assert [cells.numbers(pl.Series("x", texts), CellOptions(decimal=mark)).to_list()[0] for mark in ".,"] == [point, comma]


def test_two_currencies_are_not_added_up():
    with pytest.raises(TableError, match=r"column x holds amounts in several currencies \('12 USD', '3 EUR'\)"):
        numbers("12 USD", "3 EUR")


def test_percentages_beside_other_numbers_are_refused():
    with pytest.raises(TableError, match=r"'5%' is a percentage and '7' is not"):
        numbers("5%", "7")


@pytest.mark.parametrize("text", ["many", "5 pcs", "1,23,45", "(5", "1_0", "inf", "12 12,5 1", "--5", "$", "2024-01-05", "\u0663"])
def test_text_that_is_no_number_is_named_with_row_column_and_value(text):
    with pytest.raises(CellError, match="is not a number") as raised:
        numbers("1", "", text, "2.5")
    assert (raised.value.row, raised.value.column, raised.value.value) == (2, "x", text)


def test_a_number_in_the_other_notation_is_named_as_such():
    with pytest.raises(CellError, match=r"row 3, column x: '1\.234,50' is no number with a decimal point, as the other cells have"):
        numbers("1,234.50", "7.25", "1.234,50")


def test_decimals_and_booleans_are_numbers_and_dates_are_not():
    assert cells.numbers(pl.Series([Decimal("2.5"), None])).to_list() == [2.5, None]
    assert cells.numbers(pl.Series([True, None])).to_list() == [1.0, None]
    with pytest.raises(CellError, match=r"row 2, column d: .*is not a number"):
        cells.numbers(pl.Series("d", [None, "2024-01-01"]).str.to_date())


@settings(deadline=None)
@given(
    st.lists(
        st.lists(st.sampled_from(["1,234", "1.234", "12,5", "12.5", "7", "x", "5%", "1.234,5", ""]), max_size=3), min_size=1, max_size=4
    )
)
def test_a_column_read_in_chunks_is_read_as_a_whole(chunks):
    texts = [text for chunk in chunks for text in chunk]

    def whole():
        return cells.numbers(pl.Series("x", texts, pl.String)).to_list()

    def in_chunks():
        notation = NumberNotation("x")
        for chunk in chunks:
            notation.add(pl.Series("x", chunk, pl.String))
        decimal = notation.decimal
        return [v for chunk in chunks for v in cells.numbers(pl.Series("x", chunk, pl.String), decimal=decimal).to_list()]

    assert _outcome(whole) == _outcome(in_chunks)


def _outcome(read):
    try:
        return read()
    except TableError as error:
        return type(error), getattr(error, "value", None)


@settings(deadline=None)
@given(st.lists(st.floats(-1e9, 1e9, allow_nan=False).map(lambda value: round(value, 2)), min_size=1, max_size=30))
def test_whatever_is_written_with_either_mark_is_read_back(values):
    english = [f"{value:,.2f}" for value in values]
    german = [text.translate(str.maketrans(",.", ".,")) for text in english]
    assert numbers(*english) == numbers(*german) == [float(text.replace(",", "")) for text in english]
