"""An id is one id however it is written, and a blank word is none."""

from decimal import Decimal

import pandas as pd
import polars as pl
import pytest

from training.tables import cells
from training.tables.cells import CellOptions

BLANK = ["", " ", "NULL", "null", "None", "nan", "NaN", "N/A", "n/a", "NA", "(not set)", "(none)", "(Not Set)"]


def ids(values, **options):
    return cells.ids(pl.Series("id", values), CellOptions(**options)).to_list()


@pytest.mark.parametrize(
    "column",
    [
        pl.Series(["101", " 101 ", "101.0", "101.00"]),
        pl.Series([101.0] * 4),
        pl.Series([101.0] * 4, dtype=pl.Float32),
        pl.Series([101] * 4),
        pl.Series([Decimal("101.00")] * 4),
        pl.Series(["101", " 101 ", "101.0", "101"], dtype=pl.Categorical),
        pd.Series([101, 101.0, "101", " 101.0 "], dtype=object),
        pd.Series([101] * 4, dtype="Int64"),
        pd.Series([101.0] * 4),
    ],
    ids=lambda column: f"{type(column).__module__} {column.dtype}",
)
def test_a_whole_number_is_one_id_whatever_library_and_type_hold_it(column):
    assert cells.ids(column).to_list() == ["101"] * 4


def test_ids_that_differ_stay_different():
    assert ids(["007", "7", "a", "A", "1.5", "1.50", "x.0", "1e3", "-5.0"]) == ["007", "7", "a", "A", "1.5", "1.50", "x.0", "1e3", "-5"]
    assert ids([1.5, 2.0, 1e300]) == ["1.5", "2", "1e+300"]
    assert ids([2**53 + 1]) == [str(2**53 + 1)]


@pytest.mark.parametrize("word", BLANK)
def test_a_blank_word_is_no_id_in_any_case(word):
    assert ids([word, "x"]) == [None, "x"]


@pytest.mark.parametrize(
    "column",
    [pl.Series([None, float("nan"), 1.0]), pd.Series([None, float("nan"), 1.0]), pd.Series([None, pd.NA, 1], dtype=object)],
    ids=str,
)
def test_a_missing_number_is_no_id(column):
    assert cells.ids(column).to_list() == [None, None, "1"]


def test_given_words_replace_the_list_and_an_empty_cell_stays_blank():
    assert ids(["NA", "None", " - ", "", None], blank=("-",)) == ["NA", "None", None, None, None]
    assert ids(["NA", ""], blank=()) == ["NA", None]


def test_rows_that_are_left_out_are_counted_with_their_words_and_first_rows():
    column = pl.Series("customer", ["a", "NULL", None, "nan", "NULL", "b", "(not set)"])
    (warning,) = cells.without("customer", column, cells.ids(column))
    assert warning.startswith("5 rows without a customer were left out: column customer is blank, or a word for it ('NULL' 2, ")
    assert warning.endswith("in row 2, 3, 4, ...")
    assert cells.without("customer", column, cells.ids(pl.Series(["a"]))) == []
