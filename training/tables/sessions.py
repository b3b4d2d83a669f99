"""Read a table of sessions as the feature matrix.

Columns are named as in the published table of `online_shoppers`, by feature, or as in `--map FIELD=COLUMN`; a feature without a column,
and a blank cell, is missing. Written with narwhals: Polars and cuDF are read by the same lines.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import narwhals as nw
import numpy as np
import polars as pl

from kernels.types import F32, F64
from training import features
from training.datasets import online_shoppers
from training.errors import CellError, TableError
from training.features import Vocabulary
from training.tables import cells
from training.tables.cells import DEFAULT, EMPTY_ONLY, CellOptions
from training.tables.cells.ids import WHOLE
from training.tables.table import WORDS, Field, Mapped, ReadPlan, TableKind, check, like, listed, single

LABEL, ORDER_VALUE, CURRENCY = "purchased", "orderValue", "currency"
PUBLISHED = {field: column for column, field in online_shoppers.COLUMNS.items()}

Parse = Callable[[str], float]

FIELDS: tuple[Field, ...] = (
    *(Field(feature.name, feature.unit, published=PUBLISHED.get(feature.name, "")) for feature in features.FEATURES),
    Field(LABEL, "0 or 1, FALSE or TRUE", "yes", PUBLISHED[LABEL], scoring="ignored"),
    Field(ORDER_VALUE, "money; of the sessions that bought", "no: without it predictedValue counts average orders", scoring="ignored"),
    Field(CURRENCY, "ISO 4217, one for the whole table", "no: read with orderValue", scoring="ignored"),
)
FIELD_NAMES: tuple[str, ...] = tuple(field.name for field in FIELDS)
_TEXTS = {*features.CATEGORIES, "month", "weekend", LABEL, CURRENCY}


@dataclass(frozen=True, slots=True)
class SessionColumns:
    """The columns of a table of sessions. of: {field: its column}; ignored: the columns that are no feature."""

    of: Mapping[str, str]
    ignored: tuple[str, ...]

    @property
    def absent(self) -> tuple[str, ...]:
        """Return the features that the table does not have."""
        return tuple(name for name in features.NAMES if name not in self.of)


class SessionsTable(TableKind):
    """A table of sessions, one a row."""

    fields = FIELDS
    published_as = "UCI 468, Sakar & Kastro 2018"

    def number_columns(self, mapping: Mapped | None = None) -> frozenset[str]:
        """Return the fields of numbers, their published names and the columns mapped to them."""
        fields = [name for name in FIELD_NAMES if name not in _TEXTS]
        mapping = mapping or {}
        mapped = {str(mapping[name]) for name in fields if name in mapping}
        names = {*fields, *(PUBLISHED[name] for name in fields if name in PUBLISHED), *mapped}
        return frozenset(names - {column for field, column in mapping.items() if field in _TEXTS})

    def plan(self, columns: Sequence[str], mapping: Mapped | None = None) -> ReadPlan:
        """Return how to read the sessions; see `resolve` for what it raises."""
        found = resolve(columns, mapping)
        named = tuple(name for name in found.of if name in features.NAMES)
        return ReadPlan(tuple(columns), self.number_columns(mapping), found.ignored, features=named)


TABLE = SessionsTable()


def resolve(columns: Sequence[str], mapping: Mapped | None = None) -> SessionColumns:
    """Return the column of each field: that in `mapping`, else the one with the field's name, else the one with its published name.

    Raises TableError when a mapped field or column does not exist, or no column is a feature.
    """
    mapping = single(mapping)
    check({field: (column,) for field, column in mapping.items()}, FIELD_NAMES, columns)
    free = set(columns) - set(mapping.values())
    named = {name: next((n for n in (name, PUBLISHED.get(name)) if n in free), None) for name in FIELD_NAMES if name not in mapping}
    of = {**mapping, **{name: column for name, column in named.items() if column is not None}}
    if not any(name in of for name in features.NAMES):
        raise TableError(
            f"no column is a feature; the table has {listed(columns)}. Name them with --map FIELD=COLUMN; --column-help lists the fields"
        )
    used = {column for name, column in of.items() if name in features.NAMES}
    return SessionColumns(of, tuple(column for column in columns if column not in used))


def matrix(frame: Any, vocabulary: Vocabulary, mapping: Mapped | None = None, *, options: CellOptions = DEFAULT) -> F32:
    """Return the float32 [rows, features] matrix of a table (polars, cudf or pandas); values that `vocabulary` lacks are missing.

    Raises CellError for the first cell that is out of its range or of another kind, TableError for numbers in two notations.
    """
    table = nw.from_native(frame, eager_only=True)
    of = resolve(table.columns, mapping).of
    given = features.given(len(table))
    for feature in features.FEATURES:
        if feature.name in of:
            given[:, features.INDEX[feature.name]] = _feature(_column(table, of[feature.name]), feature, vocabulary, options)
    _weekend(given)
    return features.matrix(given, features.Events.none(len(table)))


def keys(frame: Any, mapping: Mapped | None = None, *, options: CellOptions = DEFAULT) -> dict[str, list[str]]:
    """Return the distinct values of each category that the table has a column for, as a vocabulary keys them, in alphabetic order."""
    table = nw.from_native(frame, eager_only=True)
    of = resolve(table.columns, mapping).of
    return {
        name: sorted({key for value in _distinct(_column(table, of[name])) if (key := _key(name, value, options))})
        for name in features.CATEGORIES
        if name in of
    }


def warnings(frame: Any, mapping: Mapped | None = None, *, options: CellOptions = DEFAULT) -> list[str]:
    """Return warnings about columns whose names resemble a feature's, and categories that have nearly as many values as rows."""
    table = nw.from_native(frame, eager_only=True)
    columns = resolve(table.columns, mapping)
    of, used = columns.of, set(columns.of.values())
    free = [*columns.absent, *(PUBLISHED[name] for name in columns.absent if name in PUBLISHED)]
    unused = [f"{name}{meant}" for name in columns.ignored if name not in used and (meant := like(name, free))]
    found = [f"columns that are no feature were not used: {listed(unused)}; name them with --map FIELD=COLUMN"] if unused else list[str]()
    for name in features.CATEGORIES:
        if name in of:
            ids = cells.ids(table[of[name]], options).drop_nulls()
            fix = f"map another column to {name}, or none"
            found += cells.many_values(of[name], ids.unique(maintain_order=True), len(ids), fix, options)
    return found


