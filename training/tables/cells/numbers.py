"""Numbers and money: text in the notation of its column, decimals and other types as float64."""

from typing import Any

import numpy as np
import polars as pl

from kernels.types import F64
from training.errors import CellError
from training.tables.cells.columns import as_polars, texts
from training.tables.cells.notations import NumberNotation, distinct_texts, parsed
from training.tables.cells.options import DEFAULT, CellOptions, DecimalMark

FIX = "is not a number; write one such as 12.5, or leave it empty"


def numbers(column: Any, options: CellOptions = DEFAULT, *, decimal: DecimalMark | None = None, fix: str = FIX) -> pl.Series:
    """Return a column of numbers as Float64 [rows], null where a cell is blank.

    decimal: the mark that was found for the whole column, of which this is a chunk; None to find it here. fix: what a CellError tells to
    do. A percentage is a fraction. Raises CellError for the first cell that is no number, TableError where the column fits two notations
    that differ.
    """
    series = as_polars(column)
    if series.dtype in (pl.String, pl.Categorical, pl.Enum):
        return _of_texts(series.cast(pl.String), options, decimal, fix)
    if series.dtype == pl.Boolean or series.dtype.is_numeric():
        return series.cast(pl.Float64).fill_nan(None)
    if series.null_count() == len(series):
        return pl.Series(series.name, [None] * len(series), pl.Float64)
    row = int(series.is_not_null().arg_true()[0])
    raise CellError(row, series.name, series[row], fix)


def floats(column: Any, options: CellOptions = DEFAULT, *, decimal: DecimalMark | None = None, fix: str = FIX) -> F64:
    """Return a column of numbers as float64 [rows], NaN where a cell is blank; as `numbers`, and raises what it does."""
    series = as_polars(column)
    if not series.dtype.is_numeric():
        series = numbers(series, options, decimal=decimal, fix=fix)
    return np.asarray(series.cast(pl.Float64).to_numpy(), np.float64)  # null is NaN there


def is_number(text: str) -> bool:
    """Return whether a text is a number in some notation."""
    return any(values[0] is not None for values in parsed(pl.Series([text.strip()], dtype=pl.String)).values.values())


def _of_texts(series: pl.Series, options: CellOptions, decimal: DecimalMark | None, fix: str) -> pl.Series:
    mark = decimal or options.decimal
    plain = series.cast(pl.Float64, strict=False)
    if mark != "," and plain.null_count() == series.null_count() and plain.is_finite().all():
        if mark is None:
            notation = NumberNotation(series.name, options)
            notation.add_distinct(series.drop_nulls().unique(maintain_order=True))
            mark = notation.decimal
        if mark == ".":
            return plain
    stripped = texts(series)
    distinct = distinct_texts(stripped, options)
    if mark is None:
        notation = NumberNotation(series.name, options)
        notation.add_distinct(distinct)
        mark = notation.decimal
    found = parsed(distinct)
    values = found.values[mark]
    if values.null_count():
        wrong = stripped.is_in(distinct.filter(values.is_null()).implode()).fill_null(False)
        row = int(wrong.arg_true()[0])
        other = parsed(pl.Series([stripped[row]])).values["." if mark == "," else ","][0]
        hint = f"is no number with a decimal {'comma' if mark == ',' else 'point'}, as the other cells have; write all in one notation"
        raise CellError(row, series.name, series[row], fix if other is None else hint)
    return stripped.replace_strict(distinct, values, default=None, return_dtype=pl.Float64)
