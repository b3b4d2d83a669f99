"""Read a table of purchases as days on which customers bought.

All that a customer buys on one day, less that day's returns, is one purchase. A day with a net amount of 0 is a purchase of 0; a negative
one is no purchase.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import narwhals as nw
import numpy as np
import polars as pl

from kernels.types import F64, I64, Bool
from training.errors import CellError, TableError
from training.tables import cells
from training.tables.cells import DEFAULT, CellOptions, TimeColumn
from training.tables.table import Field, FieldColumns, Grain, Mapped, ReadPlan, TableKind, check, listed, single

CUSTOMER, TIME, AMOUNT, QUANTITY, PRICE, ORDER, CURRENCY = "customer", "time", "amount", "quantity", "price", "order", "currency"
FIELDS: tuple[Field, ...] = (
    Field(CUSTOMER, "text; 17850.0 is 17850", "yes"),
    Field(TIME, "a date, a date and time, or seconds since 1970, all in one form", "yes"),
    Field(AMOUNT, "money; returns are negative", "yes, or quantity and price"),
    Field(QUANTITY, "units; returns are negative", "with price, instead of amount"),
    Field(PRICE, "money a unit", "with quantity, instead of amount"),
    Field(ORDER, "text", "no: lines of one order are of one day anyway", scoring="ignored"),
    Field(CURRENCY, "ISO 4217, one for the whole table", "no"),
)
FIELD_NAMES: tuple[str, ...] = tuple(field.name for field in FIELDS)
_NUMBERS = {AMOUNT, QUANTITY, PRICE}
_EPOCH_DAY, _DAY_US = date(1970, 1, 1).toordinal(), 86_400_000_000
ROUNDING = 1e-9  # of money: a net amount of a day smaller than this is 0


@dataclass(frozen=True, slots=True)
class Purchases:
    """Days on which customers bought, ordered by customer and day; arrays are [purchases].

    customer: int64, which of `customers`; day: int64, the day's ordinal (date.toordinal); amount: float64, money, 0 or more. left_out:
    numbers of rows, or days, that were left out, by reason; warnings: about them, with their place; rows: of the table.
    """

    customers: tuple[str, ...]
    customer: I64
    day: I64
    amount: F64
    currency: str | None
    left_out: Mapping[str, int]
    rows: int
    warnings: tuple[str, ...] = ()


class PurchasesTable(TableKind):
    """A table of purchases, several rows for a customer, who is what an answer is for."""

    fields = FIELDS
    keys = (CUSTOMER, CURRENCY)
    grain: Grain = "group"

    def number_columns(self, mapping: Mapped | None = None) -> frozenset[str]:
        """Return the fields of numbers, or the columns mapped to them."""
        mapping = single(mapping)
        texts = {column for field, column in mapping.items() if field not in _NUMBERS}
        return frozenset({mapping.get(field, field) for field in _NUMBERS} - texts)

    def plan(self, columns: Sequence[str], mapping: Mapped | None = None) -> ReadPlan:
        """Return how to read the purchases; see `resolve` for what it raises."""
        return ReadPlan(tuple(columns), self.number_columns(mapping), resolve(columns, mapping).ignored, whole=True, per_row=False)

    def with_cells(self, frame: pl.DataFrame, options: CellOptions = DEFAULT) -> pl.DataFrame:
        """Return the table with ids of customers as text, and times as datetimes."""
        found = super().with_cells(frame, options)
        if TIME not in frame.columns:
            return found
        read = cells.times(frame[TIME], options)
        micros = pl.Series(TIME, (read.day - _EPOCH_DAY) * _DAY_US, pl.Int64).set(pl.Series(~read.known), None)
        return found.with_columns(micros.cast(pl.Datetime("us")))


TABLE = PurchasesTable()


def resolve(columns: Sequence[str], mapping: Mapped | None = None) -> FieldColumns:
    """Return the column of each field: that in `mapping`, else the one with the field's name.

    Raises TableError when a mapped field or column does not exist, or one that is needed is not there.
    """
    mapping = single(mapping)
    check({field: (column,) for field, column in mapping.items()}, FIELD_NAMES, columns)
    taken = set(mapping.values())
    of = {field: mapping.get(field, field) for field in FIELD_NAMES if field in mapping or (field in columns and field not in taken)}
    needed = (CUSTOMER, TIME, *((AMOUNT,) if not {QUANTITY, PRICE} <= of.keys() else ()))
    for field in needed:
        if field not in of:
            instead = ", or quantity and price with --map quantity=COLUMN --map price=COLUMN" if field == AMOUNT else ""
            raise TableError(f"no column is the {field}; the table has {listed(columns)}. Name it with --map {field}=COLUMN{instead}")
    used = set(of.values())
    return FieldColumns(of, tuple(column for column in columns if column not in used))


def read(frame: Any, mapping: Mapped | None = None, *, today: date | None = None, options: CellOptions = DEFAULT) -> Purchases:
    """Return the purchases in a table (polars, cudf or pandas).

    Rows without a customer, a time or an amount are left out and counted. Raises CellError for a wrong cell and a day after `today`,
    TableError where times or amounts fit two forms, or nothing is left.
    """
    table = nw.from_native(frame, eager_only=True)
    of = resolve(table.columns, mapping).of
    customer = cells.ids(table[of[CUSTOMER]], options)
    times = cells.times(table[of[TIME]], options)
    amount = _amounts(table, of, options)
    kept, left_out = _kept(
        {"without a customer": customer.is_null().to_numpy(), "without a time": ~times.known, "without an amount": np.isnan(amount)}
    )
    if not kept.any():
        raise TableError(f"no row has a customer, a time and an amount: {_counts(left_out)}; correct the columns")
    if today is not None:
        _require_past(table, of[TIME], times, kept, today)
    names, which, day, money = _netted(customer.filter(pl.Series(kept)), times.day[kept], amount[kept])
    bought = money >= 0
    left_out["days of returns alone"] = int((~bought).sum())
    if not bought.any():
        raise TableError("the net amount of every day is negative: write amounts of purchases as positive numbers")
    there, which = np.unique(which[bought], return_inverse=True)
    return Purchases(
        tuple(names[there].to_list()),
        which.astype(np.int64),
        day[bought],
        money[bought],
        _currency(table, of, options),
        left_out,
        len(table),
        tuple(cells.without(CUSTOMER, table[of[CUSTOMER]], customer, options)),
    )


def _amounts(table: nw.DataFrame[Any], of: Mapping[str, str], options: CellOptions) -> F64:
    """Return the amount of each row, float64 [rows], NaN where it is not known. Raises CellError for one that is not finite."""
    columns = [of[AMOUNT]] if AMOUNT in of else [of[QUANTITY], of[PRICE]]
    amount = np.ones(len(table))
    for name in columns:
        values = cells.floats(table[name], options)
        if len(wrong := np.flatnonzero(np.isinf(values))):
            raise CellError(int(wrong[0]), name, float(values[wrong[0]]), "is not a finite number: correct it, or leave it empty")
        amount *= values
    return amount


def _kept(reasons: Mapping[str, Bool]) -> tuple[Bool, dict[str, int]]:
    """Return which rows are kept, and the numbers of the others by the first reason that applies."""
    kept, left_out = np.ones(len(next(iter(reasons.values()))), bool), dict[str, int]()
    for reason, missing in reasons.items():
        left_out[reason] = int((kept & missing).sum())
        kept &= ~missing
    return kept, left_out


def _require_past(table: nw.DataFrame[Any], column: str, times: TimeColumn, kept: Bool, today: date) -> None:
    """Raise CellError for the first time after today."""
    later = np.flatnonzero(kept & (times.day > today.toordinal()))
    if len(later):
        row = int(later[0])
        raise CellError(row, column, str(table[column][row]), f"is after today, {today.isoformat()}; correct it, or leave the row out")


def _netted(customer: pl.Series, day: I64, amount: F64) -> tuple[pl.Series, I64, I64, F64]:
    """Return the customers in order, and the net amount of each of their days: the customer's place, the day, money.

    Summed by one thread: the last digit of a sum over several threads depends on their order.
    """
    names = customer.unique().sort()
    which = customer.cast(pl.Enum(names)).to_physical().to_numpy().astype(np.int64)
    first, span = day.min(), np.ptp(day) + 1
    dates, place = np.unique(which * span + (day - first), return_inverse=True)
    net = np.bincount(place, amount).astype(np.float64)
    net[np.abs(net) < ROUNDING] = 0.0
    return names, (dates // span).astype(np.int64), (dates % span + first).astype(np.int64), net


def _currency(table: nw.DataFrame[Any], of: Mapping[str, str], options: CellOptions) -> str | None:
    """Return the one currency. Raises TableError for several."""
    if CURRENCY not in of:
        return None
    found = cells.ids(table[of[CURRENCY]], options).drop_nulls().unique(maintain_order=True).to_list()
    if len(found) > 1:
        raise TableError(f"column {of[CURRENCY]} names {listed(found)}: amounts must be in one currency; convert them")
    return found[0] if found else None


def _counts(left_out: Mapping[str, int]) -> str:
    return ", ".join(f"{number:,} rows {reason}" for reason, number in left_out.items() if number) or "the table is empty"