def labels(frame: Any, mapping: Mapped | None = None, *, options: CellOptions = DEFAULT) -> F64:
    """Return 1.0 for each row that bought, 0.0 for one that did not. Raises TableError without a label column or with a blank in it."""
    table = nw.from_native(frame, eager_only=True)
    column = resolve(table.columns, mapping).of.get(LABEL)
    if column is None:
        raise TableError(
            f"no column is the label: name it {LABEL} or {PUBLISHED[LABEL]}, or use --map {LABEL}=COLUMN; "
            f"the table has {listed(table.columns)}"
        )
    values = _parsed(_column(table, column), _truth, 0.0, 1.0, "is not TRUE or FALSE (or 1, 0)", options)
    blank = np.flatnonzero(np.isnan(values) | (values % 1 != 0))
    if blank.size:
        raise CellError(
            int(blank[0]), column, table[column].to_list()[blank[0]], "is not a label; write TRUE or FALSE, or leave the row out"
        )
    return values


def order_value(frame: Any, bought: F64, mapping: Mapped | None = None, *, options: CellOptions = DEFAULT) -> tuple[float, str] | None:
    """Return the mean order of the rows that bought and its currency; None when the table has no order values."""
    table = nw.from_native(frame, eager_only=True)
    of = resolve(table.columns, mapping).of
    if ORDER_VALUE not in of:
        return None
    money = _number(_column(table, of[ORDER_VALUE]), 0.0, math.inf, options)[bought > 0]
    if np.isnan(money).all():
        return None
    currencies = set(cells.ids(table[of[CURRENCY]], options).drop_nulls().unique().to_list()) if CURRENCY in of else set[str]()
    if len(currencies) > 1:
        raise TableError(f"column {of[CURRENCY]} holds {listed(sorted(currencies))}; order values need one currency: convert them")
    return float(np.nanmean(money)), currencies.pop() if currencies else "XXX"


