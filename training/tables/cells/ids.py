"""Ids: the texts by which rows are matched, such as customers, products and sessions."""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import polars as pl

from training.tables.cells.columns import as_polars
from training.tables.cells.options import DEFAULT, CellOptions

WHOLE = r"^([-+]?\d+)\.0+$"  # a whole number that was written as a decimal: the first group is the number
MAX_WHOLE = 2.0**63  # of a float that is exact as int64
SHOWN_ROWS, SHOWN_WORDS = 3, 5  # in a message


def ids(column: Any, options: CellOptions = DEFAULT) -> pl.Series:
    """Return a column of ids as text [rows], null where a cell is blank.

    Surrounding blanks are removed, and a whole number is the same id however it is written: 101, 101.0, and 101 in a column of floats.
    """
    series = as_polars(column)
    if series.dtype.is_float():
        return _of_floats(series)
    if series.dtype.is_integer():
        return series.cast(pl.String)
    series = series.cast(pl.String)
    written = series.str.contains(_otherwise(options.blank))  # most columns have none such, and this is the fast way to see it
    if not written.any():
        return series
    distinct = series.filter(written).unique()
    plain = distinct.str.strip_chars().str.replace(WHOLE, "${1}")
    meant = plain.set(plain.str.to_lowercase().is_in(options.blank_cells), None)
    return series.set(written.fill_null(False) & series.is_in(distinct.filter(meant.is_null()).implode()), None).replace(
        distinct.filter(meant.is_not_null()), meant.drop_nulls()
    )


@lru_cache(maxsize=16)
def _otherwise(blank: tuple[str, ...]) -> str:
    """Return the pattern of cells that are not the text of an id as it is: blank ones, whole numbers as decimals, surrounding blanks."""
    words = "|".join(re.escape(word) for word in ("", *blank))
    return rf"^\s|\s$|^[-+]?\d+\.0+$|^(?i:{words})$"


def _of_floats(series: pl.Series) -> pl.Series:
    """Return floats as text: whole ones as integers, NaN null."""
    values = series.cast(pl.Float64).fill_nan(None)
    whole = (values == values.floor()) & (values.abs() < MAX_WHOLE)
    if whole.all():  # nulls are skipped
        return values.cast(pl.Int64).cast(pl.String)
    return (
        pl.select(
            pl.when(whole).then(values.set(~whole.fill_null(False), None).cast(pl.Int64).cast(pl.String)).otherwise(series.cast(pl.String))
        )
        .to_series()
        .alias(series.name)
        .set(values.is_null(), None)
    )


def blank_words(column: Any, options: CellOptions = DEFAULT) -> Mapping[str, int]:
    """Return how often each word for a missing cell is in a column, the most frequent first; an empty cell is no word."""
    series = as_polars(column)
    if series.dtype.is_numeric() or not options.blank:
        return {}
    stripped = series.cast(pl.String).str.strip_chars()
    found = stripped.filter(stripped.str.to_lowercase().is_in(options.blank)).value_counts(sort=True)
    return dict(found.iter_rows())


def without(what: str, column: Any, found: pl.Series, options: CellOptions = DEFAULT, *, rows: bool = True) -> list[str]:
    """Return a warning about the rows without `what`, none where all have one.

    found: what `ids` returned for the column; rows: whether they are those of the file, so that the first are named.
    """
    missing = found.is_null().arg_true()
    if not len(missing):
        return []
    words = blank_words(column, options)
    listed = ", ".join(f"{word!r} {number:,}" for word, number in list(words.items())[:SHOWN_WORDS])
    blank = f"blank, or a word for it ({listed}; --blank WORD replaces the words)" if words else "blank"
    first = ", ".join(f"{row + 1:,}" for row in missing.head(SHOWN_ROWS).to_list())
    place = f" in row {first}{', ...' if len(missing) > SHOWN_ROWS else ''}" if rows else ""
    return [f"{len(missing):,} rows without a {what} were left out: column {found.name} is {blank}{place}"]
