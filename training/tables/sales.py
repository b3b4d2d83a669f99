"""Read a table of sales as arrays to fit demand on."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import narwhals as nw
import numpy as np
import polars as pl

from kernels.types import F64, I64, Bool
from training.errors import CellError, TableError
from training.tables import cells
from training.tables.cells import DEFAULT, CellOptions, TimeColumn
from training.tables.table import WORDS, Field, Mapped, ReadPlan, TableKind, check, listed

PRODUCT, PRICE, QUANTITY, LOG_QUANTITY, PERIOD = "product", "price", "quantity", "logQuantity", "period"
ITEM_GROUP, PACK_OF, PACK_SIZE = "itemGroup", "packOf", "packSize"
COMPETITOR, PROMOTION, CATEGORY, COST, STOCK, STORE, CURRENCY, CONTROL = (
    "competitorPrice",
    "promotion",
    "category",
    "cost",
    "stock",
    "store",
    "currency",
    "control",
)
EFFECTS = (PRODUCT, STORE, PERIOD)
ONE = "all"  # the product, or the category, of a table that names none

FIELDS: tuple[Field, ...] = (
    Field(PRODUCT, "text", "no: without it all rows are one product"),
    Field(PRICE, "money, more than 0", "yes", scoring="yes: the price of today"),
    Field(
        QUANTITY, "units sold, 0 or more", "yes, unless logQuantity is there", scoring="no: without it the demand that the model learned"
    ),
    Field(LOG_QUANTITY, "natural logarithm of the units sold", "no: instead of quantity", scoring="ignored"),
    Field(
        PERIOD, "a date or a week number, all in one format", "no: with it season is learned, and keys must be unique", scoring="ignored"
    ),
    Field(
        COMPETITOR,
        "money, more than 0",
        "no: with it cross elasticities are learned",
        several=True,
        scoring="no: with it their prices of today count",
    ),
    Field(
        PROMOTION,
        "0 or 1, a share, FALSE or TRUE",
        "no: with it effects of promotions are separated from prices",
        several=True,
        scoring="ignored",
    ),
    Field(CATEGORY, "text, one for each product", "no: without it all products are one category", scoring="ignored"),
    Field(COST, "money a unit", "no: with it a request need not state the cost", scoring="no: without it the cost that the model learned"),
    Field(STOCK, "units in stock as the period begins", "no: with it sold-out rows are left out", scoring="no: without it there is enough"),
    Field(STORE, "text", "no", scoring="no: groups and packs are of one store"),
    Field(CURRENCY, "ISO 4217, one for the whole table", "no", scoring="ignored"),
    Field(CONTROL, "a number", "no: a confounder of prices and demand; with it double machine learning", several=True, scoring="ignored"),
    Field(ITEM_GROUP, "text", "ignored", scoring="no: the products of a group get one price"),
    Field(PACK_OF, "a product of the table", "ignored", scoring="no: a pack is priced no higher than its content"),
    Field(PACK_SIZE, "how many of it, 1 or more", "ignored", scoring="with packOf"),
)
LINKED_FIELDS = (ITEM_GROUP, PACK_OF)  # fields by which one product's price depends on those of others
FIELD_NAMES: tuple[str, ...] = tuple(field.name for field in FIELDS)
_NUMBERS = {PRICE, QUANTITY, LOG_QUANTITY, COMPETITOR, COST, STOCK, CONTROL, PACK_SIZE}


@dataclass(frozen=True, slots=True)
class SalesColumns:
    """The columns of a table of sales. of: {field: its columns}; ignored: the columns without a field."""

    of: Mapping[str, tuple[str, ...]]
    ignored: tuple[str, ...]

    def one(self, field: str) -> str | None:
        """Return the column of a field, None where there is none."""
        return self.of[field][0] if field in self.of else None


@dataclass(frozen=True, slots=True)
class Sales:
    """Rows that can be learned from; arrays are [rows] unless stated, prices and quantities natural logarithms.

    product: places in `products`; category: [products], places in `categories`; competitors: [rows, competitor_names], promotions: [rows,
    promotion_names]; controls: [rows, control_names], NaN where not known; period: places in `periods`, numbers in order of time, None
    without one, as `store` in `stores`. cost: [products] the latest, NaN where not known. left_out: numbers of rows that were left out, by
    reason; warnings: about rows and columns, with their place.
    """

    product: I64
    products: tuple[str, ...]
    category: I64
    categories: tuple[str, ...]
    price: F64
    quantity: F64
    competitors: F64
    competitor_names: tuple[str, ...]
    promotions: F64
    promotion_names: tuple[str, ...]
    controls: F64
    control_names: tuple[str, ...]
    period: I64 | None
    periods: I64
    period_form: str
    dated: bool
    store: I64 | None
    stores: tuple[str, ...]
    cost: F64
    currency: str | None
    left_out: Mapping[str, int]
    warnings: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.price)


class SalesTable(TableKind):
    """A table of sales, one row for each product, store and period; to be priced, one for each product."""

    fields = FIELDS
    keys = (PRODUCT, STORE, CATEGORY, ITEM_GROUP, PACK_OF)

    def number_columns(self, mapping: Mapped | None = None) -> frozenset[str]:
        """Return the fields of numbers and the columns mapped to them."""
        mapping = mapping or {}
        names = {column for field in _NUMBERS for column in (*_columns(mapping, field), field)}
        texts = {column for field in mapping if field not in _NUMBERS for column in _columns(mapping, field)}
        return frozenset(names - texts)

    def plan(self, columns: Sequence[str], mapping: Mapped | None = None) -> ReadPlan:
        """Return how to read the sales: as a whole where products share a price or are sold in packs; see `resolve` for what it raises."""
        found = resolve(columns, mapping, scoring=True)
        return ReadPlan(
            tuple(columns), self.number_columns(mapping), found.ignored, whole=any(field in found.of for field in LINKED_FIELDS)
        )


TABLE = SalesTable()


def resolve(columns: Sequence[str], mapping: Mapped | None = None, *, scoring: bool = False) -> SalesColumns:
    """Return the columns of each field: those in `mapping`, else the one with the field's name.

    scoring: whether the table is a catalogue to be priced, which needs no quantity. Raises TableError when a mapped field or column does
    not exist, or there is no price or no quantity.
    """
    mapping = mapping or {}
    check({field: _columns(mapping, field) for field in mapping}, FIELD_NAMES, columns)
    taken = {column for field in mapping for column in _columns(mapping, field)}
    of = {
        field: _columns(mapping, field) or (field,)
        for field in FIELD_NAMES
        if field in mapping or (field in columns and field not in taken)
    }
    if PRICE not in of or not (scoring or QUANTITY in of or LOG_QUANTITY in of):
        missing = PRICE if PRICE not in of else QUANTITY
        raise TableError(f"no column is the {missing}; the table has {listed(columns)}. Name it with --map {missing}=COLUMN")
    used = {column for names in of.values() for column in names}
    return SalesColumns(of, tuple(column for column in columns if column not in used))


def read(frame: Any, mapping: Mapped | None = None, *, options: CellOptions = DEFAULT) -> Sales:
    """Return the rows of a table (polars, cudf or pandas) that demand can be learned from.

    Rows without a price or a quantity, sold out, or without a sale, are left out and counted: none of them has a logarithm that measures
    demand. Raises CellError for the first cell that is out of its range, and for a duplicate key; TableError where no row is left.
    """
    table = _Cells(nw.from_native(frame, eager_only=True), options)
    columns = resolve(table.frame.columns, mapping)
    rows = len(table.frame)
    price = _money(table, columns.one(PRICE))
    log_quantity, why_not = _demand(table, columns)
    product, products = _codes(table, columns.one(PRODUCT))
    store, stores = _codes(table, columns.one(STORE))
    category, categories = _category(table, columns, product, products)
    period, numbers, form = _periods(table, columns)
    competitors = np.array([np.log(_money(table, name)) for name in columns.of.get(COMPETITOR, ())]).reshape(-1, rows).T
    promotions = np.array([_truths(table, name) for name in columns.of.get(PROMOTION, ())]).reshape(-1, rows).T
    known = [_number(table, name, -math.inf, "is not a finite number") for name in columns.of.get(CONTROL, ())]
    controls = np.array(known).reshape(-1, rows).T
    _check_keys(table, columns, product, store, period)
    reasons = {
        "without a price": np.isnan(price),
        "without a product": product < 0,
        **why_not,
        "without a competitor's price": np.isnan(competitors).any(axis=1),
        "without a promotion cell": np.isnan(promotions).any(axis=1),
    }
    kept, left_out = np.ones(rows, bool), dict[str, int]()
    for reason, which in reasons.items():
        left_out[reason] = int((kept & which).sum())
        kept &= ~which
    left_out = {reason: number for reason, number in left_out.items() if number}
    if not kept.any():
        reasons_left = ", ".join(f"{number} {reason}" for reason, number in left_out.items())
        raise TableError(f"no row is left to learn from ({reasons_left or 'the table is empty'})")
    return Sales(
        product[kept],
        products,
        category,
        categories,
        np.log(price[kept]),
        log_quantity[kept],
        competitors[kept],
        columns.of.get(COMPETITOR, ()),
        promotions[kept],
        columns.of.get(PROMOTION, ()),
        controls[kept],
        columns.of.get(CONTROL, ()),
        period[kept] if PERIOD in columns.of else None,
        numbers,
        form.form,
        form.is_date,
        store[kept] if STORE in columns.of else None,
        stores,
        _costs(table, columns, product, period, len(products)),
        _currency(table, columns),
        left_out,
        _warnings(table, columns),
    )


@dataclass(frozen=True, slots=True)
class _Cells:
    """A table with how its cells are read."""

    frame: nw.DataFrame[Any]
    options: CellOptions

    def numbers(self, column: str) -> F64:
        """Return a column as numbers, float64 [rows]."""
        return cells.floats(self.frame[column], self.options)

    def ids(self, column: str) -> pl.Series:
        """Return a column as ids, text [rows]."""
        return cells.ids(self.frame[column], self.options)

    def error(self, row: int, column: str | None, fix: str) -> CellError:
        """Return the error for a cell."""
        return CellError(row, column or "", self.frame[column or ""][row], fix)


def _columns(mapping: Mapped, field: str) -> tuple[str, ...]:
    names = mapping.get(field, ())
    return (names,) if isinstance(names, str) else tuple(names)


def _warnings(table: _Cells, columns: SalesColumns) -> tuple[str, ...]:
    """Return warnings about rows without a product, and a category with nearly as many values as rows."""
    product, category = columns.one(PRODUCT), columns.one(CATEGORY)
    found = (
        [f"no column is the product, so that all rows count as one: name it with --map {PRODUCT}=COLUMN"]
        if product is None
        else cells.without(PRODUCT, table.frame[product], table.ids(product), table.options)
    )
    if category is not None:
        ids = table.ids(category).drop_nulls()
        fix = "products share what they have in common by category: map another column to it, or none"
        found += cells.many_values(category, ids.unique(maintain_order=True), len(ids), fix, table.options)
    return tuple(found)


def _demand(table: _Cells, columns: SalesColumns) -> tuple[F64, dict[str, Bool]]:
    """Return log quantities, and the rows without a measure of demand, by reason."""
    if QUANTITY not in columns.of:
        logs = _number(table, columns.one(LOG_QUANTITY) or "", -math.inf, "is not a logarithm: write a finite number, or leave it empty")
        return logs, {"without a quantity": np.isnan(logs)}
    quantity = _number(table, columns.one(QUANTITY) or "", 0.0, "is less than 0: subtract returns elsewhere, or leave it empty")
    why_not = {"without a quantity": np.isnan(quantity), "without a sale": quantity == 0}
    if STOCK in columns.of:
        stock = _number(table, columns.one(STOCK) or "", 0.0, "is less than 0: correct it, or leave it empty")
        why_not["sold out"] = quantity >= stock
    with np.errstate(divide="ignore"):
        return np.log(quantity), why_not


def _number(table: _Cells, column: str, low: float, fix: str) -> F64:
    values = table.numbers(column)
    wrong = np.flatnonzero((values < low) | np.isinf(values))
    if wrong.size:
        raise table.error(int(wrong[0]), column, fix)
    return values


def _money(table: _Cells, column: str | None) -> F64:
    fix = "is not a price: it must be more than 0; correct it, or leave it empty"
    values = _number(table, column or "", 0.0, fix)
    wrong = np.flatnonzero(values == 0)
    if wrong.size:
        raise table.error(int(wrong[0]), column, fix)
    return values


def _truths(table: _Cells, column: str) -> F64:
    kind = table.frame[column].dtype
    if kind == nw.Boolean or kind.is_numeric():
        return _number(table, column, -math.inf, "is not a number")
    words = cells.texts(table.frame[column]).str.to_lowercase().replace(list(WORDS), [f"{truth:g}" for truth in WORDS.values()])
    try:
        return cells.floats(words.alias(column), table.options)
    except CellError as error:
        raise table.error(error.row, column, "is not a promotion: write 0 or 1") from None


def _codes(table: _Cells, column: str | None) -> tuple[I64, tuple[str, ...]]:
    """Return the code of each row's text, -1 where it is blank, and the texts in alphabetic order, numbers by size."""
    if column is None:
        return np.zeros(len(table.frame), np.int64), (ONE,)
    ids = table.ids(column)
    names = sorted(ids.drop_nulls().unique().to_list(), key=_sort_key)
    codes = ids.cast(pl.Enum(names)).to_physical().cast(pl.Int64).fill_null(-1)
    return codes.to_numpy().astype(np.int64), tuple(names)