def _column(table: Any, name: str) -> pl.Series:
    return cells.as_polars(table[name]).alias(name)


def _feature(column: pl.Series, feature: features.Feature, vocabulary: Vocabulary, options: CellOptions) -> F64:
    if feature.kind == "category":
        codes = vocabulary.codes.get(feature.name, {})
        # No word is blank here: one that was so in training is not in the vocabulary.
        return _parsed(column, lambda text: codes.get(_key(feature.name, text, EMPTY_ONLY), math.nan))
    if feature.name in _TEXTS:
        parse, expected = (
            (_month, "is not a month; write Jan ... Dec or 1 ... 12") if feature.name == "month" else (_truth, "is not TRUE or FALSE")
        )
        return _parsed(column, parse, feature.low, feature.high, expected, options)
    return _number(column, feature.low, feature.high, options)


def _number(column: pl.Series, low: float, high: float, options: CellOptions) -> F64:
    return _within(column, cells.floats(column, options), low, high)


def _parsed(
    column: pl.Series,
    parse: Parse,
    low: float = -math.inf,
    high: float = math.inf,
    fix: str = "",
    options: CellOptions = EMPTY_ONLY,
) -> F64:
    """Return a column as float64 [rows], blank cells NaN: numbers as they are, each distinct text parsed by `parse`.

    Categories alone have no range; `parse` looks them up, also for numbers. Raises CellError for a cell that `parse` rejects.
    """
    looked_up = not fix
    if column.dtype == pl.Boolean or (column.dtype.is_numeric() and not looked_up):
        values = cells.floats(column)
    elif column.dtype.is_numeric():
        distinct, where = np.unique(cells.floats(column), return_inverse=True)
        values = np.array([math.nan if math.isnan(value) else parse(_text(value)) for value in distinct])[where]
    else:
        values = _texts(column.cast(pl.String), parse, fix, options)
    return values if looked_up else _within(column, values, low, high)


def _within(column: pl.Series, values: F64, low: float, high: float) -> F64:
    """Return the values. Raises CellError for the first that is out of its range."""
    wrong = np.flatnonzero((values < low) | (values > high) | np.isinf(values))
    if wrong.size:
        row = int(wrong[0])
        raise CellError(
            row, column.name, column[row], f"is not in the range {low:g} to {high:g}; correct it, or leave it empty when unknown"
        )
    return values


def _texts(column: pl.Series, parse: Parse, fix: str, options: CellOptions) -> F64:
    meanings = dict[str, float]()
    for text in _distinct(column):
        try:
            meanings[text] = math.nan if options.is_blank(text) else parse(text.strip())
        except ValueError:
            raise CellError(column.to_list().index(text), column.name, text, fix) from None
    found = column.replace_strict(list(meanings), list(meanings.values()), default=math.nan, return_dtype=pl.Float64)
    return np.asarray(found.to_numpy(), np.float64)


def _distinct(column: pl.Series) -> list[Any]:
    return column.drop_nulls().unique(maintain_order=True).to_list()


def _key(name: str, value: object, options: CellOptions) -> str:
    """Return the key of a category value; "" for a missing one. A whole number is one however it is written."""
    key = features.category_key(_text(value) if isinstance(value, float) else value)
    if key in options.blank_cells or (name == "deviceType" and key == "unknown"):
        return ""
    return re.sub(WHOLE, r"\1", key)


def _text(value: float) -> str:
    return str(int(value)) if value.is_integer() else str(value)


def _month(text: str) -> float:
    number = online_shoppers.MONTHS.get(text.lower())
    return _whole(text) if number is None else float(number)


def _truth(text: str) -> float:
    word = WORDS.get(text.lower())
    return _whole(text) if word is None else word


def _whole(text: str) -> float:
    number = float(text)
    if number % 1 != 0:
        raise ValueError(text)
    return number


def _weekend(given: F64) -> None:
    """Derive whether the day is of a weekend where only the day is known, as for a request."""
    day, weekend = given[:, features.INDEX["dayOfWeek"]], given[:, features.INDEX["weekend"]]
    known = ~np.isnan(day) & np.isnan(weekend)
    weekend[known] = (day[known] % 6 == 0).astype(np.float64)
