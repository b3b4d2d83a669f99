"""Columns of polars, pandas and cuDF as polars Series."""

from typing import Any

import narwhals as nw
import polars as pl


def as_polars(column: Any) -> pl.Series:
    """Return a column (of polars, pandas, cuDF or narwhals) as a polars Series; one of mixed Python objects as text."""
    if isinstance(column, pl.Series):
        return column if column.dtype != pl.Object else _mixed(column.name, column.to_list(), column.is_null().to_list())
    column = nw.from_native(column, series_only=True)
    if isinstance(native := column.to_native(), pl.Series):
        return as_polars(native)
    try:
        series: pl.Series = column.to_polars()
    except (TypeError, ValueError):  # Arrow has no type for numbers and texts in one column
        return _mixed(column.name, column.to_list(), column.is_null().to_list())
    return series if series.dtype != pl.Object else _mixed(series.name, column.to_list(), column.is_null().to_list())


def texts(column: Any) -> pl.Series:
    """Return a column as text, stripped of surrounding blanks."""
    series = as_polars(column)
    return (series if series.dtype == pl.String else series.cast(pl.String)).str.strip_chars()


def _mixed(name: str, values: list[Any], missing: list[bool]) -> pl.Series:
    return pl.Series(name, [None if gone else str(value) for value, gone in zip(values, missing, strict=True)], pl.String)