def _sort_key(text: str) -> tuple[int, int, str]:
    return (0, int(text), "") if text.isdecimal() else (1, 0, text)


def _category(table: _Cells, columns: SalesColumns, product: I64, products: Sequence[str]) -> tuple[I64, tuple[str, ...]]:
    """Return the category of each product. Raises CellError for a product with two."""
    column = columns.one(CATEGORY)
    codes, categories = _codes(table, column)
    known = (product >= 0) & (codes >= 0)
    of = np.full(len(products), -1, np.int64)
    of[product[known]] = codes[known]
    other = np.flatnonzero(known & (codes != of[np.maximum(product, 0)]))
    if other.size:
        row = int(other[0])
        raise table.error(row, column, f"is not the category of product {products[product[row]]} in other rows; give it one")
    if (of < 0).any():
        categories, of = (*categories, ONE), np.where(of < 0, len(categories), of)
    return of, categories


def _periods(table: _Cells, columns: SalesColumns) -> tuple[I64, I64, TimeColumn]:
    """Return the period of each row, the periods' numbers in order of time, and their times."""
    column, rows = columns.one(PERIOD), len(table.frame)
    if column is None:
        nothing = np.zeros(rows, np.int64)
        return nothing, np.zeros(1, np.int64), TimeColumn(cells.WHOLE_NUMBER, False, np.ones(rows, bool), nothing, np.zeros(rows))
    times = cells.times(table.frame[column], table.options, whole_numbers=True)
    if not times.known.all():
        raise CellError(int(np.argmin(times.known)), column, None, "is a blank period: fill it in, or leave the row out")
    numbers, period = np.unique(times.day, return_inverse=True)
    return period.astype(np.int64), numbers, times


def _check_keys(table: _Cells, columns: SalesColumns, product: I64, store: I64, period: I64) -> None:
    """Raise CellError for the first row with the product, store and period of an earlier one, where there are periods."""
    column = columns.one(PERIOD)
    if column is None:
        return
    keys = np.stack([product, store, period], axis=1)
    _, first, where = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    again = np.flatnonzero((first[where.ravel()] != np.arange(len(keys))) & (product >= 0))
    if again.size:
        row = int(again[0])
        named = ", ".join(field for field in EFFECTS if field in columns.of)
        before = int(first[where.ravel()[row]]) + 1
        raise table.error(row, column, f"is a duplicate: row {before} has the same {named}; add them up, or map what distinguishes them")


def _costs(table: _Cells, columns: SalesColumns, product: I64, period: I64, products: int) -> F64:
    """Return the latest known cost of each product, NaN where there is none."""
    of = np.full(products, np.nan)
    column = columns.one(COST)
    if column is not None:
        cost = _number(table, column, 0.0, "is less than 0: correct the cost, or leave it empty")
        order = np.argsort(period, kind="stable")
        known = order[~np.isnan(cost[order]) & (product[order] >= 0)]
        of[product[known]] = cost[known]
    return of


def _currency(table: _Cells, columns: SalesColumns) -> str | None:
    column = columns.one(CURRENCY)
    if column is None:
        return None
    found = sorted(table.ids(column).drop_nulls().unique().to_list())
    if len(found) > 1:
        raise TableError(f"column {column} holds {listed(found)}; prices need one currency: convert them")
    return found[0] if found else None
